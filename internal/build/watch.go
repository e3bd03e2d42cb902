package build

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"herdbook/internal/event"
	"herdbook/internal/install"
	"herdbook/internal/machine"
	"herdbook/internal/op"
)

// emulationPace is how many times slower software emulation is taken to be.
const emulationPace = 4

// watchEvery is how often the monitor looks at the machine.
const watchEvery = time.Second

// screenName is the screenshot's in the directory of a failed step.
const screenName = "screen.png"

// InstallError is the failure of an installation.
type InstallError struct {
	*install.Failure
	Console []string // its last lines
	System  []string // the last lines of the installer's own log
}

// Unwrap returns what the monitor found.
func (e *InstallError) Unwrap() error { return e.Failure }

// watch follows one installer from power-on to its end.
type watch struct {
	sink    event.Sink
	now     func() time.Time
	screen  string        // path for a screenshot
	limit   time.Duration // for all of it
	secrets []string      // that may be nowhere in what is told

	mu      sync.Mutex
	monitor *install.Monitor
	failure *install.Failure
	phase   string
	percent int
	told    int // of the phases that are over
	system  []string
}

// systemLines is how many lines of the installer's log are kept for a message.
const systemLines = 40

// take is the sink of the machine.
func (w *watch) take(e event.Event) {
	said := e.Text
	e.Text = op.Redact(said, w.secrets)
	w.sink.Emit(e)
	if e.Kind != event.Log {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Stream == event.System {
		w.system = append(w.system, e.Text)
		w.system = w.system[max(0, len(w.system)-systemLines):]
	}
	w.conclude(w.monitor.Line(e.Stream, said, w.now()))
}

// conclude keeps the first failure, and reports what the monitor has learned.
func (w *watch) conclude(f *install.Failure) {
	if w.failure == nil {
		w.failure = f
	}
	for _, s := range w.monitor.Spent()[w.told:] {
		w.sink.Emit(event.Event{Kind: event.PhaseDone, Text: s.Phase, Elapsed: s.Time})
		w.told++
	}
	if phase := w.monitor.Phase(); phase != w.phase {
		w.phase, w.percent = phase, 0
		w.sink.Emit(event.Event{Kind: event.Phase, Text: phase})
	}
	if percent := w.monitor.Percent(); percent != w.percent {
		w.percent = percent
		w.sink.Emit(event.Event{Kind: event.Progress, Percent: percent})
	}
}

// run starts the machine and returns when it has ended: nil if the installer
// was done.
func (w *watch) run(ctx context.Context, spec machine.Spec, reading install.Reading) (err error) {
	pace := 1
	if spec.Accelerator == machine.TCG {
		pace = emulationPace
	}
	w.monitor = install.NewMonitor(reading, pace, w.now())
	w.mu.Lock()
	w.conclude(nil)
	w.mu.Unlock()
	m, err := machine.Start(ctx, spec, w.take)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if failure := w.follow(ctx, m); failure != nil {
		return w.fail(ctx, m, failure)
	}
	return w.end(ctx, m)
}

// follow looks at the machine until it ends or has failed.
func (w *watch) follow(ctx context.Context, m *machine.Machine) *install.Failure {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	end := time.NewTimer(w.limit)
	defer end.Stop()
	var before machine.Activity
	looked := w.now()
	for {
		var over *install.Failure
		select {
		case <-m.Done():
			return nil
		case <-end.C:
			over = &install.Failure{Why: fmt.Sprintf("the installation was not done after %v; give the install block a longer timeout if it needs one", w.limit), Hang: true}
		case <-tick.C:
		}
		busy := false
		if now, err := m.Activity(ctx); err == nil { // else it is ending
			at := w.now()
			busy = now.Disks != before.Disks || now.CPU-before.CPU > at.Sub(looked)/busyShare
			before, looked = now, at
		}
		w.mu.Lock()
		w.conclude(w.monitor.Watch(m.Unfinished(), busy, w.now()))
		if over != nil {
			over.Phase = w.monitor.Phase()
			w.conclude(over)
		}
		failure := w.failure
		w.mu.Unlock()
		if failure != nil {
			return failure
		}
	}
}

// busyShare is the part of one processor's time, inverse, above which a machine
// does something. One that waits takes a hundredth for the ticks of its clock, one
// that works all of it.
const busyShare = 10

// fail gathers what a person needs to understand the failure.
func (w *watch) fail(ctx context.Context, m *machine.Machine, f *install.Failure) error {
	w.mu.Lock() // a machine that hangs may go on talking
	w.monitor.Explain(f)
	told := *f
	told.Why, told.Text = op.Redact(f.Why, w.secrets), w.hush(f.Text)
	e := &InstallError{Failure: &told, Console: w.hush(m.Tail()), System: slices.Clone(w.system)}
	w.mu.Unlock()
	if f.Hang {
		// What it cannot show is told by the rest.
		_ = m.Screenshot(ctx, w.screen)
	}
	return e
}

// hush returns lines without secrets.
func (w *watch) hush(lines []string) []string {
	var told []string
	for _, line := range lines {
		told = append(told, op.Redact(line, w.secrets))
	}
	return told
}

// end judges how the machine ended.
func (w *watch) end(ctx context.Context, m *machine.Machine) error {
	ended := m.Wait(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var exit *machine.Exit
	restarted := errors.As(ended, &exit) && exit.Reason == machine.Reset
	how := ""
	if ended != nil {
		how = ended.Error()
	}
	w.mu.Lock()
	w.conclude(w.monitor.End(ended == nil, restarted, how, w.now()))
	failure := w.failure
	w.mu.Unlock()
	if failure != nil {
		return w.fail(ctx, m, failure)
	}
	return nil
}

// Report is what a person reads beside the error: the console, then the
// installer's own log.
func (e *InstallError) Report() []string {
	var lines []string
	lines = append(lines, e.Console...)
	if len(e.System) > 0 {
		lines = append(lines, "", "the installer's own log:")
	}
	return append(lines, e.System...)
}
