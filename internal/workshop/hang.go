package workshop

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"herdbook/internal/event"
	"herdbook/internal/machine"
	"herdbook/internal/wire"
)

// BrokenError says that a booted machine did not come to the end of its work, and where
// it was.
type BrokenError struct {
	Err    error
	At     string // what the agent did last, such as the name of a step; "": it was not heard
	Dumped bool   // the kernel has told where every task stands, which went to the sink as event.Kernel
}

// Error implements error.
func (e *BrokenError) Error() string {
	text := e.Err.Error()
	if e.At != "" {
		text += "; it was at: " + e.At
	}
	if e.Dumped {
		text += "; the log tells where every task of it stood"
	}
	return text
}

// Unwrap returns the cause.
func (e *BrokenError) Unwrap() error { return e.Err }

// errAgentEnded says that something in the guest ended the agent.
var errAgentEnded = errors.New("something in the guest has ended herdbook's agent there, which carries out the steps")

// errNoEnd says that a system does not shut down.
type errNoEnd time.Duration

func (e errNoEnd) Error() string {
	return fmt.Sprintf("all steps are done, but the system has not powered off within %v", time.Duration(e))
}

// witness passes on what a machine and its agent say, and remembers what a hang needs.
type witness struct {
	sink    event.Sink
	dumping atomic.Bool   // what comes on the console is an answer
	dumped  atomic.Bool   // it was the one that was asked for
	came    chan struct{} // holds a token when the console has said something since

	mu    sync.Mutex
	phase string
}

func newWitness(sink event.Sink) *witness {
	return &witness{sink: sink, came: make(chan struct{}, 1)}
}

// take is a sink.
func (w *witness) take(e event.Event) {
	switch {
	case e.Kind == event.Phase:
		w.mu.Lock()
		w.phase = e.Text
		w.mu.Unlock()
	case e.Kind == event.Log && e.Stream == event.Console && w.dumping.Load():
		e.Stream = event.Kernel
		if strings.Contains(strings.ToLower(e.Text), "show state") { // the heading of it
			w.dumped.Store(true)
		}
		select {
		case w.came <- struct{}{}:
		default:
		}
	}
	w.sink.Emit(e)
}

// at is what the agent did last.
func (w *witness) at() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.phase
}

// How long a kernel has for its first word when it is asked where it stands, for the
// next one, and for all of them. Software emulation is slow, and a serial line, too.
const (
	dumpFirst = 15 * time.Second
	dumpNext  = 3 * time.Second
	dumpTime  = 2 * time.Minute
)

// dump asks the kernel over its console where every task stands, and returns when it
// has nothing more to say.
func (w *witness) dump(ctx context.Context, m *machine.Machine) {
	ctx, cancel := context.WithTimeout(ctx, dumpTime)
	defer cancel()
	w.dumping.Store(true)
	defer w.dumping.Store(false)
	// What is quiet must first be told to speak up. A second break is not seen as one
	// before the key behind the first was taken.
	if w.ask(ctx, m, '9') {
		w.ask(ctx, m, 't')
	}
}

// ask gives the kernel an order, and waits until it has said all to that. It tells whether
// there was an answer.
func (w *witness) ask(ctx context.Context, m *machine.Machine, key byte) (answered bool) {
	if m.SysRq(ctx, key) != nil {
		return false
	}
	rest := time.NewTimer(dumpFirst)
	defer rest.Stop()
	for {
		select {
		case <-w.came:
			answered = true
			rest.Reset(dumpNext)
		case <-rest.C:
			return answered
		case <-m.Done():
			return answered
		case <-ctx.Done():
			return answered
		}
	}
}

// examine looks at a machine that runs but was given up because of err, and says what is
// known of it.
func (s Session) examine(ctx context.Context, m *machine.Machine, w *witness, err error) error {
	if s.Screen != "" {
		// What it cannot show is told by the rest.
		_ = m.Screenshot(ctx, s.Screen)
	}
	switch {
	case m.Panic() != "":
		return s.ended(&machine.Exit{Reason: machine.Panicked, Panic: m.Panic(), Cause: err})
	case isClosed(m.PortClosed()) && errors.Is(err, wire.ErrSilent):
		return errAgentEnded
	}
	w.dump(ctx, m)
	return err
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
