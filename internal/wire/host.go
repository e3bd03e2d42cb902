package wire

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"herdbook/internal/event"
)

// Terms are the host's side of a conversation.
type Terms struct {
	Hello  time.Duration // from power-on to the agent's first word; 3 minutes if zero
	Silent time.Duration // between two words; 1 minute if zero

	// Doubts are closed when something says that the agent may be gone. It must be heard
	// within a quarter of a minute then.
	Doubts []<-chan struct{}
	// Resumed says that the agent has said Hello before, and waits for another job.
	Resumed bool
	// Answer does what the agent asks for. It may take its time: the agent is heard
	// meanwhile. Nil: everything is refused.
	Answer func(context.Context, Ask) Answer
}

// ErrSilent says that the agent said nothing for too long.
var ErrSilent = errors.New("the agent fell silent")

// UnheardError says that the agent has never said a word in the time that it had: whatever
// it was to work on is as it was. It wraps ErrSilent.
type UnheardError time.Duration

// Error implements error.
func (e UnheardError) Error() string {
	return fmt.Sprintf("%v: it was not heard within %v", ErrSilent, time.Duration(e))
}

// Unwrap returns ErrSilent.
func (UnheardError) Unwrap() error { return ErrSilent }

// ErrLost says that the agent ended without a result.
var ErrLost = errors.New("the agent ended without a result")

// Run is the host's end: it waits for the agent, gives it the job, reports its
// events and returns its result. A result that is not OK is no error here.
func Run(ctx context.Context, conn net.Conn, job Job, terms Terms, sink event.Sink) (Result, error) {
	terms.Hello = cmp.Or(terms.Hello, 3*time.Minute)
	terms.Silent = cmp.Or(terms.Silent, time.Minute)
	ctx, cancel := context.WithCancelCause(ctx)
	var spoke atomic.Bool
	timer := time.AfterFunc(terms.Hello, func() { cancel(terms.silence(spoke.Load())) })
	// Reading ends when the connection is closed under it.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	h := host{
		scanner: bufio.NewScanner(conn), w: conn, sink: sink, heard: func() { spoke.Store(true); timer.Reset(terms.Silent) },
		answer: terms.Answer, answers: make(chan struct{}, 1), sending: make(chan struct{}, 1),
	}
	defer func() {
		timer.Stop()
		stop()
		cancel(nil)
		// An agent that does not hear its answers keeps nobody waiting. What has no
		// deadlines is closed.
		_ = conn.SetWriteDeadline(time.Unix(1, 0))
		h.working.Wait()
		_ = conn.SetWriteDeadline(time.Time{})
	}()
	for _, doubt := range terms.Doubts {
		h.working.Go(func() {
			select {
			case <-doubt:
				timer.Reset(doubtful)
			case <-ctx.Done():
			}
		})
	}
	h.scanner.Buffer(nil, maxMessage)
	h.scanner.Split(wholeLines)
	var result Result
	var err error
	if !terms.Resumed {
		err = h.greet()
	}
	if err == nil {
		result, err = h.converse(ctx, job)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return result, err
}

// doubtful is how long an agent may be silent that may be gone: three beats.
const doubtful = 15 * time.Second

// silence is the error of an agent that was not heard.
func (t Terms) silence(spoke bool) error {
	if !spoke {
		return UnheardError(t.Hello)
	}
	return ErrSilent
}

type host struct {
	scanner *bufio.Scanner
	w       io.Writer
	sink    event.Sink
	heard   func()
	answer  func(context.Context, Ask) Answer
	answers chan struct{} // holds a token while one is being looked for
	sending chan struct{} // holds a token until it was sent
	working sync.WaitGroup
	checks  int  // that the job has
	check   int  // that begins next, or has begun
	begun   bool // it has
}

// greet hears the agent's first word.
func (h *host) greet() error {
	m, err := h.next()
	if err == nil && m.Hello != Protocol {
		err = fmt.Errorf("the agent speaks protocol %d, herdbook %d", m.Hello, Protocol)
	}
	return err
}

// respond does what the agent asks for, beside the conversation.
func (h *host) respond(ctx context.Context, a Ask) error {
	select {
	case h.answers <- struct{}{}:
	default:
		return errors.New("the agent asks for two things at once")
	}
	select { // or answers that nobody hears would gather
	case h.sending <- struct{}{}:
	case <-ctx.Done():
		<-h.answers
		return context.Cause(ctx)
	}
	h.working.Go(func() {
		defer func() { <-h.sending }()
		answer := Answer{Error: fmt.Sprintf("this herdbook does not know what %q is", a.What)}
		if h.answer != nil {
			answer = h.answer(ctx, a)
		}
		<-h.answers
		// A connection that is gone shows where it is read.
		_ = h.send(answer)
	})
	return nil
}

func (h *host) send(v any) error {
	p, err := json.Marshal(v)
	if err == nil {
		_, err = h.w.Write(append(p, '\n'))
	}
	return err
}

func (h *host) converse(ctx context.Context, job Job) (Result, error) {
	p, err := json.Marshal(job)
	if err != nil {
		return Result{}, fmt.Errorf("encode job: %w", err)
	}
	if len(p) >= maxJob {
		return Result{}, fmt.Errorf("the job has %d bytes, more than the %d that the agent takes; lay large files down with copy", len(p), maxJob)
	}
	if _, err := h.w.Write(append(p, '\n')); err != nil {
		return Result{}, fmt.Errorf("send job: %w: %w", ErrLost, err)
	}
	if job.Test != nil {
		h.checks = len(job.Test.Checks)
	}
	for {
		m, err := h.next()
		switch {
		case err != nil:
			return Result{}, err
		case m.Result != nil:
			return *m.Result, nil
		case m.Event != nil && m.Event.Phase != "":
			h.sink.Emit(event.Event{Kind: event.Phase, Text: m.Event.Phase})
		case m.Event != nil && m.Event.Check != nil:
			if err := h.turn(*m.Event.Check); err != nil {
				return Result{}, err
			}
		case m.Event != nil:
			h.sink.Line(m.Event.Stream, m.Event.Text)
		case m.Ask != nil:
			if err := h.respond(ctx, *m.Ask); err != nil {
				return Result{}, err
			}
		case !m.Beat:
			return Result{}, errors.New("the agent says what is no message")
		}
	}
}

// turn hears of a check, which come in their order.
func (h *host) turn(t Turn) error {
	ends := t.Verdict != nil
	if t.Index != h.check || h.check >= h.checks || ends != h.begun {
		return fmt.Errorf("the agent speaks of check %d of %d out of turn", t.Index, h.checks)
	}
	if h.begun = !ends; ends {
		h.check++
		h.sink.Emit(event.Event{Kind: event.Checked, Done: int64(t.Index), Verdict: t.Verdict})
	} else {
		h.sink.Emit(event.Event{Kind: event.Checking, Done: int64(t.Index)})
	}
	return nil
}

// wholeLines is a bufio.SplitFunc. A last line without its end is no message: the
// agent was lost while it spoke.
func wholeLines(data []byte, _ bool) (advance int, line []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	return 0, nil, nil
}

func (h *host) next() (message, error) {
	if !h.scanner.Scan() {
		switch err := h.scanner.Err(); {
		case err == nil:
			return message{}, ErrLost
		case errors.Is(err, bufio.ErrTooLong):
			return message{}, fmt.Errorf("hear the agent: a line has more than %d bytes", maxMessage)
		default:
			return message{}, fmt.Errorf("hear the agent: %w: %w", ErrLost, err)
		}
	}
	h.heard()
	var m message
	if err := json.Unmarshal(h.scanner.Bytes(), &m); err != nil {
		return message{}, fmt.Errorf("hear the agent: %w", err)
	}
	return m, nil
}
