package build

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"herdbook/internal/clones"
	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/machine"
	"herdbook/internal/op"
	"herdbook/internal/program"
	"herdbook/internal/store"
	"herdbook/internal/wire"
	"herdbook/internal/workshop"
)

// sitting is one boot in which tests are asked, one after the other. What happens in
// it is reported for the test whose turn it is; the boot itself belongs to the first.
type sitting struct {
	*run
	image   string
	top     digest.Digest
	trials  []*trial
	log     *journal // nil before there is a work
	how     string   // accelerator
	started bool     // the machine with the tests

	mu    sync.Mutex  // of what follows, and of the trials while the machine runs
	at    int         // whose turn it is
	up    bool        // the first one is asked
	timer *time.Timer // of the deadline; nil before it runs
	late  error       // what the end of the timer means
}

// grace is what the agent has beyond a test's deadline to end it and to say so.
const grace = time.Minute

// turn begins with a test.
func (s *sitting) turn(i int) {
	s.at = i
	t := s.trials[i]
	t.started = s.Now()
	t.sink.Emit(event.Event{Kind: event.StepStarted})
}

// sink hears the machine.
func (s *sitting) sink(e event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.Kind {
	case event.Checking:
		s.log.forget()
		if s.up = true; e.Done > 0 {
			s.turn(int(e.Done))
		}
		limit := timeLimit(s.trials[s.at].Test)
		s.deadline(limit+grace, fmt.Errorf("it was not done after %v, and could not be ended", limit))
	case event.Checked:
		s.judge(s.trials[e.Done], *e.Verdict)
		s.deadline(grace, errors.New("the agent did not go on"))
	default:
		s.log.sink(e)
		s.trials[s.at].sink.Emit(e)
	}
}

// deadline sets the next one.
func (s *sitting) deadline(in time.Duration, late error) {
	if s.late = late; s.timer != nil {
		s.timer.Reset(in)
	}
}

// judge takes a verdict.
func (s *sitting) judge(t *trial, v event.Verdict) {
	v.Log = nil
	if err := v.Err(); err != nil {
		s.fail(t, v, err)
		return
	}
	s.close(t, &v)
	t.sink.Emit(event.Event{Kind: event.StepDone, Elapsed: v.Elapsed, Verdict: t.verdict})
}

// fail ends a test that did not pass, by its verdict or by what kept it from one.
func (s *sitting) fail(t *trial, v event.Verdict, err error) {
	hung := v.Hung
	if v.Passed() {
		v.Text = err.Error()
		var inGuest *workshop.FailedError
		hung = !errors.As(err, &inGuest) // the machine's own end: its console tells more
	}
	if s.log != nil && !t.started.IsZero() { // what the boot said is told once
		v.Log = s.log.last(!hung)
	}
	s.close(t, &v)
	t.err = &StepError{Image: s.image, Step: t.Label(), Position: t.Position, Err: err, Log: v.Log}
	t.sink.Emit(event.Event{Kind: event.StepFailed, Text: err.Error(), Verdict: t.verdict})
}

// close notes when a test ended and how long it took, seen from here.
func (s *sitting) close(t *trial, v *event.Verdict) {
	now := s.Now()
	if t.started.IsZero() {
		t.started = now
	}
	v.Time, v.Elapsed = now.UTC(), now.Sub(t.started)
	t.verdict = v
}

// boot puts the agent and what the tests need into an overlay, boots it and hears the
// verdicts.
func (s *sitting) boot(ctx context.Context, work *store.Work) error {
	scratch, err := work.Scratch()
	if err != nil {
		return err
	}
	if err := disk.CreateOverlay(ctx, work.DiskPath(), work.BackingName(), disk.QCOW2, 0); err != nil {
		return err
	}
	session, err := s.session(ctx, work.DiskPath(), scratch, s.sink)
	if err != nil {
		return err
	}
	s.how = string(session.Accelerator)
	checks, operations, inputs, err := s.prepare()
	if err != nil {
		return err
	}
	prepared := session
	prepared.Timeout = testTimeout
	if err := equip(&prepared, operations, inputs); err != nil {
		return err
	}
	if _, err := workshop.Run(ctx, prepared); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := s.bootLimit()
	s.mu.Lock()
	s.started, s.late = true, fmt.Errorf("the system was not up after %v; give the test a longer timeout if it needs one", limit)
	s.timer = time.AfterFunc(limit+grace, func() { // first the agent tells what the system waits for
		s.mu.Lock()
		late := s.late
		s.mu.Unlock()
		cancel(late)
	})
	s.mu.Unlock()
	defer s.timer.Stop()
	session.Terms.Hello = min(limit, workshop.BootHello) // and then there is time for a look at its screen
	session.Screen = filepath.Join(work.Dir, screenName)
	session.Job = wire.Job{Test: &wire.Test{Checks: checks}, Boot: limit, Redact: slices.Clone(s.secrets)}
	if s.trials[0].Network {
		if err := join(&session, &definition.Network{}); err != nil {
			return err
		}
	}
	_, err = workshop.Boot(ctx, session, machine.Firmware(s.trials[0].Firmware))
	return err
}

// bootLimit is how long the system may take to come up: the shortest time limit of the
// tests that ask for just that.
func (s *sitting) bootLimit() time.Duration {
	var limit time.Duration
	for _, t := range s.trials {
		if t.Kind == "boots" && (limit == 0 || timeLimit(t.Test) < limit) {
			limit = timeLimit(t.Test)
		}
	}
	if limit == 0 {
		return testTimeout
	}
	return limit
}

// timeLimit is that of a test; of clones, of each start of a machine.
func timeLimit(t definition.Test) time.Duration {
	if t.Timeout > 0 {
		return t.Timeout
	}
	return testTimeout
}

// laidDir is where the guest finds what tests need.
const laidDir = "/usr/lib/herdbook/tests"

// prepare says what the agent is asked, and what is laid down for it before.
func (s *sitting) prepare() (checks []wire.Check, operations []op.Operation, inputs [][]definition.Input, err error) {
	operations, inputs = []op.Operation{&op.Agent{}}, [][]definition.Input{nil}
	lay := func(list []definition.Input, to string) string {
		if len(list) == 0 {
			return ""
		}
		operations, inputs = append(operations, &op.Copy{Destination: to}), append(inputs, list)
		return to
	}
	for i, t := range s.trials {
		check := wire.Check{Kind: t.Kind, Timeout: timeLimit(t.Test), Commands: t.Commands, Port: t.Port, Service: t.Service}
		if g := t.Goss; g != nil {
			program, own := g.Program, g.Program == nil
			if own {
				if program, err = hostGoss(); err != nil {
					return nil, nil, nil, err
				}
			}
			dir := path.Join(laidDir, fmt.Sprint(i))
			check.Goss = &op.GossCheck{File: path.Join(dir, "goss", g.File), Own: own, Program: lay(program, path.Join(dir, "program"))}
			if g.Files[0].Digest == "" { // a directory
				lay(g.Files, path.Join(dir, "goss"))
			} else {
				lay(g.Files, check.Goss.File)
			}
			if len(g.Vars) > 0 { // goss tells YAML from JSON by the name
				check.Goss.Vars = lay(g.Vars, path.Join(dir, "vars"+filepath.Ext(g.Vars[0].Path)))
			}
		}
		checks = append(checks, check)
	}
	return checks, operations, inputs, nil
}

// hostGoss is this host's own goss; nil if it has none, which only matters where the
// guest has none either.
func hostGoss() ([]definition.Input, error) {
	found, err := program.Find("goss")
	if err != nil {
		return nil, nil
	}
	return definition.Laid(found, false)
}

// clones starts two clones of the layer and compares them.
func (s *sitting) clones(ctx context.Context, work *store.Work) error {
	scratch, err := work.Scratch()
	if err != nil {
		return err
	}
	session, err := s.session(ctx, "", scratch, s.sink)
	if err != nil {
		return err
	}
	t := s.trials[0]
	session.Timeout, s.how, s.started = timeLimit(t.Test), string(session.Accelerator), true
	layer := clones.Image{Path: filepath.Join(work.Dir, work.BackingName()), Format: disk.QCOW2}
	err = clones.Verify(ctx, session, layer, clones.Rules{Firmware: machine.Firmware(t.Firmware), Allow: t.Allow, Require: t.Require})
	var defects *clones.Error
	if err != nil && !errors.As(err, &defects) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.judge(t, clonesVerdict(defects))
	return nil
}

// clonesVerdict has a case for each defect, or one that passed.
func clonesVerdict(e *clones.Error) event.Verdict {
	if e == nil {
		return event.Verdict{Cases: []event.Case{{Outcome: event.Passed}}}
	}
	var v event.Verdict
	for _, unit := range e.Units {
		v.Cases = append(v.Cases, event.Case{Name: "boot", Outcome: event.Failed, Text: unit.Error()})
	}
	for _, d := range e.Defects {
		v.Cases = append(v.Cases, event.Case{Name: d.Name, Outcome: event.Failed, Text: d.String()})
	}
	return v
}
