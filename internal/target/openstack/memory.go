package openstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"herdbook/internal/artefact"
	"herdbook/internal/cloudinit"
	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/gateway"
	"herdbook/internal/inspection"
	"herdbook/internal/iso"
	"herdbook/internal/machine"
	"herdbook/internal/op"
)

// memories are those that flavors have, in MiB, of which the least is looked for.
var memories = []int{256, 512, 1024, 2048}

// trialTime bounds the search, under emulation, too.
const trialTime = 15 * time.Minute

// proof is the file that cloud-init makes when it has come to its end.
const proof = "herdbook-measured"

// trial is what a machine is told that is started to see whether it becomes a server.
const trial = "#cloud-config\nruncmd:\n- [touch, /" + proof + "]\npower_state: {mode: poweroff}\n"

// memory is the least memory of a flavor in which the image was started and came through
// cloud-init, in MiB; 0 if it was not measured. It is measured once.
func (e *Exporter) memory(ctx context.Context, image *artefact.Image, dir string, sink event.Sink) (int, error) {
	if e.Accelerator == nil || e.MinRAM > 0 || image.System.Architecture != "amd64" || !slices.Contains(e.Datasources, "NoCloud") {
		return e.MinRAM, nil
	}
	part, err := image.Part(ctx, "least memory of a server 1", func(path string) error {
		mib, err := e.measure(ctx, image, dir, sink)
		if err != nil {
			return err
		}
		return os.WriteFile(path, []byte(strconv.Itoa(mib)), 0o644)
	})
	if err == nil {
		var text []byte
		if text, err = os.ReadFile(part); err == nil {
			return strconv.Atoi(string(text))
		}
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("min_ram was not measured (%v); the field min_ram can say it", err)})
	return 0, nil
}

// measure looks for the least memory.
func (e *Exporter) measure(ctx context.Context, image *artefact.Image, dir string, sink event.Sink) (mib int, err error) {
	scratch, err := os.MkdirTemp(dir, "."+image.Name+"-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	seed := filepath.Join(scratch, "seed")
	if err := writeSeed(seed); err != nil {
		return 0, err
	}
	accelerator, err := e.Accelerator(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, trialTime, fmt.Errorf("it took longer than %v", trialTime))
	defer cancel()
	for _, mib := range memories {
		sink.Emit(event.Event{Kind: event.Phase, Text: fmt.Sprintf("start it with %d MiB of memory", mib)})
		overlay := filepath.Join(scratch, fmt.Sprint(mib))
		if err := disk.CreateOverlay(ctx, overlay, image.Path(), disk.QCOW2, 0); err != nil {
			return 0, err
		}
		ok, err := starts(ctx, machine.Spec{
			Accelerator: accelerator, Memory: mib, NoFlush: true, Network: &gateway.Rules{Alone: true},
			Disks: []machine.Disk{{Path: overlay, Format: disk.QCOW2}, {Path: seed, Format: disk.Raw, ReadOnly: true}},
		}, sink)
		if err != nil || ok {
			return mib, err
		}
	}
	return 0, fmt.Errorf("it did not come through cloud-init with %d MiB of memory", memories[len(memories)-1])
}

// writeSeed writes a disc of NoCloud.
func writeSeed(path string) error {
	var files []iso.File
	seed := cloudinit.Seed(&op.CloudInit{UserData: op.Secret{Value: trial}})
	for _, name := range []string{"meta-data", "user-data"} {
		files = append(files, iso.File{Name: name, Data: seed[name]})
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(iso.Write(f, cloudinit.Volume, files), f.Close())
}

// starts runs a machine to its end, and tells whether cloud-init came to its own.
func starts(ctx context.Context, spec machine.Spec, sink event.Sink) (bool, error) {
	m, err := machine.Start(ctx, spec, sink)
	if err != nil {
		return false, err
	}
	ended := m.Wait(ctx)
	if err := m.Close(); err != nil {
		return false, err
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if ended != nil {
		return false, nil // it panicked, or was reset
	}
	opened, err := disk.Open(spec.Disks[0].Path, disk.QCOW2)
	if err != nil {
		return false, err
	}
	defer opened.Close()
	system, err := inspection.Disk(opened, opened.Size())
	if err == nil {
		_, err = fs.Stat(system.Tree(), proof)
	}
	return err == nil, nil
}
