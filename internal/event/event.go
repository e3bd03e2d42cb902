// Package event says what happened. Every part reports through one Sink; the
// terminal, the plain lines, the JSON stream and a layer's log are readers of
// the same events. How an event looks on a screen is left to them.
package event

import "time"

// Kind tells what an event reports.
type Kind string

// The kinds, in the order of a step's life.
const (
	StepQueued   Kind = "queued"   // the step is known and waits
	StepStarted  Kind = "started"  // work on the step has begun
	StepCached   Kind = "cached"   // the step's layer was there; Layer names it
	StepDone     Kind = "done"     // the step's layer was made; Layer and Elapsed are set
	StepFailed   Kind = "failed"   // Text is the error
	StepSkipped  Kind = "skipped"  // a step before it failed
	Phase        Kind = "phase"    // Text names what the step does now
	PhaseDone    Kind = "ended"    // Text names what the step did for the time Elapsed
	Log          Kind = "log"      // Text is one line of Stream
	Progress     Kind = "progress" // Done of Total bytes, or Percent
	Notice       Kind = "notice"   // Text is for the user: a choice made and why
	ArtefactMade Kind = "artefact" // Text is the path or name of something delivered
	Checking     Kind = "checking" // a booted machine is asked the test Done, from 0
	Checked      Kind = "checked"  // it has answered the test Done by Verdict
)

// The streams that a Log event can come from.
const (
	Console = "console" // the machine's serial console
	Stdout  = "stdout"  // a command's standard output
	Stderr  = "stderr"  // a command's standard error
	Agent   = "agent"   // the agent's own words
	System  = "system"  // the log that an installer keeps of itself
	Host    = "host"    // what a program of the user's said on the host
	Kernel  = "kernel"  // what the guest's kernel told when it was asked
)

// Event is one thing that happened. Only Kind is always set.
type Event struct {
	Time    time.Time     `json:"time,omitzero"` // set by the sink where clocks are allowed
	Kind    Kind          `json:"kind"`
	Image   string        `json:"image,omitempty"`
	Step    string        `json:"step,omitempty"` // such as `packages "base"`
	Stream  string        `json:"stream,omitempty"`
	Text    string        `json:"text,omitempty"`
	Done    int64         `json:"done,omitempty"`
	Total   int64         `json:"total,omitempty"` // 0 when unknown
	Percent int           `json:"percent,omitempty"`
	Layer   string        `json:"layer,omitempty"` // digest of a layer
	Elapsed time.Duration `json:"elapsed,omitempty"`
	Verdict *Verdict      `json:"verdict,omitempty"` // of a test that has ended
}

// Sink receives events. It may be called from several goroutines at once and
// must not keep the caller waiting. The zero value is silent.
type Sink func(Event)

// Emit sends e, unless s is the silent sink.
func (s Sink) Emit(e Event) {
	if s != nil {
		s(e)
	}
}

// For returns a sink that stamps image and step on every event that names none.
func (s Sink) For(image, step string) Sink {
	if s == nil {
		return nil
	}
	return func(e Event) {
		if e.Image == "" {
			e.Image = image
		}
		if e.Step == "" {
			e.Step = step
		}
		s(e)
	}
}

// Tee returns a sink that sends every event to each of sinks, in order.
func Tee(sinks ...Sink) Sink {
	return func(e Event) {
		for _, s := range sinks {
			s.Emit(e)
		}
	}
}

// Line reports one line of a stream.
func (s Sink) Line(stream, text string) {
	s.Emit(Event{Kind: Log, Stream: stream, Text: text})
}
