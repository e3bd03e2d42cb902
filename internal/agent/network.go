package agent

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// QEMU's user network always has these addresses.
var (
	guestAddress = [4]byte{10, 0, 2, 15}
	guestNetmask = [4]byte{255, 255, 255, 0}
	gateway      = [4]byte{10, 0, 2, 2}
)

const nameserverAddress = "10.0.2.3"

// startNetwork brings up the loopback and the one network device.
func startNetwork() error {
	name, err := appear("the network device", func() (string, bool) {
		_, err := interfaceIndex("eth0")
		return "eth0", err == nil
	})
	if err != nil {
		return err
	}
	if err := configure("lo", [4]byte{127, 0, 0, 1}, [4]byte{255, 0, 0, 0}); err != nil {
		return fmt.Errorf("start the network: lo: %w", err)
	}
	if err := configure(name, guestAddress, guestNetmask); err != nil {
		return fmt.Errorf("start the network: %s: %w", name, err)
	}
	if err := addDefaultRoute(name); err != nil {
		return fmt.Errorf("start the network: add route: %w", err)
	}
	return nil
}

func interfaceIndex(name string) (uint32, error) {
	return withInterface(name, func(fd int, r *unix.Ifreq) error { return unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, r) })
}

// withInterface calls fn with a socket and a request for an interface.
func withInterface(name string, fn func(fd int, r *unix.Ifreq) error) (uint32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := fn(fd, r); err != nil {
		return 0, err
	}
	return r.Uint32(), nil
}

func configure(name string, address, netmask [4]byte) error {
	for _, step := range []struct {
		request uint
		set     func(r *unix.Ifreq) error
	}{
		{unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(address[:]) }},
		{unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr(netmask[:]) }},
		{unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }},
	} {
		if _, err := withInterface(name, func(fd int, r *unix.Ifreq) error {
			return errors.Join(step.set(r), unix.IoctlIfreq(fd, step.request, r))
		}); err != nil {
			return err
		}
	}
	return nil
}

// addDefaultRoute asks for it by rtnetlink: a header, a route message, and the
// attributes gateway and interface.
func addDefaultRoute(name string) error {
	index, err := interfaceIndex(name)
	if err != nil {
		return err
	}
	ne := binary.NativeEndian
	p := make([]byte, 0, 44)
	p = ne.AppendUint32(p, 44)
	p = ne.AppendUint16(p, unix.RTM_NEWROUTE)
	p = ne.AppendUint16(p, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE)
	p = append(p, make([]byte, 8)...) // sequence and port
	p = append(p, unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST)
	p = ne.AppendUint32(p, 0)
	p = ne.AppendUint16(ne.AppendUint16(p, 8), unix.RTA_GATEWAY)
	p = append(p, gateway[:]...)
	p = ne.AppendUint16(ne.AppendUint16(p, 8), unix.RTA_OIF)
	p = ne.AppendUint32(p, index)

	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, p, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < 20 || ne.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("the kernel gave no answer")
	}
	if status := int32(ne.Uint32(answer[16:])); status != 0 {
		return unix.Errno(-status)
	}
	return nil
}
