package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"herdbook/internal/event"
)

// Patience is how long the host waits for the agent.
type Patience struct {
	Hello  time.Duration // from power-on to its first word; 3 minutes if zero
	Silent time.Duration // between two words; 1 minute if zero
}

// ErrSilent says that the agent said nothing for too long.
var ErrSilent = errors.New("the agent fell silent")

// ErrLost says that the agent ended without a result.
var ErrLost = errors.New("the agent ended without a result")

// Run is the host's end: it waits for the agent, gives it the job, reports its
// events and returns its result. A result that is not OK is no error here.
func Run(ctx context.Context, conn net.Conn, job Job, patience Patience, sink event.Sink) (Result, error) {
	if patience.Hello == 0 {
		patience.Hello = 3 * time.Minute
	}
	if patience.Silent == 0 {
		patience.Silent = time.Minute
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(patience.Hello, func() { cancel(ErrSilent) })
	// Reading ends when the connection is closed under it.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer func() { timer.Stop(); stop(); cancel(nil) }()

	h := host{scanner: bufio.NewScanner(conn), sink: sink, heard: func() { timer.Reset(patience.Silent) }}
	h.scanner.Buffer(nil, maxMessage)
	h.scanner.Split(wholeLines)
	result, err := h.converse(conn, job)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return result, err
}

type host struct {
	scanner *bufio.Scanner
	sink    event.Sink
	heard   func()
}

func (h *host) converse(w io.Writer, job Job) (Result, error) {
	m, err := h.next()
	if err != nil {
		return Result{}, err
	}
	if m.Hello != Protocol {
		return Result{}, fmt.Errorf("the agent speaks protocol %d, herdbook %d", m.Hello, Protocol)
	}
	p, err := json.Marshal(job)
	if err != nil {
		return Result{}, fmt.Errorf("encode job: %w", err)
	}
	if len(p) >= maxJob {
		return Result{}, fmt.Errorf("the job has %d bytes, more than the %d that the agent takes; lay large files down with copy", len(p), maxJob)
	}
	if _, err := w.Write(append(p, '\n')); err != nil {
		return Result{}, fmt.Errorf("send job: %w: %w", ErrLost, err)
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
		case m.Event != nil:
			h.sink.Line(m.Event.Stream, m.Event.Text)
		case !m.Beat:
			return Result{}, errors.New("the agent says what is no message")
		}
	}
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
