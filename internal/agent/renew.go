package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"herdbook/internal/guest"
	"herdbook/internal/sysprep"
	"herdbook/internal/uuid"
	"herdbook/internal/wire"
)

// identifiers is where a guest's programs look for the identifiers of devices, as udev
// would make it.
const identifiers = "/dev/disk/by-uuid"

// renew gives the disk its new identifiers, for which it is unmounted, and then lets the guest
// follow. Once it begins to write, only all of it is an image that boots.
func renew(job wire.Job, g *wire.Guest, i *image) error {
	g.Phase("change identifiers")
	ctx := context.Background()
	tools := &guest.Chroot{Dir: "/", Redact: job.Redact, Sink: g.Sink()}
	if err := bringTools(ctx, job, g, i.disk); err != nil {
		return err
	}
	if err := i.unmount(); err != nil {
		return err
	}
	at := func(id uuid.Change) string { return node(i.disk, id.Source) }
	if err := sysprep.Change(ctx, tools, g.Sink(), job.UUIDs, at); err != nil {
		return err
	}
	if err := i.remove(); err != nil {
		return err
	}
	bootOnLVM := onLVM(i)
	r := uuid.NewReplacement(job.UUIDs)
	for n := range i.devices {
		id, _ := r.In([]byte(i.devices[n].UUID))
		i.devices[n].UUID = string(id)
	}
	if err := i.mount(); err != nil {
		return err
	}
	if err := linkIdentifiers(job.UUIDs, at); err != nil {
		return err
	}
	return follow(ctx, job, g, i.disk, bootOnLVM)
}

// bringTools copies the programs that will be needed into the agent's own root.
func bringTools(ctx context.Context, job wire.Job, g *wire.Guest, disk string) (err error) {
	me, err := openGuest(job, g, disk)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, me.Root.Close()) }()
	own, err := guest.OpenRoot("/")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, own.Close()) }()
	return sysprep.BringTools(ctx, me, job.UUIDs, own)
}

func follow(ctx context.Context, job wire.Job, g *wire.Guest, disk string, bootOnLVM bool) (err error) {
	g.Phase("follow new identifiers")
	me, err := openGuest(job, g, disk)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, me.Root.Close()) }()
	return sysprep.Follow(ctx, me, job.UUIDs, bootOnLVM)
}

// onLVM tells whether /boot lies on a logical volume.
func onLVM(i *image) bool {
	boot := ""
	for _, m := range i.mounts {
		if m.Dir == "/boot" || m.Dir == "/" && boot == "" {
			boot = m.Device
		}
	}
	for _, d := range i.devices {
		if d.Name == boot && strings.HasPrefix(d.UUID, "LVM-") {
			return true
		}
	}
	return false
}

// linkIdentifiers makes the links that udev would, since makers of initrds look for them.
func linkIdentifiers(list []uuid.Change, at func(uuid.Change) string) error {
	if err := os.MkdirAll(identifiers, 0o755); err != nil {
		return fmt.Errorf("name devices by their identifiers: %w", err)
	}
	for _, id := range list {
		if id.Type.OfLVM() {
			continue
		}
		real, err := filepath.EvalSymlinks(at(id))
		if err != nil {
			return fmt.Errorf("name devices by their identifiers: %w", err)
		}
		link := filepath.Join(identifiers, id.New)
		if err := os.Symlink("../../"+filepath.Base(real), link); err != nil {
			return fmt.Errorf("name devices by their identifiers: %w", err)
		}
	}
	return nil
}
