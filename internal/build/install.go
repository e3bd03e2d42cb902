package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"herdbook/internal/definition"
	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/install"
	"herdbook/internal/machine"
	"herdbook/internal/plan"
	"herdbook/internal/source"
	"herdbook/internal/store"
)

// installTimeout bounds an installation whose definition says nothing: the phases
// have limits of their own.
const installTimeout = 8 * time.Hour

// install runs a distribution's installer on an empty disk, and looks whether
// there is a system on it afterwards.
func (r *run) install(ctx context.Context, step plan.Step, work *store.Work, sink event.Sink) (how string, err error) {
	scratch, err := work.Scratch()
	if err != nil {
		return "", err
	}
	spec, session, stop, err := r.prepare(ctx, step, scratch, sink)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return "", err
	}
	if err := disk.Create(ctx, work.DiskPath(), step.Size); err != nil {
		return "", err
	}
	// It is the first one, which installers take.
	spec.Disks = append([]machine.Disk{{Path: work.DiskPath(), Format: disk.QCOW2, Discard: true}}, spec.Disks...)
	w := &watch{sink: sink, now: r.Now, screen: filepath.Join(work.Dir, screenName), limit: installTimeout, secrets: step.Install.Answers.Parts}
	if step.Timeout > 0 {
		w.limit = step.Timeout
	}
	if err := w.run(ctx, spec, session.Reading); err != nil {
		return "", err
	}
	return string(spec.Accelerator), found(work.DiskPath(), sink)
}

// found makes sure of a system on an installed disk.
func found(path string, sink event.Sink) error {
	image, err := disk.Open(path, disk.QCOW2)
	if err != nil {
		return fmt.Errorf("look at the installed disk: %w", err)
	}
	system, err := inspection.Disk(image, image.Size())
	if err == nil && system.Release.ID == "" {
		err = errors.New("its root has no os-release")
	}
	if err := errors.Join(err, image.Close()); err != nil {
		return fmt.Errorf("the installer says that it is done, but there is no system on the disk that herdbook can read: %w; let the answers make an ext4, XFS or btrfs file system for the root, without LVM or encryption", err)
	}
	sink.Emit(event.Event{Kind: event.Notice, Text: "installed " + system.Release.PrettyName})
	return nil
}

// prepare finds all that a session needs and makes its machine. What it returns
// must be stopped when the machine has ended.
func (r *run) prepare(ctx context.Context, step plan.Step, dir string, sink event.Sink) (spec machine.Spec, s install.Session, stop func() error, err error) {
	i := *step.Install
	stop = func() error { return nil }
	if spec.Accelerator, err = r.Accelerator(ctx); err != nil {
		return spec, s, stop, err
	}
	from, err := r.origin(ctx, i, dir, sink)
	if err != nil {
		return spec, s, stop, err
	}
	spec.Kernel, spec.Initrd = from.kernel, from.initrd
	place := install.Place{Tree: i.Location.URL, Disc: from.volume, Proxy: i.MirrorProxy}
	if install.MayCache(i) {
		place.Proxy = r.packages.address(ctx, sink)
	}
	if from.disc != "" {
		place.Tree = ""
		spec.Disks = append(spec.Disks, machine.Disk{Path: from.disc, Format: disk.Raw, ReadOnly: true, CDROM: true})
	} else if local := i.Location.LocalPath(); local != "" {
		if place.Tree, stop, err = serve(local); err != nil {
			return spec, s, stop, err
		}
	}
	if spec.Network, err = reach(i.Network, place.Tree, place.Proxy); err != nil {
		return spec, s, stop, err
	}
	if s, err = install.New(i, place); err != nil {
		return spec, s, stop, err
	}
	if s.Seed != nil {
		seed := filepath.Join(dir, "seed.iso")
		err = writeSeed(seed, s.Seed)
		spec.Disks = append(spec.Disks, machine.Disk{Path: seed, Format: disk.Raw, ReadOnly: true})
	}
	return spec, s, stop, errors.Join(err, firmware(&spec, i.Firmware, dir), complete(&spec, s, i.Memory, r.CPUs))
}

// origin finds what the installer starts from, and fetches it if need be.
func (r *run) origin(ctx context.Context, i definition.Install, dir string, sink event.Sink) (o origin, err error) {
	media := source.Media{Dir: r.Store.MediaDir(), Fetcher: source.Fetcher{Sink: sink}, Now: r.Now()}
	if i.Location.IsDisc() {
		disc, err := media.File(ctx, i.Location.URL, i.Location.Checksum)
		if err != nil {
			return o, err
		}
		return bootFiles(disc, i.Kind, dir)
	}
	if o.kernel, err = media.Boot(ctx, i.Kernel.URL, i.Kernel.Checksum); err == nil {
		o.initrd, err = media.Boot(ctx, i.Initrd.URL, i.Initrd.Checksum)
	}
	if i.Location.URL != "" {
		err = source.Moved(err)
	}
	return o, err
}

// firmware gives a machine that starts by UEFI variables of its own, in dir.
func firmware(spec *machine.Spec, kind, dir string) error {
	spec.Firmware = machine.Firmware(kind)
	if spec.Firmware != machine.UEFI {
		return nil
	}
	code, vars, err := machine.Firmwares()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(vars)
	if err != nil {
		return fmt.Errorf("read the UEFI firmware's variables: %w", err)
	}
	spec.FirmwareCode, spec.FirmwareVars = code, filepath.Join(dir, "vars.fd")
	if err := os.WriteFile(spec.FirmwareVars, text, 0o600); err != nil {
		return fmt.Errorf("write the UEFI firmware's variables: %w", err)
	}
	return nil
}

// complete makes the machine of a session.
func complete(spec *machine.Spec, s install.Session, memory, cpus int) (err error) {
	for n, f := range s.Files {
		if f.From == "" {
			continue
		}
		if s.Files[n].Data, err = readInput(f); err != nil {
			return err
		}
	}
	if spec.Overlay, err = install.Archive(s.Files); err != nil {
		return err
	}
	spec.CommandLine = s.CommandLine
	spec.Memory, spec.CPUs = memory, cpus
	spec.Screen, spec.NoFlush = true, true
	spec.Log = string(s.Log)
	return nil
}

// readInput reads a file for the initrd, if it is still what the plan saw.
func readInput(f install.File) ([]byte, error) {
	file, err := os.Open(f.From)
	if err != nil {
		return nil, fmt.Errorf("lay %s into the initrd: %w", f.Path, err)
	}
	defer file.Close()
	data, err := io.ReadAll(verified(file, f.Input))
	if err != nil {
		return nil, fmt.Errorf("lay %s into the initrd: %s: %w", f.Path, f.From, err)
	}
	return data, nil
}
