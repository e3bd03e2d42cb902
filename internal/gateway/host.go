package gateway

import (
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// allow asks the rules, and tells of a port of the host that was refused.
func (g *Gateway) allow(to netip.AddrPort) (netip.AddrPort, bool) {
	own, err := ownAddresses(to.Addr())
	if err != nil { // not knowing which they are, it might be one
		return netip.AddrPort{}, false
	}
	target, ok := g.rules.reach(to, own)
	if !ok && to.Addr() == Router && !g.rules.Alone {
		g.refused.tell(to.Port(), g.sink)
	}
	return target, ok
}

// ownAddresses are those of this host now: of its interfaces, and the destination, if a
// route says that it is here. Such addresses, of load balancers for one, are on no
// interface.
func ownAddresses(destination netip.Addr) ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	var own []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, p.Addr().Unmap())
		}
	}
	if source, ok := sourceFor(destination); ok && source == destination {
		own = append(own, destination)
	}
	return own, err
}

// sourceFor is the address that the host would have towards another; that itself, if it
// is the host's own. Nothing is sent.
func sourceFor(destination netip.Addr) (netip.Addr, bool) {
	const anyPort = 9
	c, err := dialUDP(netip.AddrPortFrom(destination, anyPort))
	if err != nil { // there is no way there
		return netip.Addr{}, false
	}
	defer c.Close() // nothing has gone over it
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), true
}

// dialUDP makes a socket for datagrams to one address, which may not be a broadcast's:
// the host's own services hear those, too.
func dialUDP(to netip.AddrPort) (*net.UDPConn, error) {
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		controlErr := raw.Control(func(fd uintptr) {
			// Go allows it for every socket (sendto(2), EACCES).
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 0)
		})
		if controlErr != nil {
			return controlErr
		}
		return err
	}}
	c, err := dialer.Dial("udp4", to.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}
