package machine

import (
	"bytes"
	"io"
	"net"
	"sync"

	"herdbook/internal/event"
)

// maxConsoleLine bounds a line of the console, in bytes; longer ones are cut in
// pieces.
const maxConsoleLine = 8 << 10

// console reads a machine's serial console: every line becomes an event, the
// last ones are kept, and a person may be attached.
type console struct {
	conn net.Conn
	sink event.Sink
	done chan struct{}

	mu     sync.Mutex
	last   []string
	person io.Writer
}

func newConsole(conn net.Conn, sink event.Sink) *console {
	c := &console{conn: conn, sink: sink, done: make(chan struct{})}
	go c.listen()
	return c
}

func (c *console) listen() {
	defer close(c.done)
	var line lineBuffer
	p := make([]byte, 4096)
	for {
		n, err := c.conn.Read(p)
		c.mu.Lock()
		if c.person != nil && n > 0 {
			if _, err := c.person.Write(p[:n]); err != nil {
				c.person = nil // the terminal is gone; the log goes on
			}
		}
		c.mu.Unlock()
		for _, text := range line.add(p[:n]) {
			c.line(text)
		}
		if err != nil {
			if text, ok := line.rest(); ok {
				c.line(text)
			}
			return
		}
	}
}

func (c *console) line(text string) {
	c.mu.Lock()
	c.last = append(c.last, text)
	c.last = c.last[max(0, len(c.last)-tailLines):]
	c.mu.Unlock()
	c.sink.Line(event.Console, text)
}

func (c *console) tail() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.last...)
}

func (c *console) attach(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.person = w
}

// wait returns when the last byte was read.
func (c *console) wait() { <-c.done }

// lineBuffer cuts a stream into lines. Carriage returns end nothing: those
// before a line feed are dropped, others start the line anew, as on a screen.
type lineBuffer struct{ partial []byte }

func (l *lineBuffer) add(p []byte) []string {
	var lines []string
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		piece, ended := p, i >= 0
		if ended {
			piece, p = p[:i], p[i+1:]
		} else {
			p = nil
		}
		for len(piece) > 0 {
			room := maxConsoleLine - len(l.partial)
			n := min(room, len(piece))
			l.partial = append(l.partial, piece[:n]...)
			piece = piece[n:]
			if len(piece) > 0 {
				lines = append(lines, l.take())
			}
		}
		if ended {
			lines = append(lines, l.take())
		}
	}
	return lines
}

func (l *lineBuffer) take() string {
	text := bytes.TrimRight(l.partial, "\r")
	if i := bytes.LastIndexByte(text, '\r'); i >= 0 {
		text = text[i+1:]
	}
	s := string(bytes.ToValidUTF8(text, []byte("�")))
	l.partial = l.partial[:0]
	return s
}

// rest returns an unfinished line.
func (l *lineBuffer) rest() (string, bool) {
	if len(l.partial) == 0 {
		return "", false
	}
	return l.take(), true
}
