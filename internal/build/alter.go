package build

import (
	"context"
	"io"
	"time"

	"herdbook/internal/definition"
	"herdbook/internal/event"
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

	Job        wire.Job // but for its Operations
	Operations []op.Operation
	Inputs     [][]definition.Input // what each operation lays down, one list for each of Operations; or nil
	Timeout    time.Duration        // 0: the usual one of a step
}

// Alter does it in the workshop. An error that is a *StepError has the last words
// of what failed.
func (b *Builder) Alter(ctx context.Context, a Alteration) (wire.Result, error) {
	r := &run{Builder: b}
	sink := b.Sink.For(a.Name, a.What)
	start := b.Now()
	sink.Emit(event.Event{Kind: event.StepStarted})
	log := &journal{w: io.Discard, now: b.Now}
	result, err := r.alter(ctx, a, event.Tee(sink, log.sink))
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
	session.Timeout = stepTimeout
	if a.Timeout > 0 {
		session.Timeout = a.Timeout
	}
	session.Job, session.Keys = a.Job, a.Keys
	if err := equip(&session, a.Operations, a.Inputs); err != nil {
		return wire.Result{}, err
	}
	return workshop.Run(ctx, session)
}
