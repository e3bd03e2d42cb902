package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
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
	"herdbook/internal/peer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// guest is the other end of the link: a stack of gVisor's with an interface of its own
// behind a socket, as QEMU has one.
type guest struct {
	*Gateway
	conn  net.Conn
	stack *stack.Stack
	link  *channel.Endpoint

	mu      sync.Mutex
	notices []string
}

// connected is both ends of a stream socket.
func connected(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	peer.Must(t, err)
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		ends[i], err = net.FileConn(f)
		peer.Must(t, errors.Join(err, f.Close()))
	}
	return ends[0], ends[1]
}

// power starts a gateway with a guest that has its address.
func power(t *testing.T, rules Rules) *guest {
	t.Helper()
	ours, theirs := connected(t)
	u := &guest{conn: theirs}
	g, err := Start(ours, rules, u.sink)
	peer.Must(t, err)
	u.Gateway = g
	u.link = channel.New(4096, mtu+header.EthernetMinimumSize, tcpip.LinkAddress("\x52\x54\x00\x12\x34\x56"))
	u.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	peer.Must(t, failed(u.stack.CreateNIC(nic, ethernet.New(u.link))))
	peer.Must(t, failed(u.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{
		Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(Guest), PrefixLen: 24},
	}, stack.AddressProperties{})))
	u.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, Gateway: address(Router), NIC: nic},
	})
	local, err := tcpip.NewSubnet(address(subnet.Addr()), tcpip.MaskFromBytes(net.CIDRMask(24, 32)))
	peer.Must(t, err)
	u.stack.SetRouteTable(append([]tcpip.Route{{Destination: local, NIC: nic}}, u.stack.GetRouteTable()...))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			var length [4]byte
			if _, err := io.ReadFull(theirs, length[:]); err != nil {
				return
			}
			p := make([]byte, binary.BigEndian.Uint32(length[:]))
			if _, err := io.ReadFull(theirs, p); err != nil {
				return
			}
			packet := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p)})
			u.link.InjectInbound(0, packet)
			packet.DecRef()
		}
	})
	running.Go(func() {
		for {
			packet := u.link.ReadContext(ctx)
			if packet == nil {
				return
			}
			p := packet.ToView().AsSlice()
			_, err := theirs.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...))
			packet.DecRef()
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		peer.Must(t, theirs.Close())
		g.Close()
		u.stack.Close()
		running.Wait()
		u.link.Close()
		u.stack.Wait()
	})
	return u
}

func (u *guest) sink(e event.Event) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.notices = append(u.notices, e.Text)
}

// dial connects from inside the guest.
func (u *guest) dial(ctx context.Context, to netip.AddrPort) (*gonet.TCPConn, error) {
	return gonet.DialContextTCP(ctx, u.stack, fullAddress(to.Addr(), to.Port()), ipv4.ProtocolNumber)
}

// listen listens inside the guest.
func (u *guest) listen(t *testing.T, port uint16) net.Listener {
	t.Helper()
	l, err := gonet.ListenTCP(u.stack, fullAddress(Guest, port), ipv4.ProtocolNumber)
	peer.Must(t, err)
	t.Cleanup(func() { l.Shutdown(); _ = l.Close() })
	return l
}

// udp is a socket of the guest that is connected to an address.
func (u *guest) udp(t *testing.T, to netip.AddrPort) *gonet.UDPConn {
	t.Helper()
	remote := fullAddress(to.Addr(), to.Port())
	c, err := gonet.DialUDP(u.stack, nil, &remote, ipv4.ProtocolNumber)
	peer.Must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// echo is a server of the host's loopback that sends back what it gets, when all of it
// has come.
func echo(t *testing.T) (port uint16) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	peer.Must(t, err)
	serveEcho(t, l)
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func serveEcho(t *testing.T, l net.Listener) {
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				var text bytes.Buffer
				if _, err := io.Copy(&text, c); err == nil {
					_, _ = c.Write(text.Bytes()) // the reader tells what it misses
				}
			})
		}
	})
	t.Cleanup(func() {
		if s, ok := l.(*gonet.TCPListener); ok {
			s.Shutdown()
		}
		_ = l.Close()
		running.Wait()
	})
}

// ended is what a stream with a half-close is.
type ended interface {
	net.Conn
	CloseWrite() error
}

// converse sends text to an echo and returns what came back.
func converse(c ended, text []byte) ([]byte, error) {
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(text)
		sent <- errors.Join(err, c.CloseWrite())
	}()
	got, err := io.ReadAll(c)
	return got, errors.Join(err, <-sent, c.Close())
}
