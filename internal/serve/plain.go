package serve

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// plain is a request for the whole of an object, from somebody who says nothing that
// could change the answer but which codings he knows.
type plain struct {
	method   string
	path     []byte
	agent    []byte
	encoding []byte // what Accept-Encoding says
}

// parsePlain reads a request as a client writes it that is no stranger than most. All
// that is not known for certain to be such a one is none, also where RFC 9112 has
// nothing against it: two of one header, blanks and bytes that are unusual, a part of
// a request, and more than one.
func parsePlain(p []byte) (q plain, ok bool) {
	rest, ok := bytes.CutSuffix(p, []byte("\r\n\r\n"))
	if !ok {
		return q, false
	}
	line, rest, more := bytes.Cut(rest, []byte("\r\n"))
	method, path, _ := bytes.Cut(line, []byte(" "))
	switch string(method) {
	case http.MethodGet, http.MethodHead:
		q.method = http.MethodGet
		if len(method) > len(q.method) {
			q.method = http.MethodHead
		}
	default:
		return q, false
	}
	if q.path, ok = bytes.CutSuffix(path, []byte(" HTTP/1.1")); !ok || !consists(q.path, '!', "%?#") || q.path[0] != '/' {
		return q, false
	}
	var host []byte
	for more {
		line, rest, more = bytes.Cut(rest, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(": "))
		if !consists(value, ' ', "") || value[0] == ' ' || value[len(value)-1] == ' ' {
			return q, false
		}
		switch {
		case host == nil && is(name, "host") && consists(value, '-', "/;<=>?@\\^`{|}~"):
			host = value
		case q.agent == nil && is(name, "user-agent"):
			q.agent = value
		case q.encoding == nil && is(name, "accept-encoding"):
			q.encoding = value
		case is(name, "accept"), is(name, "accept-language"), is(name, "cache-control"), is(name, "pragma"):
		case is(name, "connection") && is(value, "keep-alive"):
		default:
			return q, false
		}
	}
	return q, host != nil
}

// is tells whether a word is the one in small letters.
func is(word []byte, small string) bool {
	if len(word) != len(small) {
		return false
	}
	for i, c := range word {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != small[i] {
			return false
		}
	}
	return true
}

// consists tells whether there is something, all of it ASCII from first on, but
// nothing of except.
func consists(p []byte, first byte, except string) bool {
	for _, c := range p {
		if c < first || c > '~' || except != "" && bytes.IndexByte([]byte(except), c) >= 0 {
			return false
		}
	}
	return len(p) > 0
}

// exchange are the buffers of one request; a connection that has none is without.
type exchange struct {
	request [2 << 10]byte
	answer  [sendFrom + maxHeld]byte
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// answer answers the request in the first n bytes, if it is a plain one for a text
// that can be had. The error is that of the connection.
func (f *front) answer(ctx context.Context, c *conn, fd int, x *exchange, n int) (done bool, err error) {
	q, ok := parsePlain(x.request[:n])
	s := f.server
	if !ok || !s.running.TryRLock() {
		return false, nil
	}
	defer s.running.RUnlock()
	start := c.now()
	t, err := s.texts.at(ctx, q.path[1:], start)
	if err != nil || !t.whole() {
		return false, nil
	}
	v := &t.plain
	if len(t.packed.body) > 0 && len(q.encoding) > 0 && acceptsGzip([]string{string(q.encoding)}) {
		v = &t.packed
	}
	head := append(append(x.answer[:0], v.head...), f.dates.line(start)...)
	sent, err := c.writeAnswer(fd, head, v, q.method == http.MethodGet)
	took := c.now().Sub(start)
	s.metrics.note(q.method, http.StatusOK, sent, took)
	if s.options.Log != nil {
		s.options.Log(Request{
			Time: start, Remote: c.RemoteAddr().String(), Method: q.method, Path: string(q.path), Proto: "HTTP/1.1",
			Status: http.StatusOK, Sent: sent, Duration: took, Agent: string(q.agent),
		})
	}
	return true, err
}

// writeAnswer writes a header, which has room behind it, and a body, of which it
// tells the bytes that were sent. It waits only if the kernel has no room at once.
func (c *conn) writeAnswer(fd int, head []byte, v *variant, body bool) (sent int64, err error) {
	n := len(head)
	switch {
	case body && v.file != nil:
		p := &c.part
		*p = part{file: v.file, size: v.size}
		c.held = head
		defer func() { c.held, c.part = nil, part{} }()
		m, again, err := c.sendSome(fd, p)
		if again {
			sent, err = c.send(p)
			return m + sent, err
		}
		return m, err
	case body && len(v.body) > cap(head)-n:
		c.held = head
		defer func() { c.held = nil }()
		m, err := c.writeBoth(v.body)
		return int64(m), err
	case body:
		head = append(head, v.body...)
	}
	m, err := unix.Write(fd, head)
	if m < len(head) && (err == nil || err == unix.EAGAIN || err == unix.EINTR) {
		m = max(m, 0)
		var more int
		more, err = c.Write(head[m:])
		m += more
	}
	return int64(max(m-n, 0)), err
}

// dates are the lines that end a header, which change once in a second.
type dates struct{ last atomic.Pointer[date] }

type date struct {
	second int64
	line   string
}

func (d *dates) line(now time.Time) string {
	last := d.last.Load()
	if second := now.Unix(); last == nil || last.second != second {
		last = &date{second, "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n\r\n"}
		d.last.Store(last)
	}
	return last.line
}
