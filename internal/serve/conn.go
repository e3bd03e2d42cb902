package serve

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bounded is a listener that has so many connections at once: further ones wait in
// the kernel.
type bounded struct {
	net.Listener
	server *Server
	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (s *Server) bound(l net.Listener) net.Listener {
	return &bounded{Listener: l, server: s, places: make(chan struct{}, s.options.MaxConnections), closed: make(chan struct{})}
}

// Accept waits for a place and then for a connection.
func (l *bounded) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	l.server.metrics.connections.Inc()
	release := sync.OnceFunc(func() {
		l.server.metrics.connections.Dec()
		<-l.places
	})
	return &conn{Conn: c, now: l.server.options.Now, idle: l.server.options.Idle, release: release}, nil
}

// Close ends Accept, one that waits for a place, too.
func (l *bounded) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// conn is a connection whose writes may take any time as long as the other end
// takes some of it: one that takes nothing for an idle period, and is not seen to
// for up to two more, is cut.
type conn struct {
	net.Conn
	now     func() time.Time
	idle    time.Duration
	release func()

	// Of front:
	raw   syscall.RawConn
	state atomic.Int32
	part  part   // that is being sent
	first []byte // what was read there and is for net/http

	mu     sync.Mutex
	limit  time.Time // that others set; zero: none
	until  time.Time // the deadline that the connection has
	queued int       // bytes in the kernel when the last write got nowhere

	// Of the one who writes:
	holds bool
	held  []byte
	body  []byte
	file  *os.File // has the same in it
}

// connKey has the connection in the context of a request, if it is a plain one.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// socket tells whether it is one, and has it ready.
func (c *conn) socket() bool {
	socket, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	var err error
	c.raw, err = socket.SyscallConn()
	return err == nil
}

// Read gives first what was read before.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// Close frees its place.
func (c *conn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.Conn.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetWriteDeadline limits writes further.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit, c.until = t, t
	return c.Conn.SetWriteDeadline(t)
}

// renew gives the next write an idle period, unless the present one has only begun:
// a deadline costs more than a small write.
func (c *conn) renew() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	until := now.Add(c.idle)
	if !c.limit.IsZero() && c.limit.Before(until) {
		until = c.limit
	}
	if left := c.until.Sub(now); left > c.idle-c.idle/8 && left <= c.idle {
		return nil
	}
	c.until = until
	return c.Conn.SetWriteDeadline(until)
}

// goesOn tells whether a write that ended with an error has only to be continued.
func (c *conn) goesOn(err error, wrote int64) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.limit.IsZero() && !c.now().Before(c.limit) {
		return false
	}
	// A socket can be written to again when a third of its buffer is free, which may
	// take a slow client several periods.
	before := c.queued
	c.queued = c.inKernel()
	if wrote > 0 || before == 0 {
		return wrote > 0 || c.queued > 0
	}
	return c.queued < before
}

// inKernel is how many bytes the other end has not acknowledged; 0 if nobody knows.
func (c *conn) inKernel() int {
	socket, ok := c.Conn.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	err = raw.Control(func(fd uintptr) {
		n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	})
	if err != nil {
		return 0
	}
	return n
}

// Write writes p whole, or says why not.
func (c *conn) Write(p []byte) (n int, err error) {
	if c.holds && len(c.held)+len(p) <= maxHeld {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	if c.isRest(p) {
		size := int64(len(c.body))
		n, err := c.send(&part{file: c.file, at: size - int64(len(p)), size: size})
		return int(n), err
	}
	if len(c.held) > 0 {
		return c.writeBoth(p)
	}
	for {
		if err := c.renew(); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(p[n:])
		n += m
		if err == nil || !c.goesOn(err, int64(m)) {
			return n, err
		}
	}
}

// writeBoth writes what is held and p with one call of the kernel.
func (c *conn) writeBoth(p []byte) (int, error) {
	buffers := net.Buffers{c.held, p}
	total := int64(-len(c.held))
	c.held = c.held[:0]
	for {
		if err := c.renew(); err != nil {
			return 0, err
		}
		m, err := buffers.WriteTo(c.Conn)
		total += m
		if err == nil || !c.goesOn(err, m) {
			return int(max(total, 0)), err
		}
	}
}

// maxHeld is as much as is held of the beginning of an answer, in bytes.
const maxHeld = 4 << 10

// hold keeps the next small writes, the header of an answer, until its content
// comes: one packet, and one call of the kernel. If file is not nil, the rest of body
// is sent from there, where the same is. It ends with letGo.
func (c *conn) hold(buffer, body []byte, file *os.File) {
	c.holds, c.held, c.body, c.file = true, buffer[:0], body, file
}

func (c *conn) letGo() error {
	p := c.held
	c.holds, c.held, c.body, c.file = false, nil, nil, nil
	if len(p) == 0 {
		return nil
	}
	_, err := c.Write(p)
	return err
}

// isRest tells whether p is the rest of the body, not a copy of it, and worth it.
func (c *conn) isRest(p []byte) bool {
	n := len(p)
	return c.file != nil && n >= sendFrom/2 && n <= len(c.body) && &p[n-1] == &c.body[len(c.body)-1]
}

// ReadFrom sends a file by sendfile(2), and copies everything else.
func (c *conn) ReadFrom(src io.Reader) (n int64, err error) {
	if part, ok := src.(*part); ok {
		return c.send(part)
	}
	direct, ok := c.Conn.(io.ReaderFrom)
	limited, isLimited := src.(*io.LimitedReader)
	if !isLimited {
		limited = &io.LimitedReader{R: src, N: math.MaxInt64}
	}
	file, isFile := limited.R.(*os.File)
	if !ok || !isFile {
		return io.Copy(struct{ io.Writer }{c}, src)
	}
	start, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	size := limited.N
	for {
		if err := c.renew(); err != nil {
			return n, err
		}
		m, err := direct.ReadFrom(limited)
		n += m
		if err == nil || !c.goesOn(err, m) {
			return n, err
		}
		// Where the kernel cannot do it, more was read than was sent.
		if _, err := file.Seek(start+n, io.SeekStart); err != nil {
			return n, err
		}
		limited.N = size - n
	}
}

// part is what is left of a file that several answers read at once, each with a
// position of its own.
type part struct {
	file     *os.File
	at, size int64
}

func (p *part) Read(b []byte) (int, error) {
	if p.at >= p.size {
		return 0, io.EOF
	}
	n, err := p.file.ReadAt(b[:min(int64(len(b)), p.size-p.at)], p.at)
	p.at += int64(n)
	return n, err
}

// send sends a part by sendfile(2), which package net does only from the position
// that a file has for all.
func (c *conn) send(p *part) (n int64, err error) {
	socket, ok := c.Conn.(syscall.Conn)
	if !ok {
		return io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{p})
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	for p.at < p.size {
		if err := c.renew(); err != nil {
			return n, err
		}
		before := n
		var failed error
		err := raw.Write(func(fd uintptr) bool {
			m, again, err := c.sendSome(int(fd), p)
			n, failed = n+m, err
			return !again
		})
		if err == nil {
			err = failed
		}
		if err != nil && !c.goesOn(err, n-before) {
			return n, err
		}
	}
	return n, nil
}

// corkFrom is the size in bytes from which on packets that are not full are held back
// while a file is sent. That takes two calls of the kernel, and many packets to be
// worth it: MSG_MORE alone does not keep the kernel from sending a part of one when an
// acknowledgement comes.
const corkFrom = 64 << 10

// cork begins or ends that (tcp(7)); what is no TCP has no packets.
func cork(fd, on int) { _ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_CORK, on) }

// sendSome sends until there is no room; again says that there may be later.
func (c *conn) sendSome(fd int, p *part) (n int64, again bool, err error) {
	if p.size-p.at >= corkFrom {
		cork(fd, 1)
		defer cork(fd, 0) // when there is no room, too: what is left goes with the next
	}
	for len(c.held) > 0 {
		m, err := unix.SendmsgN(fd, c.held, nil, nil, unix.MSG_MORE|unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch {
		case err == unix.EAGAIN:
			return n, true, nil
		case err != nil && err != unix.EINTR:
			return n, false, os.NewSyscallError("sendmsg", err)
		case err == nil:
			c.held = c.held[m:]
		}
	}
	for p.at < p.size {
		m, err := unix.Sendfile(fd, int(p.file.Fd()), &p.at, int(p.size-p.at))
		switch {
		case err == unix.EAGAIN:
			return n, true, nil
		case err == unix.EINTR:
		case err != nil:
			return n, false, os.NewSyscallError("sendfile", err)
		case m == 0: // somebody has cut the file
			return n, false, io.ErrUnexpectedEOF
		default:
			n += int64(m)
		}
	}
	return n, false, nil
}
