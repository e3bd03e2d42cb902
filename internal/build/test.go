package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/op"
	"herdbook/internal/plan"
	"herdbook/internal/store"
)

// verified reads an input and fails if it is not what was digested.
func verified(r io.Reader, input definition.Input) io.Reader {
	return digest.NewVerifier(r, input.Digest, input.Size)
}

// trial is a test of an image, on its way to a verdict.
type trial struct {
	definition.Test
	sink    event.Sink
	started time.Time      // zero before it has begun
	verdict *event.Verdict // nil before its end
	err     error          // nil if it passed; a *StepError once it has begun
}

// test proves a layer by boots on throw-away overlays. A proof is remembered: the same
// layer passes the same test once. Every test is asked, whatever became of the others,
// and all failures are told, in the order of the definition.
func (r *run) test(ctx context.Context, image plan.Image, top digest.Digest) error {
	var all, pending []*trial
	for _, t := range image.Tests {
		one := &trial{Test: t, sink: r.Sink.For(image.Name, t.Label())}
		all = append(all, one)
		proof, ok, err := r.Store.Proof(top, plan.TestKey(top, t))
		switch {
		case err != nil:
			one.err = err
		case ok && !r.Retest:
			one.sink.Emit(event.Event{Kind: event.StepCached, Layer: string(top), Verdict: &proof.Verdict})
		default:
			pending = append(pending, one)
		}
	}
	var errs []error
	for len(pending) > 0 {
		var group []*trial
		group, pending = together(pending)
		left, err := r.sit(ctx, image.Name, top, group)
		pending, errs = append(left, pending...), append(errs, err)
	}
	var failures []error
	for _, t := range all {
		failures = append(failures, t.err)
	}
	return errors.Join(append(failures, errs...)...)
}

// together takes the tests that are asked in one boot: the first that waits, and all that
// can share its machine. A test that could disturb others says so in the definition.
func together(pending []*trial) (group, rest []*trial) {
	first := pending[0]
	for i, t := range pending {
		shares := first.Kind != "clones" && t.Kind != "clones" && !first.Alone && !t.Alone
		if i == 0 || shares && t.Firmware == first.Firmware && t.Network == first.Network {
			group = append(group, t)
		} else {
			rest = append(rest, t)
		}
	}
	return group, rest
}

// sit asks a group of tests in one boot. It returns those that were not asked, since
// the machine was lost in one before them, and what went wrong that is no test's.
func (r *run) sit(ctx context.Context, image string, top digest.Digest, group []*trial) (left []*trial, err error) {
	s := &sitting{run: r, image: image, top: top, trials: group}
	if err := r.slots.Acquire(ctx, 1); err != nil {
		for _, t := range group {
			t.err = context.Cause(ctx)
		}
		return nil, nil
	}
	defer r.slots.Release(1)
	s.turn(0)
	work, err := r.Store.Begin(top)
	if err != nil {
		return s.settle(ctx, err)
	}
	s.log = &journal{w: work, now: r.Now}
	ask := s.boot
	if group[0].Kind == "clones" {
		ask = s.clones
	}
	left, err = s.settle(ctx, r.explain(ask(ctx, work)))
	return left, errors.Join(err, s.record(ctx), s.end(ctx, work))
}

// settle ends what has no verdict yet. Without an error, each has one.
func (s *sitting) settle(ctx context.Context, err error) (left []*trial, rest error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	blamed := err == nil
	for i, t := range s.trials {
		switch {
		case t.verdict != nil:
			continue
		case err == nil:
			s.fail(t, event.Verdict{}, errors.New("the agent gave no answer"))
		case s.up && i > s.at && ctx.Err() == nil:
			left = append(left, t)
		default:
			s.fail(t, event.Verdict{}, err)
		}
		blamed = true
	}
	if !blamed && ctx.Err() == nil {
		rest = fmt.Errorf("image %q, end of its tests: %w", s.image, err)
	}
	return left, rest
}

// record writes down how the tests ended that the machine was started for.
func (s *sitting) record(ctx context.Context) error {
	if !s.started || ctx.Err() != nil {
		return nil
	}
	var errs []error
	for _, t := range s.trials {
		if t.verdict != nil {
			errs = append(errs, s.Store.Judge(s.top, store.Tested{
				Key: plan.TestKey(s.top, t.Test), Image: s.image, Test: t.Label(), Passed: t.err == nil, How: s.how, Verdict: *t.verdict,
			}))
		}
	}
	return errors.Join(errs...)
}

// end keeps the disk of a boot in which a test failed, for a look inside, or discards it.
func (s *sitting) end(ctx context.Context, work *store.Work) error {
	var failures []*StepError
	for _, t := range s.trials {
		var failure *StepError
		if errors.As(t.err, &failure) {
			failures = append(failures, failure)
		}
	}
	// Nobody wants to look into what was interrupted, or never had a disk.
	if len(failures) == 0 || !s.KeepFailed || ctx.Err() != nil || !exists(work.DiskPath()) {
		return work.Discard()
	}
	if err := work.Keep(s.image); err != nil {
		return errors.Join(err, work.Discard())
	}
	if path, ok := s.Store.Failed(s.image); ok {
		for _, failure := range failures {
			failure.kept(filepath.Dir(path))
		}
	}
	return nil
}

// secretsOf lists the secrets that an image of the plan could hold: a later step or a
// test could say them.
func secretsOf(p *plan.Plan) []string {
	var list []string
	for _, image := range p.Images {
		for _, step := range image.Steps {
			for _, part := range step.Parts() {
				if part.Operation != nil {
					list = append(list, op.Secrets(part.Operation)...)
				}
				if part.Network != nil {
					list = append(list, proxySecrets(*part.Network)...)
				}
			}
			if step.Install != nil {
				list = append(list, step.Install.Answers.Parts...)
			}
		}
	}
	return list
}
