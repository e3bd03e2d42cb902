package nic

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"herdbook/internal/peer"
)

// device makes a network device in a network of the test's own, which is its thread's and
// that of the programs that it starts.
func device(t *testing.T, name string) {
	t.Helper()
	peer.NeedRoot(t, "a network of its own")
	peer.NeedTool(t, "ip")
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	peer.Must(t, unix.Unshare(unix.CLONE_NEWNET))
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	peer.Need(t, err == nil, fmt.Sprintf("there is no /dev/net/tun: %v", err))
	t.Cleanup(func() { peer.Must(t, f.Close()) }) // the device goes with it
	r, err := unix.NewIfreq(name)
	peer.Must(t, err)
	r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	peer.Must(t, unix.IoctlIfreq(int(f.Fd()), unix.TUNSETIFF, r))
}

// told is what the real ip says of a device's addresses and its state, and of routes.
func told(t *testing.T, name string) (addresses, link, routes string) {
	t.Helper()
	return peer.Run(t, "ip", "-o", "-4", "addr", "show", "dev", name), peer.Run(t, "ip", "-o", "link", "show", "dev", name), peer.Run(t, "ip", "-4", "route")
}

func TestADeviceFromUpToDown(t *testing.T) {
	device(t, "tap0")
	if !Exists("tap0") || Exists("tap1") || Exists(strings.Repeat("long", 10)) {
		t.Error("it is not told what there is")
	}
	peer.Must(t, Up("tap0"))
	if addresses, link, _ := told(t, "tap0"); addresses != "" || !strings.Contains(link, ",UP") {
		t.Errorf("up: %s%s", addresses, link)
	}
	peer.Must(t, Configure("tap0", netip.MustParsePrefix("10.0.2.15/24")))
	peer.Must(t, DefaultRoute("tap0", netip.MustParseAddr("10.0.2.2")))
	addresses, link, routes := told(t, "tap0")
	if !strings.Contains(addresses, "inet 10.0.2.15/24 ") || !strings.Contains(link, ",UP") ||
		!strings.Contains(routes, "default via 10.0.2.2 dev tap0") || !strings.Contains(routes, "10.0.2.0/24 dev tap0") {
		t.Errorf("configured: %s%s%s", addresses, link, routes)
	}
	peer.Must(t, Down("tap0"))
	if addresses, link, routes := told(t, "tap0"); addresses != "" || strings.Contains(link, ",UP") || routes != "" {
		t.Errorf("down: %s%s%s", addresses, link, routes)
	}
	// And once more, as with the next offer of DHCP.
	peer.Must(t, Configure("tap0", netip.MustParsePrefix("192.168.7.9/16")))
	peer.Must(t, DefaultRoute("tap0", netip.MustParseAddr("192.168.0.1")))
	if addresses, _, routes := told(t, "tap0"); strings.Count(addresses, "inet ") != 1 || !strings.Contains(addresses, "inet 192.168.7.9/16 ") || !strings.Contains(routes, "default via 192.168.0.1") {
		t.Errorf("again: %s%s", addresses, routes)
	}
}

func TestPrefixes(t *testing.T) {
	device(t, "tap0")
	for _, prefix := range []string{"10.1.2.3/8", "10.1.2.3/30", "10.1.2.3/31", "10.1.2.3/32", "10.1.2.3/1"} {
		peer.Must(t, Configure("tap0", netip.MustParsePrefix(prefix)))
		if addresses, _, _ := told(t, "tap0"); !strings.Contains(addresses, "inet "+prefix+" ") {
			t.Errorf("%s: %s", prefix, addresses)
		}
	}
	peer.Must(t, Configure("lo", netip.MustParsePrefix("127.0.0.1/8")))
	if addresses, link, _ := told(t, "lo"); !strings.Contains(addresses, "inet 127.0.0.1/8 ") || !strings.Contains(link, ",UP") {
		t.Errorf("%s%s", addresses, link)
	}
}

func TestWhatTheKernelRefuses(t *testing.T) {
	device(t, "tap0")
	here, away, six := netip.MustParsePrefix("10.0.2.15/24"), netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("fd00::1")
	for name, err := range map[string]error{"up": Up("tap1"), "down": Down("tap1"), "configure": Configure("tap1", here), "route": DefaultRoute("tap1", away)} {
		if !errors.Is(err, unix.ENODEV) {
			t.Errorf("%s of no device: %v", name, err)
		}
	}
	if err := Up(strings.Repeat("long", 10)); !errors.Is(err, unix.EINVAL) {
		t.Errorf("of a name that is too long: %v", err)
	}
	peer.Must(t, Configure("tap0", here))
	if err := DefaultRoute("tap0", away); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("by a gateway in another network: %v", err)
	}
	for _, err := range []error{Configure("tap0", netip.PrefixFrom(six, 64)), DefaultRoute("tap0", six), DefaultRoute("tap0", netip.Addr{})} {
		if err == nil || !strings.Contains(err.Error(), "is no address of IPv4") {
			t.Errorf("of IPv6: %v", err)
		}
	}
	if addresses, _, routes := told(t, "tap0"); !strings.Contains(addresses, here.String()) || strings.Contains(routes, "default") {
		t.Errorf("what was before: %s%s", addresses, routes)
	}
}
