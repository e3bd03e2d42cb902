package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/machine"
	"herdbook/internal/op"
	"herdbook/internal/plan"
	"herdbook/internal/store"
	"herdbook/internal/wire"
	"herdbook/internal/workshop"
)

// verified reads an input and fails if it is not what was digested.
func verified(r io.Reader, input definition.Input) io.Reader {
	return digest.NewVerifier(r, input.Digest, input.Size)
}

// testLabel names a test to people.
func testLabel(t definition.Test) string {
	return fmt.Sprintf("test %q by %s", t.Kind, strings.ToUpper(t.Firmware))
}

// test proves a layer by a boot on a throw-away overlay. A proof is remembered:
// the same layer passes the same test once.
func (r *run) test(ctx context.Context, image plan.Image, t definition.Test, top digest.Digest) error {
	sink := r.Sink.For(image.Name, testLabel(t))
	key := plan.TestKey(top, t)
	if layer, ok, err := r.Store.Lookup(key); err != nil {
		return err
	} else if ok && layer.Digest == top && !r.Retest {
		sink.Emit(event.Event{Kind: event.StepCached, Layer: string(top)})
		return nil
	}
	if err := r.slots.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer r.slots.Release(1)
	start := r.Now()
	sink.Emit(event.Event{Kind: event.StepStarted})
	step := plan.Step{Step: definition.Step{Kind: testLabel(t), Position: t.Position}, Image: image.Name}
	work, err := r.Store.Begin(top)
	if err != nil {
		return r.failed(step, sink, nil, err)
	}
	log := &journal{w: work, now: r.Now}
	if err := r.boot(ctx, t, work, event.Tee(sink, log.sink)); err != nil {
		return r.abandon(work, step, sink, log, r.explain(err))
	}
	if err := errors.Join(work.Discard(), r.Store.Record(key, top)); err != nil {
		return r.failed(step, sink, log, err)
	}
	sink.Emit(event.Event{Kind: event.StepDone, Elapsed: r.Now().Sub(start)})
	return nil
}

// boot puts the agent into an overlay and boots it.
func (r *run) boot(ctx context.Context, t definition.Test, work *store.Work, sink event.Sink) error {
	scratch, err := work.Scratch()
	if err != nil {
		return err
	}
	if err := disk.CreateOverlay(ctx, work.DiskPath(), work.BackingName(), disk.QCOW2, 0); err != nil {
		return err
	}
	session, err := r.session(ctx, work.DiskPath(), scratch, sink)
	if err != nil {
		return err
	}
	session.Timeout = testTimeout
	if t.Timeout > 0 {
		session.Timeout = t.Timeout
	}
	session.Job = wire.Job{Operations: []op.Envelope{{Operation: &op.Agent{}}}}
	if _, err := workshop.Run(ctx, session); err != nil {
		return err
	}
	session.Job = wire.Job{Test: &wire.Test{}}
	for _, c := range t.Commands {
		session.Job.Test.Commands = append(session.Job.Test.Commands, wire.Command{Name: c.Name, Run: c.Run})
	}
	result, err := workshop.Boot(ctx, session, machine.Firmware(t.Firmware))
	if err != nil {
		return err
	}
	return judge(t, result)
}

// judge compares a test's result with what was expected, and reports all that
// differs.
func judge(t definition.Test, result wire.Result) error {
	var errs []error
	if len(result.Failed) > 0 {
		errs = append(errs, fmt.Errorf("failed units: %s", strings.Join(result.Failed, ", ")))
	} else if result.State != "running" && result.State != "degraded" {
		errs = append(errs, fmt.Errorf("the system came to the state %q", result.State))
	}
	for i, c := range t.Commands {
		if i >= len(result.Commands) {
			errs = append(errs, fmt.Errorf("command %q was not run", c.Name))
			continue
		}
		got := result.Commands[i]
		if got.ExitStatus != c.ExitStatus {
			errs = append(errs, fmt.Errorf("command %q ended with status %d, want %d; it said: %s", c.Name, got.ExitStatus, c.ExitStatus, short(got.Output)))
		}
		if expect, err := regexp.Compile(c.Expect); err != nil || !expect.MatchString(got.Output) {
			errs = append(errs, fmt.Errorf("command %q said %s, which does not match %q", c.Name, short(got.Output), c.Expect))
		}
	}
	return errors.Join(errs...)
}

// short quotes the end of an output.
func short(text string) string {
	text = strings.TrimSpace(text)
	if len(text) > 300 {
		text = "…" + strings.ToValidUTF8(text[len(text)-300:], "")
	}
	return fmt.Sprintf("%q", text)
}
