package build

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"herdbook/internal/bootstrap"
	"herdbook/internal/definition"
	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/op"
	"herdbook/internal/plan"
	"herdbook/internal/store"
	"herdbook/internal/wire"
	"herdbook/internal/workshop"
)

// work makes the disk of a step's layer and tells how it was done.
func (r *run) work(ctx context.Context, step plan.Step, key store.Key, work *store.Work, sink event.Sink) (how string, err error) {
	scratch, err := work.Scratch()
	if err != nil {
		return "", err
	}
	switch {
	case step.Bootstrap != nil:
		ctx, cancel := context.WithTimeoutCause(ctx, stepTimeout, fmt.Errorf("it was not done after %v", stepTimeout))
		defer cancel()
		return "host", bootstrap.Make(ctx, bootstrapSpec(step, key), scratch, work.DiskPath(), sink)
	case step.Import != nil:
		return "host", r.take(ctx, step, scratch, work.DiskPath(), sink)
	case step.Install != nil:
		return r.install(ctx, step, work, sink)
	}
	if err := disk.CreateOverlay(ctx, work.DiskPath(), work.BackingName(), disk.QCOW2, 0); err != nil {
		return "", err
	}
	session, err := r.session(ctx, work.DiskPath(), scratch, sink)
	if err != nil {
		return "", err
	}
	session.Timeout = stepTimeout
	if step.Timeout > 0 {
		session.Timeout = step.Timeout
	}
	operation := step.Operation
	if _, ok := op.HostSource(operation); ok {
		const payload = "files"
		operation = op.WithPayload(operation, payload)
		session.Files = filepath.Join(scratch, "files.tar")
		if err := writeTar(session.Files, payload, step.Files); err != nil {
			return "", err
		}
	}
	session.Job = wire.Job{Operations: []op.Envelope{{Operation: operation}}, Network: step.Network, Trim: step.Trim}
	_, err = workshop.Run(ctx, session)
	return string(session.Accelerator), err
}

// session is a machine on a disk.
func (r *run) session(ctx context.Context, path, scratch string, sink event.Sink) (workshop.Session, error) {
	agent, err := r.Agent()
	if err != nil {
		return workshop.Session{}, err
	}
	accelerator, err := r.Accelerator(ctx)
	if err != nil {
		return workshop.Session{}, err
	}
	return workshop.Session{
		Disk: path, Scratch: scratch, Agent: agent, Accelerator: accelerator,
		Memory: r.Memory, CPUs: r.CPUs, Sink: sink,
	}, nil
}

// bootstrapSpec says what to make. What must differ between images but not
// between two makings of one is derived from the key.
func bootstrapSpec(step plan.Step, key store.Key) bootstrap.Spec {
	b, pin := step.Bootstrap, step.Pins[0]
	epoch := int64(0)
	if t, err := time.Parse(time.RFC1123, pin.Dated); err == nil {
		epoch = t.Unix()
	}
	return bootstrap.Spec{
		Suite: b.Suite, Mirror: b.Mirror, Components: b.Components, Variant: b.Variant, Include: b.Include,
		Keyring: b.Keyring, Architecture: b.Architecture, Size: step.Size,
		Release: pin.Digest, Epoch: epoch, Seed: string(key),
	}
}

// writeTar writes the files of a copy step below a name. Owners are set in the
// guest, and times are left out, since a fresh checkout has others.
func writeTar(name, top string, inputs []definition.Input) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("gather files: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	for _, input := range inputs {
		if err := addInput(w, path.Join(top, input.Name), input); err != nil {
			return fmt.Errorf("gather files: %s: %w", input.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("gather files: %w", err)
	}
	// A disk has whole sectors, and machines want a few of them.
	const least = 1 << 20
	stat, err := f.Stat()
	if err == nil && stat.Size() < least {
		err = f.Truncate(least)
	}
	return err
}

func addInput(w *tar.Writer, name string, input definition.Input) error {
	stat, err := os.Lstat(input.Path)
	if err != nil {
		return err
	}
	h, err := tar.FileInfoHeader(stat, input.Link)
	if err != nil {
		return err
	}
	*h = tar.Header{Typeflag: h.Typeflag, Name: name, Linkname: h.Linkname, Size: h.Size, Mode: h.Mode, Format: tar.FormatPAX}
	if err := w.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	file, err := os.Open(input.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	// A file that changed since the plan would be another input than the key says.
	_, err = io.Copy(w, verified(file, input))
	return err
}
