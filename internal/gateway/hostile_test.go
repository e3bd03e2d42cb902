package gateway

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"herdbook/internal/peer"
)

// sendRaw sends a frame as it is.
func (u *guest) sendRaw(t *testing.T, frame []byte) {
	t.Helper()
	_, err := u.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
	peer.Must(t, err)
}

// ethernetFrame is a frame for the gateway.
func ethernetFrame(kind tcpip.NetworkProtocolNumber, content []byte) []byte {
	p := make([]byte, header.EthernetMinimumSize)
	header.Ethernet(p).Encode(&header.EthernetFields{SrcAddr: "\x52\x54\x00\x12\x34\x56", DstAddr: hardware, Type: kind})
	return append(p, content...)
}

func ipPacket(from, to netip.Addr, protocol tcpip.TransportProtocolNumber, content []byte) []byte {
	p := make([]byte, header.IPv4MinimumSize+len(content))
	header.IPv4(p).Encode(&header.IPv4Fields{TotalLength: uint16(len(p)), TTL: 64, Protocol: uint8(protocol), SrcAddr: address(from), DstAddr: address(to)})
	header.IPv4(p).SetChecksum(^header.IPv4(p).CalculateChecksum())
	copy(p[header.IPv4MinimumSize:], content)
	return p
}

// syn is a frame that asks for a connection.
func syn(from netip.Addr, to netip.AddrPort) []byte {
	p := make([]byte, header.TCPMinimumSize)
	h := header.TCP(p)
	h.Encode(&header.TCPFields{SrcPort: 4242, DstPort: to.Port(), SeqNum: 1, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn, WindowSize: 1000})
	h.SetChecksum(^h.CalculateChecksum(header.PseudoHeaderChecksum(header.TCPProtocolNumber, address(from), address(to.Addr()), uint16(len(p)))))
	return ethernetFrame(header.IPv4ProtocolNumber, ipPacket(from, to.Addr(), header.TCPProtocolNumber, p))
}

// A guest that is root can write any address on its frames.
func TestAddressesThatAGuestMakesUp(t *testing.T) {
	port := echo(t)
	served := make(chan struct{}, 100)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	peer.Must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served <- struct{}{}
			_ = c.Close() // it ought not to be there
		}
	}()
	defer func() { peer.Must(t, l.Close()); <-done }()
	victim := uint16(l.Addr().(*net.TCPAddr).Port)
	u := power(t, Rules{HostPorts: []uint16{port}})
	for _, to := range []string{"127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.2.2", "10.0.2.3", "10.0.2.15", "10.0.2.255", "255.255.255.255", "224.0.0.1"} {
		for _, from := range []string{"10.0.2.15", "10.0.2.2", "127.0.0.1", "0.0.0.0", "192.0.2.1", "255.255.255.255"} {
			u.sendRaw(t, syn(netip.MustParseAddr(from), at(netip.MustParseAddr(to), victim)))
		}
	}
	// Frames are taken in turn: when this is through, so are they.
	c, err := u.dial(limited(t), at(Router, port))
	peer.Must(t, err)
	_, err = converse(c, []byte("x"))
	peer.Must(t, err)
	if len(served) > 0 {
		t.Error("the server of another port was reached")
	}
}

func TestFramesThatAreNone(t *testing.T) {
	port := echo(t)
	u := power(t, Rules{HostPorts: []uint16{port}})
	for _, n := range []int{0, 1, 13, 14, 15, 33, 34, 60, 1514, 9000, maxFrame} {
		u.sendRaw(t, bytes.Repeat([]byte{0xff}, n))
		u.sendRaw(t, ethernetFrame(header.IPv4ProtocolNumber, bytes.Repeat([]byte{0x45}, max(0, n-14)))[:max(14, n)])
		u.sendRaw(t, ethernetFrame(header.ARPProtocolNumber, make([]byte, max(0, n-14)))[:max(14, n)])
		u.sendRaw(t, ethernetFrame(header.IPv6ProtocolNumber, make([]byte, max(0, n-14)))[:max(14, n)])
	}
	c, err := u.dial(limited(t), at(Router, port))
	peer.Must(t, err)
	if got, err := converse(c, []byte("x")); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

// QEMU sends no longer frames than it can hold: this is none any more.
func TestAFrameThatIsTooLongIsTheEnd(t *testing.T) {
	ours, theirs := connected(t)
	g, err := Start(ours, Rules{}, nil)
	peer.Must(t, err)
	_, err = theirs.Write(binary.BigEndian.AppendUint32(nil, maxFrame+1))
	peer.Must(t, err)
	if _, err := theirs.Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	peer.Must(t, theirs.Close())
	g.Close()
	g.Close()
}

// A guest that reads nothing costs no more than what may wait for it.
func TestAGuestThatDoesNotRead(t *testing.T) {
	ours, theirs := connected(t)
	g, err := Start(ours, Rules{}, nil)
	peer.Must(t, err)
	ask := make([]byte, header.ICMPv4MinimumSize+1000)
	header.ICMPv4(ask).SetType(header.ICMPv4Echo)
	header.ICMPv4(ask).SetChecksum(^checksum.Checksum(ask, 0))
	frame := ethernetFrame(header.IPv4ProtocolNumber, ipPacket(Guest, Router, header.ICMPv4ProtocolNumber, ask))
	for _, f := range append([][]byte{arpRequest()}, bytesRepeated(frame, 3*maxQueued)...) {
		_, err := theirs.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(f))), f...))
		peer.Must(t, err)
	}
	if n := g.link.NumQueued(); n > maxQueued {
		t.Errorf("%d frames wait", n)
	}
	g.Close()
	peer.Must(t, theirs.Close())
}

// arpRequest is a frame by which the gateway learns where the guest is.
func arpRequest() []byte {
	arp := make(header.ARP, header.ARPSize)
	arp.SetIPv4OverEthernet()
	arp.SetOp(header.ARPRequest)
	copy(arp.HardwareAddressSender(), "\x52\x54\x00\x12\x34\x56")
	copy(arp.ProtocolAddressSender(), Guest.AsSlice())
	copy(arp.ProtocolAddressTarget(), Router.AsSlice())
	return ethernetFrame(header.ARPProtocolNumber, arp)
}

// A guest that begins connections and never ends their handshake does not keep the
// gateway from its end.
func TestAHandshakeThatNobodyEnds(t *testing.T) {
	port := echo(t)
	ours, theirs := connected(t)
	g, err := Start(ours, Rules{HostPorts: []uint16{port}}, nil)
	peer.Must(t, err)
	for _, f := range [][]byte{arpRequest(), syn(Guest, at(Router, port))} {
		_, err := theirs.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(f))), f...))
		peer.Must(t, err)
	}
	p := make([]byte, maxFrame)
	for {
		frame, err := readFrame(theirs, p)
		peer.Must(t, err)
		if header.Ethernet(frame).Type() != header.IPv4ProtocolNumber {
			continue
		}
		answer := header.TCP(header.IPv4(frame[header.EthernetMinimumSize:]).Payload())
		if answer.Flags() != header.TCPFlagSyn|header.TCPFlagAck {
			t.Fatalf("the answer is %s", answer.Flags())
		}
		break
	}
	g.Close()
	peer.Must(t, theirs.Close())
}

func bytesRepeated(p []byte, n int) [][]byte {
	list := make([][]byte, n)
	for i := range list {
		list[i] = p
	}
	return list
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 9, 0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add(append([]byte{0, 0, 0, 54}, syn(Guest, at(Router, 80))...))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		p := make([]byte, maxFrame)
		for {
			before := r.Len()
			frame, err := readFrame(r, p)
			if err != nil {
				return
			}
			if got := before - r.Len(); got != lengthSize+len(frame) {
				t.Fatalf("%d bytes for a frame of %d", got, len(frame))
			}
			admissible(frame)
		}
	})
}

// What is let in harms no stack: frames go through a whole gateway.
func FuzzFrames(f *testing.F) {
	f.Add(syn(Guest, at(Router, 80)), []byte{})
	f.Add(ethernetFrame(header.ARPProtocolNumber, make([]byte, 28)), syn(Guest, netip.MustParseAddrPort("10.0.2.3:53")))
	f.Add(ethernetFrame(header.IPv4ProtocolNumber, ipPacket(Guest, Resolver, header.UDPProtocolNumber, []byte{0, 9, 0, 53, 0, 8, 0, 0})), []byte{})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		ours, theirs := connected(t)
		g, err := Start(ours, Rules{Alone: true}, nil) // or it would look for what frames name in the world
		peer.Must(t, err)
		for _, frame := range [][]byte{first, second} {
			if len(frame) > maxFrame {
				return
			}
			_, err := theirs.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
			peer.Must(t, err)
		}
		// Half an end: what was sent is taken before it is seen.
		peer.Must(t, theirs.(*net.UnixConn).CloseWrite())
		if _, err := io.Copy(io.Discard, theirs); err != nil {
			t.Fatal(err)
		}
		g.Close()
		peer.Must(t, theirs.Close())
	})
}

// What a guest does not take is held for it; so it counts, though both ends have said
// their last word.
func TestAGuestThatTakesNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	peer.Must(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				if _, err := io.Copy(io.Discard, c); err == nil {
					_, _ = c.Write(pattern(64 << 10)) // the reader tells what it misses
				}
			})
		}
	})
	t.Cleanup(func() { peer.Must(t, l.Close()); running.Wait() })
	server := at(Router, uint16(l.Addr().(*net.TCPAddr).Port))
	u := power(t, Rules{HostPorts: []uint16{server.Port()}})
	small := tcpip.TCPReceiveBufferSizeRangeOption{Min: 1, Default: 4096, Max: 4096}
	peer.Must(t, failed(u.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &small)))
	var conns []*gonet.TCPConn
	for range maxConnections {
		c, err := u.dial(limited(t), server)
		peer.Must(t, err)
		peer.Must(t, c.CloseWrite())
		conns = append(conns, c)
	}
	if c, err := u.dial(limited(t), server); err == nil {
		t.Errorf("one more than %d is let in", maxConnections)
		_ = c.Close() // nothing went over it
	}
	for _, c := range conns {
		if n, err := io.Copy(io.Discard, c); n != 64<<10 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		peer.Must(t, c.Close())
	}
	for ctx := limited(t); ; {
		c, err := u.dial(ctx, server)
		if err == nil {
			peer.Must(t, c.Close())
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("all were taken, and yet: %v", err)
		}
	}
}
