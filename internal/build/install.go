package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/install"
	"herdbook/internal/machine"
	"herdbook/internal/plan"
	"herdbook/internal/source"
)

// installTimeout bounds an installation whose definition says nothing: the phases
// have limits of their own.
const installTimeout = 8 * time.Hour

// install runs a distribution's installer on an empty disk, and looks whether
// there is a system on it afterwards.
func (r *run) install(ctx context.Context, step plan.Step, dir, path string, sink event.Sink) (string, error) {
	spec, session, err := r.prepare(ctx, step, path, sink)
	if err != nil {
		return "", err
	}
	if err := disk.Create(ctx, path, step.Size); err != nil {
		return "", err
	}
	timeout := installTimeout
	if step.Timeout > 0 {
		timeout = step.Timeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("it was not done after %v; give the install block a longer timeout if it needs one", timeout))
	defer cancel()
	w := &watch{sink: sink, now: r.Now, screen: filepath.Join(dir, screenName)}
	if err := w.run(ctx, spec, session.Reading); err != nil {
		return string(spec.Accelerator), err
	}
	return string(spec.Accelerator), found(path, sink)
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
		return fmt.Errorf("the installer says that it is done, but there is no system on the disk that herdbook can read: %w", err)
	}
	sink.Emit(event.Event{Kind: event.Notice, Text: "installed " + system.Release.PrettyName})
	return nil
}

// prepare finds all that a session needs and makes its machine.
func (r *run) prepare(ctx context.Context, step plan.Step, path string, sink event.Sink) (spec machine.Spec, s install.Session, err error) {
	i := *step.Install
	spec.Disks = []machine.Disk{{Path: path, Format: disk.QCOW2, Discard: true}}
	if spec.Accelerator, err = r.Accelerator(ctx); err != nil {
		return spec, s, err
	}
	media := source.Media{Dir: r.Store.MediaDir(), Fetcher: source.Fetcher{Sink: sink}, Now: r.Now()}
	place := install.Place{Tree: i.Location.URL, Proxy: i.MirrorProxy}
	kernel, kernelErr := media.File(ctx, i.Kernel.URL, i.Kernel.Checksum)
	initrd, initrdErr := media.File(ctx, i.Initrd.URL, i.Initrd.Checksum)
	if err := errors.Join(kernelErr, initrdErr); err != nil {
		return spec, s, err
	}
	spec.Kernel, spec.Initrd = kernel, initrd
	if s, err = install.New(i, place); err != nil {
		return spec, s, err
	}
	return spec, s, complete(&spec, s, i.Memory, r.CPUs)
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
	spec.Network, spec.Screen, spec.NoFlush = true, true, true
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
