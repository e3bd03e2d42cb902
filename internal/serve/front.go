package serve

import (
	"bytes"
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// front is a listener that answers plain requests for texts itself, in a third of the
// time that net/http needs for one. From the first request on that is another one, or
// that has not come whole, a connection is net/http's, with what was read of it.
//
// It is only for repositories that everybody may read, and for connections without TLS.
type front struct {
	net.Listener
	server *Server
	out    chan accepted // for net/http
	closed chan struct{}
	gone   chan struct{} // closed when no connection is in here any more, nor will be
	dates  dates

	mu    sync.Mutex
	ended bool
	conns map[*conn]bool // that are in here
}

type accepted struct {
	conn net.Conn
	err  error
}

// The states of a connection that is in front.
const (
	waiting   int32 = iota // for a request: it may be closed at any time
	answering              // or handed over
	ended
)

// turn is what became of a look for a request.
type turn int

const (
	again   turn = iota // it was answered, so look for the next
	nothing             // there is none yet
	another             // it is for net/http
	over                // no further one is taken
)

// newFront accepts from l, until it is closed.
func newFront(ctx context.Context, s *Server, l net.Listener) *front {
	f := &front{
		Listener: l, server: s, out: make(chan accepted), closed: make(chan struct{}), gone: make(chan struct{}), conns: map[*conn]bool{},
	}
	go f.accept(ctx)
	return f
}

func (f *front) accept(ctx context.Context) {
	for {
		a, err := f.Listener.Accept()
		c, ok := a.(*conn)
		if ok && err == nil && c.socket() {
			f.enter(ctx, c)
		} else if !f.hand(accepted{a, err}) {
			return
		}
	}
}

// hand gives net/http a connection or an error, unless it takes no more.
func (f *front) hand(a accepted) bool {
	select {
	case f.out <- a:
		return true
	case <-f.closed:
		if a.conn != nil {
			_ = a.conn.Close() // nothing was answered
		}
		return false
	}
}

// Accept is for net/http.
func (f *front) Accept() (net.Conn, error) {
	select {
	case a := <-f.out:
		return a.conn, a.err
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close ends what waits for a connection or for a request. Answers go on.
func (f *front) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return net.ErrClosed
	}
	f.ended = true
	close(f.closed)
	for c := range f.conns {
		if c.state.CompareAndSwap(waiting, ended) {
			_ = c.Conn.Close() // nobody waits for an answer
		}
	}
	f.check()
	return f.Listener.Close()
}

// end waits until the answers have ended, or cuts them when ctx ends. It comes after
// Close.
func (f *front) end(ctx context.Context) error {
	select {
	case <-f.gone:
		return nil
	case <-ctx.Done():
	}
	f.mu.Lock()
	for c := range f.conns {
		_ = c.Conn.Close() // it is cut
	}
	f.mu.Unlock()
	<-f.gone
	return ctx.Err()
}

func (f *front) enter(ctx context.Context, c *conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		_ = c.Close() // nothing was asked
		return
	}
	f.conns[c] = true
	go f.serve(ctx, c)
}

func (f *front) leave(c *conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
	f.check()
}

func (f *front) check() {
	if f.ended && len(f.conns) == 0 {
		close(f.gone)
	}
}

// serve answers what comes from a connection until it is for net/http.
func (f *front) serve(ctx context.Context, c *conn) {
	defer f.leave(c)
	defer func() { // as net/http does: one connection's fault is not all others'
		if fault := recover(); fault != nil {
			f.server.notice("a request ended its connection: %v", fault)
			_ = c.Close() // whatever was being sent
		}
	}()
	last := over
	until := c.now().Add(f.server.options.Header)
	err := c.Conn.SetReadDeadline(until)
	if err == nil {
		// The kernel tells once that there is something to read. So who looks goes on
		// until there is nothing, and then waits without a call that forgets the news.
		err = c.raw.Read(func(fd uintptr) bool {
			for {
				if last = f.look(ctx, c, int(fd)); last != again {
					return last != nothing
				}
				// As in renew: a deadline has its price.
				idle, now := f.server.options.Idle, c.now()
				if left := until.Sub(now); left <= idle-idle/8 || left > idle {
					until = now.Add(idle)
					_ = c.Conn.SetReadDeadline(until) // fails if it is closed, as the next look does
				}
			}
		})
	}
	if err != nil || last != another || c.Conn.SetReadDeadline(time.Time{}) != nil {
		_ = c.Close() // the client has gone, or has to go
		return
	}
	f.hand(accepted{conn: c})
}

// look takes a request, if there is one.
func (f *front) look(ctx context.Context, c *conn, fd int) turn {
	x, _ := exchanges.Get().(*exchange)
	defer exchanges.Put(x)
	n, err := unix.Read(fd, x.request[:])
	switch {
	case err == unix.EINTR:
		return again
	case err == unix.EAGAIN:
		return nothing
	case err != nil || n <= 0 || !c.state.CompareAndSwap(waiting, answering):
		return over
	}
	done, err := f.answer(ctx, c, fd, x, n)
	if !done {
		c.first = bytes.Clone(x.request[:n])
		return another
	}
	c.state.Store(waiting)
	select {
	case <-f.closed:
		return over
	default:
	}
	if err != nil {
		return over
	}
	return again
}
