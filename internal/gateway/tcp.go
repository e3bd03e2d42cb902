package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// maxDialing bounds the connections that are being made for a guest. It tries
	// again by itself what is beyond.
	maxDialing = 128

	dialTimeout    = 30 * time.Second // of a connection into the world
	forwardTimeout = 10 * time.Second // of one into the guest
)

// half is a connection of which each direction can be ended by itself.
type half interface {
	net.Conn
	CloseWrite() error
	reset() // ends it so that the other end knows of a failure
}

// guestConn is a connection with the guest.
type guestConn struct {
	*gonet.TCPConn
	endpoint tcpip.Endpoint
	queue    *waiter.Queue
}

func newGuestConn(endpoint tcpip.Endpoint, queue *waiter.Queue) guestConn {
	return guestConn{gonet.NewTCPConn(queue, endpoint), endpoint, queue}
}

func (c guestConn) reset() { c.endpoint.Abort() }

// finish closes it and waits until the stack holds nothing of it any more: a guest that
// takes nothing leaves what was sent to it where it is, for as long as it likes.
func (c guestConn) finish(ctx context.Context) {
	entry, gone := waiter.NewChannelEntry(waiter.EventHUp)
	c.queue.EventRegister(&entry)
	defer c.queue.EventUnregister(&entry)
	_ = c.Close() // who has used it knows how that went
	for {
		switch tcp.EndpointState(c.endpoint.State()) {
		case tcp.StateClose, tcp.StateError:
			return
		}
		select {
		case <-gone:
		case <-ctx.Done():
			return
		}
	}
}

// hostConn is a connection of the host.
type hostConn struct{ *net.TCPConn }

func (c hostConn) reset() {
	_ = c.SetLinger(0) // one that is gone needs none
	_ = c.Close()
}

// outgoing makes a connection that the guest asked for. The guest's own end is made
// only when the other is there, so what fails fails for the guest as it did here.
func (g *Gateway) outgoing(r *tcp.ForwarderRequest) {
	if !g.enter() {
		r.Complete(true)
		return
	}
	defer g.running.Done()
	if !g.admit() {
		r.Complete(true)
		return
	}
	defer g.dismiss()
	to := netip.AddrPortFrom(netip.AddrFrom4(r.ID().LocalAddress.As4()), r.ID().LocalPort)
	if to == resolver && !g.rules.Alone {
		if c, ok := take(r); ok {
			g.serve(c, func() { g.answerStream(c) })
		}
		return
	}
	out, ok := g.dial(to)
	if !ok {
		r.Complete(true)
		return
	}
	defer g.release(out)
	c, ok := take(r)
	if !ok {
		out.reset()
		return
	}
	g.splice(c, out)
}

// take makes the guest's end of a connection that it asked for; false if it does not
// want it any more.
func take(r *tcp.ForwarderRequest) (guestConn, bool) {
	var queue waiter.Queue
	endpoint, err := r.CreateEndpoint(&queue)
	r.Complete(err != nil)
	if err != nil {
		return guestConn{}, false
	}
	return newGuestConn(endpoint, &queue), true
}

// serve has a connection with the guest until work has returned and all of it is gone.
func (g *Gateway) serve(c guestConn, work func()) {
	if !g.keep(c) {
		return
	}
	work()
	c.finish(g.ctx)
	g.release(c)
}

// enter counts a goroutine that the stack has started; false at the end.
func (g *Gateway) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.running.Add(1)
	return true
}

// dial connects to where the guest wants to get, if it may.
func (g *Gateway) dial(to netip.AddrPort) (hostConn, bool) {
	target, ok := g.allow(to)
	if !ok {
		return hostConn{}, false
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(g.ctx, "tcp4", target.String())
	if err != nil {
		return hostConn{}, false
	}
	out := hostConn{conn.(*net.TCPConn)}
	return out, g.keep(out)
}

// splice passes on what comes from either end to the other, until both have ended, or
// one has failed, which the other is told by a reset.
func (g *Gateway) splice(a guestConn, b hostConn) {
	pass := func(to, from half) {
		_, err := io.Copy(to, from)
		if err == nil {
			err = to.CloseWrite()
		}
		if err != nil {
			a.reset()
			b.reset()
		}
	}
	g.serve(a, func() {
		var both sync.WaitGroup
		both.Go(func() { pass(a, b) })
		both.Go(func() { pass(b, a) })
		both.Wait()
	})
}

// Dial connects to a TCP port of the guest. No socket of the host listens for it.
// Until the guest has an address, and where nothing listens on the port, it fails at
// once or after some seconds; trying again is left to the caller. The connection ends with the machine.
func (g *Gateway) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	c, err := g.connect(ctx, port)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (g *Gateway) connect(ctx context.Context, port uint16) (c guestConn, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("connect to port %d of the guest: %w", port, err)
		}
	}()
	if port == 0 {
		return c, errors.New("there is no such port")
	}
	if !g.enter() {
		return c, net.ErrClosed
	}
	defer g.running.Done()
	var queue waiter.Queue
	endpoint, failure := g.stack.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, &queue)
	if failure != nil {
		return c, failed(failure)
	}
	c = newGuestConn(endpoint, &queue)
	entry, writable := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	failure = endpoint.Bind(fullAddress(Router, 0))
	if failure == nil {
		failure = endpoint.Connect(fullAddress(Guest, port))
	}
	if _, started := failure.(*tcpip.ErrConnectStarted); started {
		select {
		case <-writable:
			failure = endpoint.LastError()
		case <-ctx.Done():
			c.reset()
			return c, context.Cause(ctx)
		case <-g.ctx.Done():
			c.reset()
			return c, net.ErrClosed
		}
	}
	if failure != nil {
		c.reset()
		return c, failed(failure)
	}
	return c, nil
}

// forward listens on the ports of the host that lead into the guest.
func (g *Gateway) forward() error {
	for _, f := range g.rules.Forward {
		listener, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(f.Host))))
		if err != nil {
			return fmt.Errorf("forward port %d to port %d of the guest: %w", f.Host, f.Guest, err)
		}
		g.keep(listener)
		g.running.Go(func() { g.accept(listener, f.Guest) })
	}
	return nil
}

// accept passes connections on until the listener is closed.
func (g *Gateway) accept(listener net.Listener, port uint16) {
	defer g.release(listener)
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // of one that was gone, or for want of descriptors: the next may do
			select {
			case <-g.ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		in := hostConn{conn.(*net.TCPConn)}
		if !g.admit() {
			in.reset()
			continue
		}
		if !g.keep(in) {
			g.dismiss()
			return
		}
		g.running.Go(func() {
			defer g.dismiss()
			defer g.release(in)
			ctx, cancel := context.WithTimeout(g.ctx, forwardTimeout)
			c, err := g.connect(ctx, port)
			cancel()
			if err != nil {
				in.reset()
				return
			}
			g.splice(c, in)
		})
	}
}
