// Package nic sets up the network devices of the machine it runs on, for programs that
// are the first of a system: addresses of IPv4, routes, up and down.
package nic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Exists tells whether there is a device of the name.
func Exists(name string) bool {
	_, err := interfaceIndex(name)
	return err == nil
}

// Up brings a device up without an address.
func Up(name string) error { return setFlags(name, unix.IFF_UP|unix.IFF_RUNNING) }

// Down takes a device's address away and brings it down.
func Down(name string) error {
	return errors.Join(setAddress(name, unix.SIOCSIFADDR, netip.IPv4Unspecified()), setFlags(name, 0))
}

// Configure gives a device an address with the prefix of its network, and brings it up.
func Configure(name string, address netip.Prefix) error {
	if err := setAddress(name, unix.SIOCSIFADDR, address.Addr()); err != nil {
		return err
	}
	var mask [4]byte
	binary.BigEndian.PutUint32(mask[:], ^uint32(0)<<(32-address.Bits()))
	if err := setAddress(name, unix.SIOCSIFNETMASK, netip.AddrFrom4(mask)); err != nil {
		return err
	}
	return Up(name)
}

// is4 refuses what is no address of IPv4.
func is4(address netip.Addr) error {
	if !address.Is4() {
		return fmt.Errorf("%s is no address of IPv4", address)
	}
	return nil
}

func setAddress(name string, request uint, address netip.Addr) error {
	if err := is4(address); err != nil {
		return err
	}
	four := address.As4()
	_, err := withInterface(name, func(fd int, r *unix.Ifreq) error {
		return errors.Join(r.SetInet4Addr(four[:]), unix.IoctlIfreq(fd, request, r))
	})
	return err
}

func setFlags(name string, flags uint16) error {
	_, err := withInterface(name, func(fd int, r *unix.Ifreq) error {
		r.SetUint16(flags)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
	})
	return err
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

// DefaultRoute leads what is for elsewhere to a gateway on a device's network. It asks
// for it by rtnetlink: a header, a route message, and the attributes gateway and interface.
func DefaultRoute(name string, gateway netip.Addr) error {
	if err := is4(gateway); err != nil {
		return err
	}
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
	p = append(p, gateway.AsSlice()...)
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
