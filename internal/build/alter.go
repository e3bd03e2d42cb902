package build

import (
	"cmp"
	"context"
	"io"
	"time"

	"herdbook/internal/clones"
	"herdbook/internal/definition"
	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/gateway"
	"herdbook/internal/op"
	"herdbook/internal/plan"
	"herdbook/internal/volume"
	"herdbook/internal/wire"
	"herdbook/internal/workshop"
)

// Alteration is work on the quiet disk of an image that is in no store.
type Alteration struct {
	Disk    string       // path of the qcow2 image that is written to
	Scratch string       // directory for what the machine boots
	Keys    []volume.Key // of its encrypted volumes
	Name    string       // of the image, for people
	What    string       // is done to it, such as "sysprep"

	Network    *gateway.Rules // what the guest may reach; nil: nothing
	Job        wire.Job       // but for its Operations
	Operations []op.Operation
	Inputs     [][]definition.Input // what each operation lays down, one list for each of Operations; or nil
	Timeout    time.Duration        // 0: the usual one of a step
}

// Alter does it in the workshop. An error that is a *StepError has the last words
// of what failed.
func (b *Builder) Alter(ctx context.Context, a Alteration) (wire.Result, error) {
	return b.apart(a, func(r *run, sink event.Sink) (wire.Result, error) { return r.alter(ctx, a, sink) })
}

// Clone starts two clones of the disk, which stays as it is, and compares what
// names them. Job, Operations and Inputs mean nothing here.
func (b *Builder) Clone(ctx context.Context, a Alteration, rules clones.Rules) error {
	_, err := b.apart(a, func(r *run, sink event.Sink) (wire.Result, error) {
		session, err := r.session(ctx, "", a.Scratch, sink)
		if err != nil {
			return wire.Result{}, err
		}
		session.Timeout, session.Keys = cmp.Or(a.Timeout, testTimeout), a.Keys
		return wire.Result{}, clones.Verify(ctx, session, clones.Image{Path: a.Disk, Format: disk.QCOW2}, rules)
	})
	return err
}

// apart does something to a disk of no store, and tells of it as of a step.
func (b *Builder) apart(a Alteration, do func(*run, event.Sink) (wire.Result, error)) (wire.Result, error) {
	r := &run{Builder: b}
	sink := b.Sink.For(a.Name, a.What)
	start := b.Now()
	sink.Emit(event.Event{Kind: event.StepStarted})
	log := &journal{w: io.Discard, now: b.Now}
	result, err := do(r, event.Tee(sink, log.sink))
	if err != nil {
		step := plan.Step{Step: definition.Step{Kind: a.What}, Image: a.Name}
		return result, r.failed(step, sink, log, r.explain(err))
	}
	sink.Emit(event.Event{Kind: event.StepDone, Elapsed: b.Now().Sub(start)})
	return result, nil
}

func (r *run) alter(ctx context.Context, a Alteration, sink event.Sink) (wire.Result, error) {
	session, err := r.session(ctx, a.Disk, a.Scratch, sink)
	if err != nil {
		return wire.Result{}, err
	}
	session.Timeout = cmp.Or(a.Timeout, stepTimeout)
	session.Job, session.Keys, session.Network = a.Job, a.Keys, a.Network
	if err := equip(&session, a.Operations, a.Inputs); err != nil {
		return wire.Result{}, err
	}
	return workshop.Run(ctx, session)
}
