// Package tunnel carries connections over one line into a guest: what connects to a port
// of the host's loopback comes out of a listener there. It needs no network in the guest,
// and whatever is done to that guest's network or firewall does not touch it. Who may
// connect is left to those who speak over it: any program of the host can.
package tunnel

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// maxConnections bounds the connections at once.
const maxConnections = 32

// settings are the same on both ends. A guest under emulation may be busy for long, and
// that somebody watches over it is not this package's.
func settings() *yamux.Config {
	c := yamux.DefaultConfig()
	c.EnableKeepAlive = false
	c.AcceptBacklog = maxConnections
	c.StreamOpenTimeout = 0
	c.ConnectionWriteTimeout = time.Hour
	c.LogOutput = io.Discard
	return c
}

// Entrance is the host's end.
type Entrance struct {
	listener net.Listener
	session  *yamux.Session
	carrying sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]struct{} // nil after Close
}

// Enter opens the host's end on a line, which is the entrance's from now on. Close must be
// called.
func Enter(line io.ReadWriteCloser) (*Entrance, error) {
	session, err := yamux.Client(line, settings())
	if err != nil {
		return nil, fmt.Errorf("open the tunnel: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		_ = session.Close() // nothing has gone over it
		return nil, fmt.Errorf("open the tunnel: %w", err)
	}
	e := &Entrance{listener: listener, session: session, open: map[net.Conn]struct{}{}}
	e.carrying.Go(e.accept)
	return e, nil
}

// Port is the port of 127.0.0.1 that leads into the guest.
func (e *Entrance) Port() int { return e.listener.Addr().(*net.TCPAddr).Port }

func (e *Entrance) accept() {
	for {
		conn, err := e.listener.Accept()
		if err != nil {
			return
		}
		if !e.keep(conn) {
			_ = conn.Close() // nothing has gone over it
			continue
		}
		e.carrying.Go(func() {
			defer e.release(conn)
			stream, err := e.session.Open()
			if err != nil {
				return
			}
			join(conn.(*net.TCPConn), stream)
		})
	}
}

// keep notes a connection that must be closed at the end; false if there are too many.
func (e *Entrance) keep(conn net.Conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open == nil || len(e.open) == maxConnections {
		return false
	}
	e.open[conn] = struct{}{}
	return true
}

func (e *Entrance) release(conn net.Conn) {
	e.mu.Lock()
	delete(e.open, conn)
	e.mu.Unlock()
	_ = conn.Close() // its ends know what they missed
}

// join passes on what is said in both directions, and returns when both are at their end.
func join(conn *net.TCPConn, stream net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(stream, conn)
		_ = stream.Close() // of its half: what comes from there is still read
	}()
	_, _ = io.Copy(conn, stream)
	_ = conn.CloseWrite()
	_ = conn.CloseRead()
	<-done
}

// Close ends the tunnel and all connections through it.
func (e *Entrance) Close() {
	_ = e.listener.Close()
	_ = e.session.Close() // the line may be gone already
	e.mu.Lock()
	for conn := range e.open {
		_ = conn.Close()
	}
	e.open = nil
	e.mu.Unlock()
	e.carrying.Wait()
}

// Leave is the guest's end: the connections come out of the listener, until that, and
// with it the line, is closed.
func Leave(line io.ReadWriteCloser) (net.Listener, error) {
	session, err := yamux.Server(line, settings())
	if err != nil {
		return nil, fmt.Errorf("open the tunnel: %w", err)
	}
	return session, nil
}
