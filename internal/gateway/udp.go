package gateway

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	maxFlows = 256 // of UDP; datagrams that would begin another one are lost
	flowIdle = time.Minute

	maxDatagram = 65535 // bytes
)

// datagram begins a flow: what goes between a port of the guest and one of the world.
// What is not let through is answered with ICMP's word for a port that is closed.
func (g *Gateway) datagram(r *udp.ForwarderRequest) (handled bool) {
	id := r.ID()
	target, ok := g.allow(netip.AddrPortFrom(netip.AddrFrom4(id.LocalAddress.As4()), id.LocalPort))
	if !ok {
		return false
	}
	if g.flows.Add(1) > maxFlows {
		g.flows.Add(-1)
		return true
	}
	out, err := dialUDP(target)
	if err != nil {
		g.flows.Add(-1)
		return false
	}
	var queue waiter.Queue
	endpoint, failure := r.CreateEndpoint(&queue)
	if failure != nil {
		g.flows.Add(-1)
		_ = out.Close() // nothing has gone over it
		return true
	}
	in := gonet.NewUDPConn(&queue, endpoint)
	if !g.enter() {
		g.flows.Add(-1)
		_, _ = in.Close(), out.Close() // at the end
		return true
	}
	go func() {
		defer g.running.Done()
		defer g.flows.Add(-1)
		g.exchange(in, out)
	}()
	return true
}

// exchange passes datagrams on until none has come from either side for a while, or
// one of them has failed.
func (g *Gateway) exchange(in, out net.Conn) {
	if !g.keep(in) {
		_ = out.Close() // at the end
		return
	}
	defer g.release(in)
	if !g.keep(out) {
		return
	}
	defer g.release(out)
	end := func() { _, _ = in.Close(), out.Close() } // both have lost nothing
	idle := time.AfterFunc(flowIdle, end)
	defer idle.Stop()
	pass := func(to, from net.Conn) {
		defer end()
		p := make([]byte, maxDatagram)
		for {
			n, err := from.Read(p)
			if err == nil {
				_, err = to.Write(p[:n])
			}
			if err != nil {
				return
			}
			idle.Reset(flowIdle)
		}
	}
	var both sync.WaitGroup
	both.Go(func() { pass(in, out) })
	both.Go(func() { pass(out, in) })
	both.Wait()
}
