// Package gateway is the network of one machine, in herdbook's own process: the
// router, the DHCP server and the resolver of a guest that sees nothing else. The
// guest's frames come over a stream socket from QEMU; what Rules let through leaves
// by ordinary sockets of the host, so no rights are needed, and what they do not is
// refused at once. The addresses are those of QEMU's user network: the guest has
// 10.0.2.15, the gateway 10.0.2.2, its resolver 10.0.2.3.
//
// All that arrives is untrusted: a guest may send any bytes. It has one address, and
// frames from another are dropped; the number of its connections is bounded.
//
// The guest has IPv4 only. The resolver passes IPv6 addresses on as they are, and a
// guest that tries one is told by its own kernel that there is no way there, whereupon
// programs take the IPv4 address; what has none cannot be reached.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"herdbook/internal/event"
)

// The addresses of every guest's network.
var (
	Guest    = netip.AddrFrom4([4]byte{10, 0, 2, 15})
	Router   = netip.AddrFrom4([4]byte{10, 0, 2, 2}) // stands for the host's loopback, as far as the rules go
	Resolver = netip.AddrFrom4([4]byte{10, 0, 2, 3})

	subnet = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 2, 0}), 24)
)

// hardware is the gateway's address on the link, that of QEMU's user network.
var hardware = tcpip.LinkAddress([]byte{0x52, 0x55, 10, 0, 2, 2})

// nic is the one interface of the stack.
const nic tcpip.NICID = 1

// maxConnections bounds the TCP connections of a guest, in both directions, DNS's and
// those included of which it has not yet taken all. Those beyond are reset.
const maxConnections = 512

// maxBuffer bounds what is held of a connection that one end does not take, in bytes
// and in each direction: all of them together hold 256 MiB at most.
const maxBuffer = 256 << 10

// timeWait is how long a connection that the gateway has ended first is remembered. A
// socket brings nothing twice, and late only what waits in it.
const timeWait = time.Second

// Gateway is the network of a machine that runs. Its methods may be called from
// several goroutines.
type Gateway struct {
	rules Rules
	conn  net.Conn // to QEMU
	link  *channel.Endpoint
	stack *stack.Stack
	sink  event.Sink

	ctx         context.Context // of all that runs, until Close
	cancel      context.CancelFunc
	running     sync.WaitGroup
	connections atomic.Int64
	flows       atomic.Int64
	refused     refusals

	mu     sync.Mutex
	closed bool
	open   map[io.Closer]struct{} // what blocks until it is closed
	end    sync.Once
}

// Start begins to serve the guest whose frames come over conn, each behind its
// length in four bytes, the most significant first. The conn is the gateway's from now
// on. What is refused and could be allowed is a notice for sink. It fails if the rules
// make no sense, or if a port of the host that they forward is taken. Close must be called.
func Start(conn net.Conn, rules Rules, sink event.Sink) (*Gateway, error) {
	g := &Gateway{rules: rules, conn: conn, sink: sink, open: map[io.Closer]struct{}{}}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.keep(conn)
	err := rules.check()
	if err == nil {
		err = g.start()
	}
	if err != nil {
		g.Close()
		return nil, fmt.Errorf("start the guest's network: %w", err)
	}
	return g, nil
}

func (g *Gateway) start() error {
	g.link = channel.New(maxQueued, mtu+header.EthernetMinimumSize, hardware)
	// The socket loses and alters nothing, and a checksum that a guest got wrong is its own loss.
	g.link.LinkEPCapabilities = stack.CapabilityRXChecksumOffload
	g.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	sack := tcpip.TCPSACKEnabled(true)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: maxBuffer, Max: maxBuffer}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: maxBuffer, Max: maxBuffer}
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	err := errors.Join(
		failed(g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack)),
		failed(g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &receive)),
		failed(g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &send)),
		failed(g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &wait)),
		failed(g.stack.CreateNIC(nic, ethernet.New(g.link))),
	)
	for _, a := range []netip.Addr{Router, Resolver} {
		own := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(a), PrefixLen: subnet.Bits()}}
		err = errors.Join(err, failed(g.stack.AddProtocolAddress(nic, own, stack.AddressProperties{})))
	}
	local, subnetErr := tcpip.NewSubnet(address(subnet.Addr()), tcpip.MaskFromBytes(net.CIDRMask(subnet.Bits(), 32)))
	// What is for the world is taken as if it were for the gateway, and answered in its name.
	err = errors.Join(err, subnetErr, failed(g.stack.SetPromiscuousMode(nic, true)), failed(g.stack.SetSpoofing(nic, true)))
	g.stack.SetRouteTable([]tcpip.Route{{Destination: local, NIC: nic}})
	if err != nil {
		return err
	}
	g.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(g.stack, 0, maxDialing, g.outgoing).HandlePacket)
	g.stack.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(g.stack, g.datagram).HandlePacket)
	if err := g.serveDHCP(); err != nil {
		return err
	}
	if !g.rules.Alone {
		if err := errors.Join(g.serveDNS(), g.forward()); err != nil {
			return err
		}
	}
	g.running.Go(g.receive)
	g.running.Go(g.send)
	return nil
}

// Close ends the network and everything that goes over it. It may be called more than
// once.
func (g *Gateway) Close() {
	g.end.Do(func() {
		g.cancel()
		g.mu.Lock()
		g.closed = true
		open := g.open
		g.open = nil
		g.mu.Unlock()
		for c := range open {
			_ = c.Close() // what it carried ends here, whatever became of it
		}
		if g.stack != nil {
			g.stack.Close()
		}
		g.running.Wait()
		if g.stack != nil {
			g.link.Close()
			g.stack.Wait()
		}
	})
}

// keep notes what must be closed at the end; false if that is now, and it has been.
func (g *Gateway) keep(c io.Closer) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		_ = c.Close() // nothing has gone over it
		return false
	}
	g.open[c] = struct{}{}
	return true
}

// release closes what was kept.
func (g *Gateway) release(c io.Closer) {
	g.mu.Lock()
	delete(g.open, c)
	g.mu.Unlock()
	_ = c.Close() // who has used it knows how that went
}

// admit counts a connection; false if there are too many. It is given back by dismiss.
func (g *Gateway) admit() bool {
	if g.connections.Add(1) > maxConnections {
		g.dismiss()
		return false
	}
	return true
}

func (g *Gateway) dismiss() { g.connections.Add(-1) }

func address(a netip.Addr) tcpip.Address { return tcpip.AddrFrom4(a.As4()) }

func fullAddress(a netip.Addr, port uint16) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: address(a), Port: port}
}

// failed makes an error of the stack's.
func failed(err tcpip.Error) error {
	if err == nil {
		return nil
	}
	return errors.New(err.String())
}
