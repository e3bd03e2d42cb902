package gateway

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"herdbook/internal/peer"
)

// broadcasts are the broadcast addresses of the host's interfaces.
func broadcasts(t *testing.T) (list []netip.Addr) {
	t.Helper()
	own, err := net.InterfaceAddrs()
	peer.Must(t, err)
	for _, a := range own {
		p, err := netip.ParsePrefix(a.String())
		peer.Must(t, err)
		if !p.Addr().Is4() || p.Addr().IsLoopback() || p.Bits() > 30 {
			continue
		}
		last := binary.BigEndian.Uint32(p.Addr().AsSlice()) | (1<<(32-p.Bits()) - 1)
		list = append(list, netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, last))))
	}
	return list
}

// What is sent to all of a network, the host itself hears, too.
func TestABroadcastDoesNotReachTheHost(t *testing.T) {
	all := broadcasts(t)
	if len(all) == 0 {
		t.Skip("no interface of this host has a broadcast address")
	}
	service, err := net.ListenPacket("udp4", "0.0.0.0:0")
	peer.Must(t, err)
	defer service.Close()
	port := uint16(service.LocalAddr().(*net.UDPAddr).Port)
	named := echo(t)
	u := power(t, Rules{HostPorts: []uint16{named}})
	for _, to := range all {
		_, err := u.udp(t, at(to, port)).Write([]byte("from the guest"))
		peer.Must(t, err)
	}
	// Frames are taken in turn: when this is through, so are they.
	c, err := u.dial(limited(t), at(Router, named))
	peer.Must(t, err)
	_, err = converse(c, []byte("x"))
	peer.Must(t, err)
	// A flow that was let in would be counted until it has been idle for long, and one that
	// has begun passes on what it has.
	if n := u.flows.Load(); n != 0 {
		t.Errorf("%d flows have begun", n)
		p := make([]byte, 100)
		n, _, err := service.ReadFrom(p)
		t.Errorf("the service of the host heard %q, %v", p[:n], err)
	}
}

// An address that only a route makes the host's own is its own.
func TestAnAddressOfTheHostByARoute(t *testing.T) {
	inNetworkNamespace(t, func() {
		for _, args := range [][]string{{"link", "set", "lo", "up"}, {"route", "add", "local", "198.51.100.0/24", "dev", "lo"}} {
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				t.Errorf("ip %q: %v: %s", args, err, out)
				return
			}
		}
		a := netip.MustParseAddr("198.51.100.7")
		own, err := ownAddresses(a)
		if err != nil || !slices.Contains(own, a) {
			t.Errorf("%v, %v", own, err)
		}
		if got, ok := (Rules{}).reach(at(a, 22), own); ok {
			t.Errorf("%s is reached", got)
		}
	})
}

// inNetworkNamespace calls a function in a thread that has a network of its own.
func inNetworkNamespace(t *testing.T, f func()) {
	t.Helper()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			f()
		}
		result <- err
	}()
	switch err := <-result; err {
	case nil:
	case unix.EPERM:
		t.Skip("only root can make a network for a test")
	default:
		t.Fatal(err)
	}
}
