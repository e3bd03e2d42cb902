package build

import (
	"cmp"
	"context"
	"fmt"
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
	case step.Template != nil:
		return "host", r.instantiate(ctx, step, scratch, work.DiskPath(), sink)
	case step.Install != nil:
		return r.install(ctx, step, work, sink)
	}
	if err := disk.CreateOverlay(ctx, work.DiskPath(), work.BackingName(), disk.QCOW2, 0); err != nil {
		return "", err
	}
	if step.Grow != 0 {
		return r.grow(ctx, step.Grow, work.DiskPath(), scratch, sink)
	}
	session, err := r.session(ctx, work.DiskPath(), scratch, sink)
	if err != nil {
		return "", err
	}
	if op.Booted(step.Operation) {
		return string(session.Accelerator), r.booted(ctx, step, session, work)
	}
	session.Timeout = timeout(step.Step)
	session.Job = wire.Job{Trim: step.Trim}
	if err := join(&session, step.Network); err != nil {
		return "", err
	}
	if err := equip(&session, []op.Operation{step.Operation}, [][]definition.Input{step.Files}); err != nil {
		return "", err
	}
	_, err = workshop.Run(ctx, session)
	return string(session.Accelerator), err
}

// timeout is the time limit of a step.
func timeout(s definition.Step) time.Duration { return cmp.Or(s.Timeout, stepTimeout) }

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
		Memory: r.Memory, CPUs: r.CPUs, Sink: sink, Secrets: r.secrets,
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
		Release: pin.Checksum.Digest(), Epoch: epoch, Seed: string(key),
	}
}
