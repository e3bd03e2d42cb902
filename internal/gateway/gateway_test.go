package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"

	"herdbook/internal/peer"
)

// soon bounds what must happen at once. It hides no hang: whoever waits longer fails.
const soon = 2 * time.Minute

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	t.Cleanup(cancel)
	return ctx
}

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

func pattern(n int) []byte {
	text := make([]byte, n)
	for i := range text {
		text[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return text
}

func TestANamedPortIsReachedAndEndsByHalves(t *testing.T) {
	port := echo(t)
	u := power(t, Rules{HostPorts: []uint16{port}})
	c, err := u.dial(limited(t), at(Router, port))
	peer.Must(t, err)
	want := pattern(2 << 20)
	got, err := converse(c, want)
	peer.Must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back of %d, or others", len(got), len(want))
	}
}

// What listens and is not named is refused, wherever the guest looks for it, and at
// once: by a reset.
func TestWhatIsNotNamedIsRefused(t *testing.T) {
	port, named := echo(t), echo(t)
	own, err := ownAddresses(Router)
	peer.Must(t, err)
	// Not where it could be met on the loopback by chance: on each address of the host.
	everywhere, err := net.Listen("tcp", ":0")
	peer.Must(t, err)
	serveEcho(t, everywhere)
	wide := uint16(everywhere.Addr().(*net.TCPAddr).Port)
	u := power(t, Rules{HostPorts: []uint16{named}})
	targets := []netip.AddrPort{at(Router, port), at(Router, wide), at(Resolver, port), at(netip.MustParseAddr("10.0.2.77"), port), at(netip.MustParseAddr("169.254.169.254"), 80)}
	for _, a := range own {
		if a.Is4() && !a.IsLoopback() {
			targets = append(targets, at(a, wide))
		}
	}
	for _, to := range targets {
		if to.Addr() == netip.MustParseAddr("10.0.2.77") {
			continue // it is on the guest's own link, and nobody has it
		}
		if _, err := u.dial(limited(t), to); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v", to, err)
		}
	}
	for _, want := range []uint16{port, wide} {
		text := fmt.Sprintf("refused port %d of this host", want)
		u.mu.Lock()
		if !slices.ContainsFunc(u.notices, func(n string) bool { return strings.Contains(n, text) }) {
			t.Errorf("no notice says %q: %q", text, u.notices)
		}
		u.mu.Unlock()
	}
	c, err := u.dial(limited(t), at(Router, named)) // and all goes on
	peer.Must(t, err)
	if got, err := converse(c, []byte("x")); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

// The rules alone, with every trick that an address can be.
func TestReach(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("::1")}
	rules := Rules{HostPorts: []uint16{8140}}
	for to, want := range map[string]string{
		"10.0.2.2:8140":          "127.0.0.1:8140",
		"[::ffff:10.0.2.2]:8140": "127.0.0.1:8140",
		"10.0.2.2:8141":          "",
		"10.0.2.3:8140":          "",
		"10.0.2.15:8140":         "",
		"10.0.2.255:8140":        "",
		"127.0.0.1:8140":         "",
		"127.9.9.9:8140":         "",
		"[::ffff:127.0.0.1]:22":  "",
		"[::1]:8140":             "",
		"[2001:db8::1]:80":       "",
		"0.0.0.0:8140":           "",
		"0.1.2.3:8140":           "",
		"[::]:8140":              "",
		"169.254.169.254:80":     "",
		"100.100.100.200:80":     "",
		"168.63.129.16:80":       "",
		"100.100.100.201:80":     "100.100.100.201:80",
		"224.0.0.1:8140":         "",
		"255.255.255.255:8140":   "",
		"240.0.0.1:80":           "",
		"192.0.2.7:22":           "",
		"192.0.2.7:8140":         "192.0.2.7:8140",
		"192.0.2.8:22":           "192.0.2.8:22",
		"192.0.2.8:0":            "",
		"8.8.8.8:53":             "8.8.8.8:53",
		"10.0.3.2:80":            "10.0.3.2:80",
	} {
		got, ok := rules.reach(netip.MustParseAddrPort(to), own)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s: %v, %v, want %q", to, got, ok, want)
		}
		if got, ok := (Rules{Alone: true, HostPorts: rules.HostPorts}).reach(netip.MustParseAddrPort(to), own); ok {
			t.Errorf("%s: alone, it reaches %s", to, got)
		}
	}
}

// A connection that the host cannot make fails for the guest, too.
func TestAServerThatIsGone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	peer.Must(t, err)
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	peer.Must(t, l.Close())
	u := power(t, Rules{HostPorts: []uint16{port}})
	if _, err := u.dial(limited(t), at(Router, port)); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
}

// One that breaks in the middle is no end of the text.
func TestAResetIsPassedOn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	peer.Must(t, err)
	defer l.Close()
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	u := power(t, Rules{HostPorts: []uint16{port}})
	c, err := u.dial(limited(t), at(Router, port))
	peer.Must(t, err)
	server, err := l.Accept()
	peer.Must(t, err)
	_, err = server.Write([]byte("half of it"))
	peer.Must(t, err)
	_, err = io.ReadFull(c, make([]byte, 10))
	peer.Must(t, err)
	peer.Must(t, server.(*net.TCPConn).SetLinger(0))
	peer.Must(t, server.Close())
	if n, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("%d, %v", n, err)
	}
	peer.Must(t, c.Close())
}

func TestManyConnectionsAtOnce(t *testing.T) {
	port := echo(t)
	u := power(t, Rules{HostPorts: []uint16{port}})
	ctx := limited(t)
	errs := make([]error, 200)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			c, err := u.dial(ctx, at(Router, port))
			if err != nil {
				errs[i] = err
				return
			}
			want := pattern(200 * (i + 1))
			got, err := converse(c, want)
			if err == nil && !bytes.Equal(got, want) {
				err = fmt.Errorf("%d bytes of %d", len(got), len(want))
			}
			errs[i] = err
		})
	}
	all.Wait()
	peer.Must(t, errors.Join(errs...))
}

// Those beyond the bound are reset, and there is room again when others have ended.
func TestTooManyConnections(t *testing.T) {
	port := echo(t)
	u := power(t, Rules{HostPorts: []uint16{port}})
	ctx := limited(t)
	var open []ended
	for range maxConnections {
		c, err := u.dial(ctx, at(Router, port))
		peer.Must(t, err)
		open = append(open, c)
	}
	if _, err := u.dial(ctx, at(Router, port)); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("one more: %v", err)
	}
	for _, c := range open {
		_, err := converse(c, nil)
		peer.Must(t, err)
	}
	for { // the last ones end a moment later on the other side
		c, err := u.dial(ctx, at(Router, port))
		if err == nil {
			_, err = converse(c, nil)
			peer.Must(t, err)
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func TestDial(t *testing.T) {
	u := power(t, Rules{})
	serveEcho(t, u.listen(t, 22))
	for range 3 {
		c, err := u.Dial(limited(t), 22)
		peer.Must(t, err)
		want := pattern(1 << 20)
		got, err := converse(c.(ended), want)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	if _, err := u.Dial(limited(t), 23); err == nil || !strings.Contains(err.Error(), "port 23 of the guest") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a closed port: %v", err)
	}
	if _, err := u.Dial(limited(t), 0); err == nil {
		t.Error("port 0")
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := u.Dial(ctx, 22); err != nil && !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
	u.Close()
	if _, err := u.Dial(t.Context(), 22); !errors.Is(err, net.ErrClosed) {
		t.Errorf("behind the end: %v", err)
	}
}

// freePort is a port of the loopback that was free a moment ago.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	peer.Must(t, err)
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func TestForward(t *testing.T) {
	port := freePort(t)
	u := power(t, Rules{Forward: []Forward{{Host: port, Guest: 22}, {Host: freePort(t), Guest: 23}}})
	serveEcho(t, u.listen(t, 22))
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	peer.Must(t, err)
	want := pattern(3 << 20)
	got, err := converse(c.(*net.TCPConn), want)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	c, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", u.rules.Forward[1].Host))
	if err == nil { // it may be reset before it is made
		if n, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("a port where nothing listens: %d, %v", n, err)
		}
		peer.Must(t, c.Close())
	}

	ours, theirs := connected(t)
	defer theirs.Close()
	if _, err := Start(ours, Rules{Forward: []Forward{{Host: port, Guest: 22}}}, nil); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a port that is taken: %v", err)
	}
}

func TestDatagrams(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	peer.Must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p := make([]byte, 65535)
		for {
			n, from, err := server.ReadFrom(p)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(p[:n], from) // the reader tells
		}
	}()
	defer func() { peer.Must(t, server.Close()); <-done }()
	port := uint16(server.LocalAddr().(*net.UDPAddr).Port)
	u := power(t, Rules{HostPorts: []uint16{port}})
	c := u.udp(t, at(Router, port))
	peer.Must(t, c.SetDeadline(time.Now().Add(soon)))
	for _, size := range []int{0, 1, 1472, 9000} { // the last one in fragments
		want := pattern(size)
		_, err := c.Write(want)
		peer.Must(t, err)
		p := make([]byte, 65535)
		n, err := c.Read(p)
		if err != nil || !bytes.Equal(p[:n], want) {
			t.Errorf("%d bytes: %d, %v", size, n, err)
		}
	}
	refused := u.udp(t, at(Router, port+1))
	if err := refusal(t, refused); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a port that is not named: %v", err)
	}
}

// refusal sends a datagram until it has an answer, or an error. A gonet.UDPConn that
// waits to read is not told of one, so it is asked again and again.
func refusal(t *testing.T, c net.Conn) error {
	t.Helper()
	for ctx := limited(t); ; {
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		peer.Must(t, c.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
		_, err := c.Read(make([]byte, 100))
		var late net.Error
		if !errors.As(err, &late) || !late.Timeout() || ctx.Err() != nil {
			return err
		}
	}
}

// ping asks for an echo and tells whether it came.
func (u *guest) ping(t *testing.T, to netip.Addr) bool {
	t.Helper()
	var queue waiter.Queue
	e, failure := u.stack.NewEndpoint(icmp.ProtocolNumber4, ipv4.ProtocolNumber, &queue)
	peer.Must(t, failed(failure))
	defer e.Close()
	entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	peer.Must(t, failed(e.Connect(fullAddress(to, 0))))
	p := make([]byte, header.ICMPv4MinimumSize+8)
	header.ICMPv4(p).SetType(header.ICMPv4Echo)
	_, failure = e.Write(bytes.NewReader(p), tcpip.WriteOptions{})
	peer.Must(t, failed(failure))
	if to == Router || to == Resolver {
		<-readable
		return true
	}
	// What does not come has no event: another echo, behind it on the same line, has.
	u.ping(t, Router)
	select {
	case <-readable:
		return true
	default:
		return false
	}
}

func TestOnlyTheGatewayAnswersEchoes(t *testing.T) {
	u := power(t, Rules{})
	for to, want := range map[string]bool{"10.0.2.2": true, "10.0.2.3": true, "192.0.2.1": false} {
		if got := u.ping(t, netip.MustParseAddr(to)); got != want {
			t.Errorf("%s: %v", to, got)
		}
	}
}

func TestAlone(t *testing.T) {
	port := echo(t)
	u := power(t, Rules{Alone: true, HostPorts: []uint16{port}, Hosts: map[string]netip.Addr{"a": Router}})
	for _, to := range []netip.AddrPort{at(Router, port), at(Resolver, 53), netip.MustParseAddrPort("192.0.2.1:80")} {
		if _, err := u.dial(limited(t), to); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v", to, err)
		}
	}
	c := u.udp(t, at(Resolver, 53))
	if err := refusal(t, c); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("the resolver: %v", err)
	}
	if len(u.notices) > 0 {
		t.Errorf("%q", u.notices)
	}
}

func TestSeveralMachines(t *testing.T) {
	first, second := echo(t), echo(t)
	a, b := power(t, Rules{HostPorts: []uint16{first}}), power(t, Rules{HostPorts: []uint16{second}})
	for _, c := range []struct {
		u    *guest
		port uint16
		ok   bool
	}{{a, first, true}, {a, second, false}, {b, first, false}, {b, second, true}} {
		conn, err := c.u.dial(limited(t), at(Router, c.port))
		if (err == nil) != c.ok {
			t.Errorf("%v", err)
		}
		if err == nil {
			peer.Must(t, conn.Close())
		}
	}
}

// The end comes in the middle of everything that is open; goleak looks for what is left.
func TestTheEndWaitsForNobody(t *testing.T) {
	port := echo(t)
	silent := freePort(t)
	u := power(t, Rules{HostPorts: []uint16{port}, Forward: []Forward{{Host: silent, Guest: 9}}})
	l := u.listen(t, 9)
	c, err := u.dial(limited(t), at(Router, port))
	peer.Must(t, err)
	_, err = c.Write(pattern(1000))
	peer.Must(t, err)
	in, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", silent))
	peer.Must(t, err)
	defer in.Close()
	accepted, err := l.Accept()
	peer.Must(t, err)
	dialed, err := u.Dial(limited(t), 9)
	peer.Must(t, err)
	u.Close()
	if _, err := in.Read(make([]byte, 1)); err == nil {
		t.Error("the forwarded connection goes on")
	}
	if _, err := dialed.Read(make([]byte, 1)); err == nil {
		t.Error("the dialed connection goes on")
	}
	peer.Must(t, errors.Join(c.Close(), accepted.Close()))
}

func TestBadRules(t *testing.T) {
	for want, rules := range map[string]Rules{
		"IPv4 only":                     {Hosts: map[string]netip.Addr{"a": netip.MustParseAddr("::1")}},
		"not the name of a host":        {Hosts: map[string]netip.Addr{"a..b": Router}},
		"not the address of a name":     {DNS: []netip.AddrPort{{}}},
		"cannot be forwarded to port 0": {Forward: []Forward{{Host: 1}}},
	} {
		ours, theirs := connected(t)
		if _, err := Start(ours, rules, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the link is open: %v", err)
		}
		peer.Must(t, theirs.Close())
	}
}
