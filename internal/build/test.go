package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"herdbook/internal/clones"
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

// test proves a layer by boots on throw-away overlays. A proof is remembered:
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
	prove := r.boot
	if t.Kind == "clones" {
		prove = r.clones
	}
	if err := prove(ctx, t, work, event.Tee(sink, log.sink)); err != nil {
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
	session.Timeout = timeLimit(t)
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

// clones starts two clones of the layer and compares them.
func (r *run) clones(ctx context.Context, t definition.Test, work *store.Work, sink event.Sink) error {
	scratch, err := work.Scratch()
	if err != nil {
		return err
	}
	session, err := r.session(ctx, "", scratch, sink)
	if err != nil {
		return err
	}
	session.Timeout = timeLimit(t)
	layer := clones.Image{Path: filepath.Join(work.Dir, work.BackingName()), Format: disk.QCOW2}
	return clones.Verify(ctx, session, layer, clones.Rules{Firmware: machine.Firmware(t.Firmware), Allow: t.Allow, Require: t.Require})
}

// timeLimit is that of each start of a machine.
func timeLimit(t definition.Test) time.Duration {
	if t.Timeout > 0 {
		return t.Timeout
	}
	return testTimeout
}

// judge compares a test's result with what was expected, and reports all that
// differs.
func judge(t definition.Test, result wire.Result) error {
	var errs []error
	if err := result.CheckBoot(); err != nil {
		errs = append(errs, err)
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
