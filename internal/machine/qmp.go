package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
)

// maxMessage bounds a QMP message, in bytes.
const maxMessage = 1 << 20

// qmp speaks QEMU's machine protocol: one JSON object a line (QEMU's
// docs/interop/qmp-spec). Commands are answered in their order.
type qmp struct {
	conn    net.Conn
	write   sync.Mutex
	answers chan message
	done    chan struct{}

	mu     sync.Mutex
	reason string // of the SHUTDOWN event
	lost   error
	ready  bool // capabilities were negotiated
}

type message struct {
	Greeting json.RawMessage `json:"QMP"`
	Return   json.RawMessage `json:"return"`
	Error    *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
	Data  struct {
		Reason string `json:"reason"`
	} `json:"data"`
}

// newQMP begins the conversation. The first command waits for QEMU's greeting.
func newQMP(conn net.Conn) *qmp {
	q := &qmp{conn: conn, answers: make(chan message, 16), done: make(chan struct{})}
	go q.listen()
	return q
}

func (q *qmp) listen() {
	defer close(q.done)
	defer close(q.answers)
	scanner := bufio.NewScanner(q.conn)
	scanner.Buffer(nil, maxMessage)
	for scanner.Scan() {
		var m message
		if err := json.Unmarshal(scanner.Bytes(), &m); err != nil {
			q.lose(fmt.Errorf("read QMP message: %w", err))
			return
		}
		switch {
		case m.Greeting != nil:
			if err := q.send("qmp_capabilities"); err != nil {
				q.lose(err)
				return
			}
		case m.Event == "SHUTDOWN":
			q.mu.Lock()
			q.reason = m.Data.Reason
			q.mu.Unlock()
		case m.Event == "GUEST_PANICKED":
			q.mu.Lock()
			q.reason = "guest-panic"
			q.mu.Unlock()
		case m.Return != nil || m.Error != nil:
			if !q.ready { // the answer to qmp_capabilities
				q.ready = true
				continue
			}
			select {
			case q.answers <- m:
			default:
				q.lose(errors.New("QEMU answers what was not asked"))
				return
			}
		}
	}
	q.lose(scanner.Err())
}

func (q *qmp) lose(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost = errors.Join(errors.New("the connection to QEMU is lost"), err)
}

func (q *qmp) send(command string) error {
	q.write.Lock()
	defer q.write.Unlock()
	p, err := json.Marshal(map[string]string{"execute": command})
	if err != nil {
		return err
	}
	_, err = q.conn.Write(append(p, '\n'))
	return err
}

// execute sends a command and waits for its answer.
func (q *qmp) execute(ctx context.Context, command string) error {
	ctx, cancel := deadline(ctx)
	defer cancel()
	if err := q.send(command); err != nil {
		return fmt.Errorf("ask QEMU for %s: %w", command, err)
	}
	select {
	case m, ok := <-q.answers:
		switch {
		case !ok:
			q.mu.Lock()
			defer q.mu.Unlock()
			return fmt.Errorf("ask QEMU for %s: %w", command, q.lost)
		case m.Error != nil:
			return fmt.Errorf("ask QEMU for %s: %s", command, m.Error.Desc)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("ask QEMU for %s: %w", command, context.Cause(ctx))
	}
}

// shutdownReason is that of the last SHUTDOWN event; "" if there was none.
func (q *qmp) shutdownReason() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.reason
}

// wait returns when QEMU has closed its end, so that no event is missed.
func (q *qmp) wait() { <-q.done }
