package gateway

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"herdbook/internal/event"
)

// Rules say what a guest may reach. With the zero value that is the world, but nothing
// of the host's loopback.
type Rules struct {
	Alone     bool                  // it has DHCP and nobody else to talk to
	Hosts     map[string]netip.Addr // names that its resolver answers itself, with IPv4 addresses
	HostPorts []uint16              // ports of the host's 127.0.0.1 that it may reach, at Router
	DNS       []netip.AddrPort      // servers that its resolver asks; none: those of the host's /etc/resolv.conf
	Forward   []Forward             // ports of the host's 127.0.0.1 that lead into it
}

// Forward passes what connects to a port of the host's 127.0.0.1 on to a port of the
// guest.
type Forward struct {
	Host, Guest uint16
}

func (r Rules) check() error {
	for name, a := range r.Hosts {
		if !a.Is4() {
			return fmt.Errorf("the address of %s is %s: a guest has IPv4 only", name, a)
		}
		if !isName(name) {
			return fmt.Errorf("%q is not the name of a host", name)
		}
	}
	for _, s := range r.DNS {
		if !s.IsValid() || s.Port() == 0 {
			return fmt.Errorf("%s is not the address of a name server", s)
		}
	}
	for _, f := range r.Forward {
		if f.Host == 0 || f.Guest == 0 {
			return fmt.Errorf("port %d cannot be forwarded to port %d: ports begin with 1", f.Host, f.Guest)
		}
	}
	return nil
}

// isName tells what fits into a question of DNS.
func isName(name string) bool {
	if len(name) == 0 || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) == 0 || len(label) > 63 {
			return false
		}
	}
	return true
}

// Where no guest may get to, whatever is named. 0.0.0.0 means the loopback to Linux;
// at 169.254.169.254, Alibaba's at 100.100.100.200 and Azure's at 168.63.129.16, too,
// clouds give their credentials to whoever asks from the host.
var nowhere = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("100.100.100.200/32"),
	netip.MustParsePrefix("168.63.129.16/32"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("240.0.0.0/4"),
	subnet,
}

// reach tells where on the host's side a destination of the guest's lies; false if it
// must not get there. The addresses of the host itself, which are own, are as the
// loopback: a firewall of the host takes what goes to them from the host for its own.
func (r Rules) reach(to netip.AddrPort, own []netip.Addr) (netip.AddrPort, bool) {
	a := to.Addr().Unmap()
	named := slices.Contains(r.HostPorts, to.Port())
	switch {
	case r.Alone || !a.Is4() || to.Port() == 0:
		return netip.AddrPort{}, false
	case a == Router:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port()), named
	case slices.ContainsFunc(nowhere, func(p netip.Prefix) bool { return p.Contains(a) }):
		return netip.AddrPort{}, false
	case slices.Contains(own, a):
		return netip.AddrPortFrom(a, to.Port()), named
	}
	return netip.AddrPortFrom(a, to.Port()), true
}

// maxNotices bounds the refused ports that are told of.
const maxNotices = 8

// refusals are the ports of the host that a guest was refused.
type refusals struct {
	mu    sync.Mutex
	ports []uint16
}

// tell tells once of each port, and what to do.
func (r *refusals) tell(port uint16, sink event.Sink) {
	r.mu.Lock()
	known := slices.Contains(r.ports, port) || len(r.ports) == maxNotices
	if !known {
		r.ports = append(r.ports, port)
	}
	r.mu.Unlock()
	if !known {
		sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("the guest was refused port %d of this host: name it in host_ports if it may go there", port)})
	}
}
