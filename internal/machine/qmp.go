package machine

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
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxMessage  = 1 << 20          // of one QMP message, in bytes
	answerLimit = 30 * time.Second // for an answer of QEMU
)

// errLost says that QEMU no longer answers on its control socket.
var errLost = errors.New("the connection to QEMU is lost")

// qmp speaks QEMU's machine protocol: JSON objects, one a line (QEMU's
// docs/interop/qmp-spec). It remembers the events that tell how a machine ends.
type qmp struct {
	conn    net.Conn
	write   sync.Mutex
	greeted chan struct{} // closed at QEMU's greeting
	done    chan struct{} // closed when nothing more can come
	trouble chan trouble  // the first thing that the machine cannot go on with
	ended   chan string   // how the transfer of a state ended, in QEMU's word
	shut    chan struct{} // closed when the guest has closed the agent's port

	mu      sync.Mutex
	next    uint64
	pending map[uint64]chan message
	reason  string // of the SHUTDOWN event
	paused  bool   // by herdbook
	lost    error
}

// message is anything that QEMU says.
type message struct {
	Greeting json.RawMessage `json:"QMP"`
	ID       *uint64         `json:"id"`
	Return   json.RawMessage `json:"return"`
	Error    *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
	Data  struct {
		Reason    string `json:"reason"`    // SHUTDOWN, BLOCK_IO_ERROR
		Node      string `json:"node-name"` // BLOCK_IO_ERROR
		Operation string `json:"operation"` // BLOCK_IO_ERROR: read, write
		NoSpace   bool   `json:"nospace"`   // BLOCK_IO_ERROR
		Status    string `json:"status"`    // MIGRATION
		ID        string `json:"id"`        // VSERPORT_CHANGE
		Open      bool   `json:"open"`      // VSERPORT_CHANGE
	} `json:"data"`
}

type command struct {
	Execute   string         `json:"execute"`
	Arguments map[string]any `json:"arguments,omitempty"`
	ID        uint64         `json:"id"`
}

// newQMP begins to listen. Nothing may be executed before handshake.
func newQMP(conn net.Conn) *qmp {
	q := &qmp{
		conn:    conn,
		greeted: make(chan struct{}),
		done:    make(chan struct{}),
		trouble: make(chan trouble, 1),
		ended:   make(chan string, 1),
		shut:    make(chan struct{}),
		pending: map[uint64]chan message{},
	}
	go q.listen()
	return q
}

// messageReader cuts a stream into messages of bounded size.
type messageReader struct{ scanner *bufio.Scanner }

func newMessageReader(r io.Reader) messageReader {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxMessage)
	return messageReader{s}
}

// next returns the next message, or io.EOF at the orderly end.
func (r messageReader) next() (message, error) {
	for r.scanner.Scan() {
		line := bytes.TrimSpace(r.scanner.Bytes())
		if len(line) == 0 {
			continue
		}
		var m message
		if err := json.Unmarshal(line, &m); err != nil {
			return message{}, fmt.Errorf("read QMP message %.60q: %w", line, err)
		}
		return m, nil
	}
	return message{}, cmp.Or(r.scanner.Err(), io.EOF)
}

func (q *qmp) listen() {
	defer close(q.done)
	r := newMessageReader(q.conn)
	for {
		m, err := r.next()
		if err == nil {
			err = q.take(m)
		}
		if err != nil {
			q.lose(err)
			return
		}
	}
}

// take works on one message.
func (q *qmp) take(m message) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case m.Greeting != nil:
		select {
		case <-q.greeted:
			return errors.New("QEMU greets twice")
		default:
			close(q.greeted)
		}
	case m.Event != "":
		q.event(m)
	case m.ID == nil:
		if m.Error != nil {
			return fmt.Errorf("QEMU did not understand: %s", m.Error.Desc)
		}
		return errors.New("QEMU answers what was not asked")
	default:
		// Nobody waits any more for an answer whose question was given up.
		if answer, ok := q.pending[*m.ID]; ok {
			delete(q.pending, *m.ID)
			answer <- m // has room for one
		}
	}
	return nil
}

// trouble is why a machine cannot go on. QEMU only pauses a machine whose disk
// fails on the host, or which KVM gives up; it would hang for good.
type trouble struct {
	node      string // the disk's, if it is one
	operation string // read, write
	why       error
}

// event remembers the events that matter.
func (q *qmp) event(m message) {
	var t trouble
	switch m.Event {
	case "SHUTDOWN":
		q.reason = m.Data.Reason
		return
	case "BLOCK_IO_ERROR":
		t = trouble{m.Data.Node, cmp.Or(m.Data.Operation, "use"), errors.New(cmp.Or(m.Data.Reason, "input/output error"))}
		if m.Data.NoSpace {
			t.why = syscall.ENOSPC
		}
	case "STOP":
		if q.paused {
			return
		}
		t.why = errors.New("QEMU stopped it")
	case "MIGRATION":
		q.transferred(m.Data.Status)
		return
	case "VSERPORT_CHANGE":
		q.portChanged(m.Data.ID, m.Data.Open)
		return
	default:
		return
	}
	select {
	case q.trouble <- t:
	default: // the first one is the cause
	}
}

// transferred keeps the state that a transfer ends in (QEMU's MigrationStatus).
func (q *qmp) transferred(status string) {
	switch status {
	case "completed", "failed", "cancelled":
		select {
		case q.ended <- status:
		default: // one word is enough
		}
	}
}

// portChanged notes that the guest has closed the agent's port. It is never opened again.
func (q *qmp) portChanged(id string, open bool) {
	if id != portID || open {
		return
	}
	select {
	case <-q.shut:
	default:
		close(q.shut)
	}
}

// pause says that the machine is about to be stopped on purpose.
func (q *qmp) pause() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.paused = true
}

// moved waits for the end of a transfer, and asks what was wrong with it.
func (q *qmp) moved(ctx context.Context) error {
	select {
	case status := <-q.ended:
		if status == "completed" {
			return nil
		}
		return q.whyNotMoved(ctx, status)
	case <-q.done:
		return q.loss()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (q *qmp) whyNotMoved(ctx context.Context, status string) error {
	p, err := q.execute(ctx, "query-migrate")
	if err != nil {
		return err // on its way in a machine ends with the transfer
	}
	var answer struct {
		Why string `json:"error-desc"`
	}
	if err := json.Unmarshal(p, &answer); err != nil {
		return fmt.Errorf("read QEMU's word for a transfer: %w", err)
	}
	return fmt.Errorf("QEMU says that the transfer %s: %s", status, cmp.Or(answer.Why, "it gives no reason"))
}

func (q *qmp) lose(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost = errLost
	if !errors.Is(err, io.EOF) {
		q.lost = fmt.Errorf("%w: %w", errLost, err)
	}
}

// handshake waits for QEMU's greeting and its readiness. The answer comes from
// QEMU's main loop, so all of the machine was made by then.
func (q *qmp) handshake(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	select {
	case <-q.greeted:
	case <-q.done:
		return q.loss()
	case <-ctx.Done():
		return fmt.Errorf("wait for QEMU's greeting: %w", context.Cause(ctx))
	}
	_, err := q.execute(ctx, "qmp_capabilities")
	return err
}

func (q *qmp) loss() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lost
}

// execute sends a command and waits for its answer. It may be called from
// several goroutines.
func (q *qmp) execute(ctx context.Context, name string) (json.RawMessage, error) {
	return q.call(ctx, name, nil)
}

// call is execute with arguments.
func (q *qmp) call(ctx context.Context, name string, arguments map[string]any) (json.RawMessage, error) {
	return q.ask(ctx, name, arguments, nil)
}

// pass gives QEMU a copy of a file by a name.
func (q *qmp) pass(ctx context.Context, name string, f *os.File) error {
	_, err := q.ask(ctx, "getfd", map[string]any{"fdname": name}, f)
	return err
}

// ask is call with a file that goes with the command; nil for none.
func (q *qmp) ask(ctx context.Context, name string, arguments map[string]any, f *os.File) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	answer := make(chan message, 1)
	id := q.expect(answer)
	defer q.forget(id)
	if err := q.send(ctx, command{name, arguments, id}, f); err != nil {
		return nil, fmt.Errorf("ask QEMU for %s: %w: %w", name, errLost, err)
	}
	select {
	case m := <-answer:
		return m.result(name)
	case <-q.done:
		select {
		case m := <-answer: // it came just before the end
			return m.result(name)
		default:
			return nil, fmt.Errorf("ask QEMU for %s: %w", name, q.loss())
		}
	case <-ctx.Done():
		return nil, fmt.Errorf("ask QEMU for %s: %w", name, context.Cause(ctx))
	}
}

func (m message) result(name string) (json.RawMessage, error) {
	if m.Error != nil {
		return nil, fmt.Errorf("ask QEMU for %s: %s (%s)", name, m.Error.Desc, m.Error.Class)
	}
	return m.Return, nil
}

func (q *qmp) expect(answer chan message) uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.next++
	q.pending[q.next] = answer
	return q.next
}

func (q *qmp) forget(id uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.pending, id)
}

func (q *qmp) send(ctx context.Context, c command, f *os.File) error {
	p, err := json.Marshal(c)
	if err != nil {
		return err
	}
	q.write.Lock()
	defer q.write.Unlock()
	if limit, ok := ctx.Deadline(); ok {
		if err := q.conn.SetWriteDeadline(limit); err != nil {
			return err
		}
	}
	p = append(p, '\n')
	if f == nil {
		_, err = q.conn.Write(p)
		return err
	}
	// It goes with the first byte (unix(7), SCM_RIGHTS).
	conn, ok := q.conn.(*net.UnixConn)
	if !ok {
		return errors.New("files are passed over Unix sockets only")
	}
	n, _, err := conn.WriteMsgUnix(p, unix.UnixRights(int(f.Fd())), nil)
	if err == nil && n < len(p) {
		_, err = conn.Write(p[n:])
	}
	return err
}

// shutdownReason is that of the last SHUTDOWN event; "" if there was none.
func (q *qmp) shutdownReason() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.reason
}
