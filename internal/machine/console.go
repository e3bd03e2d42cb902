package machine

import (
	"io"
	"net"
	"strings"
	"sync"

	"herdbook/internal/event"
)

// tailLines is the number of console lines kept for a message.
const tailLines = 40

// panicMark is how Linux begins its last words.
const panicMark = "Kernel panic - not syncing"

// console reads a machine's serial console, or another stream of lines: each
// becomes an event, the last ones are kept, and a person may be attached.
type console struct {
	conn   net.Conn
	stream string
	sink   event.Sink
	done   chan struct{} // closed when the last byte was read
	gaveUp chan struct{} // closed at the kernel's last words

	mu       sync.Mutex
	splitter splitter
	last     []string
	panicked string // the kernel's own line
	person   io.Writer
}

func newConsole(conn net.Conn, stream string, sink event.Sink) *console {
	c := &console{conn: conn, stream: stream, sink: sink, done: make(chan struct{}), gaveUp: make(chan struct{})}
	go c.listen()
	return c
}

func (c *console) listen() {
	defer close(c.done)
	p := make([]byte, 4096)
	for {
		n, err := c.conn.Read(p)
		c.take(p[:n], err != nil)
		if err != nil {
			return // the machine is gone; its end is told by Wait
		}
	}
}

// take works on the next bytes; at the end an unfinished line counts as one.
func (c *console) take(p []byte, end bool) {
	c.mu.Lock()
	lines := c.splitter.add(p)
	if text, ok := "", false; end {
		if text, ok = c.splitter.rest(); ok {
			lines = append(lines, text)
		}
	}
	for _, text := range lines {
		if i := strings.Index(text, panicMark); i >= 0 && c.panicked == "" {
			c.panicked = text[i:]
			close(c.gaveUp)
		}
	}
	c.last = append(c.last, lines...)
	c.last = append([]string(nil), c.last[max(0, len(c.last)-tailLines):]...)
	person := c.person
	c.mu.Unlock()
	if person != nil && len(p) > 0 {
		if _, err := person.Write(p); err != nil {
			c.attach(nil) // the terminal is gone; the log goes on
		}
	}
	for _, text := range lines {
		c.sink.Line(c.stream, text)
	}
}

// tail returns the last lines, the unfinished one too.
func (c *console) tail() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := append([]string(nil), c.last...)
	if len(c.splitter.line) > 0 {
		lines = append(lines, printable(c.splitter.line))
	}
	return lines[max(0, len(lines)-tailLines):]
}

// unfinished returns what was sent since the last line ended.
func (c *console) unfinished() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return printable(c.splitter.line)
}

// kernelPanic returns the line by which the kernel gave up, or "".
func (c *console) kernelPanic() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.panicked
}

func (c *console) attach(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.person = w
}
