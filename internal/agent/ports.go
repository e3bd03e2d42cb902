package agent

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/op"
)

// lookAgain is how often the kernel's list of sockets is read: it has no event for
// one that begins to listen.
const lookAgain = 200 * time.Millisecond

// askPort waits until something listens on a port, or makes sure that nothing does
// now. It reads the kernel's list of sockets and connects to none: a service would see
// a client that says nothing, and UDP would not tell.
func askPort(ctx context.Context, c op.PortCheck) error {
	waiting, cancel := context.WithTimeout(ctx, c.Wait)
	defer cancel()
	for {
		at, err := listening("/proc/net", c)
		if err != nil {
			return fmt.Errorf("find out who listens on %s: %w", &c, err)
		}
		open, err := reached(at, c)
		if err != nil {
			return err
		}
		switch {
		case open && c.Open, !open && !c.Open:
			return nil
		case open:
			return fmt.Errorf("something listens on %s (at %s), where nothing may", &c, addresses(at))
		}
		select {
		case <-waiting.Done():
			return notOpen(c, at)
		case <-time.After(lookAgain):
		}
	}
}

func notOpen(c op.PortCheck, at []netip.Addr) error {
	if len(at) > 0 {
		return fmt.Errorf("nothing listens on %s, only at %s", &c, addresses(at))
	}
	return fmt.Errorf("nothing listens on %s", &c)
}

func addresses(at []netip.Addr) string {
	var names []string
	for _, a := range at {
		names = append(names, a.String())
	}
	return strings.Join(names, ", ")
}

// States of a socket that takes what comes, in the kernel's tables: TCP_LISTEN, and
// TCP_CLOSE of UDP's that are not connected.
var listens = map[string]string{"tcp": "0A", "udp": "07"}

// listening lists the local addresses of the sockets that listen on a port.
func listening(dir string, c op.PortCheck) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, family := range []string{"", "6"} {
		f, err := os.Open(dir + "/" + c.Protocol + family)
		if errors.Is(err, fs.ErrNotExist) {
			continue // this kernel has no IPv6
		}
		if err != nil {
			return nil, err
		}
		at, err := sockets(f, listens[c.Protocol], c.Port)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		all = append(all, at...)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all), nil
}

// sockets reads a table of the kernel's (proc_net(5)): number, local address, remote
// address, state and more, a socket a line.
func sockets(r io.Reader, state string, port int) ([]netip.Addr, error) {
	var all []netip.Addr
	s := bufio.NewScanner(r)
	for s.Scan() {
		fields := strings.Fields(s.Text())
		if len(fields) < 4 || fields[3] != state {
			continue // the heading, too
		}
		address, number, ok := strings.Cut(fields[1], ":")
		if !ok || number != fmt.Sprintf("%04X", port) {
			continue
		}
		at, err := kernelAddress(address)
		if err != nil {
			return nil, err
		}
		all = append(all, at)
	}
	return all, s.Err()
}

// kernelAddress reads an address as the kernel prints it: words of four bytes, each a
// number of the processor's.
func kernelAddress(text string) (netip.Addr, error) {
	p, err := hex.DecodeString(text)
	if err != nil || len(p)%4 != 0 {
		return netip.Addr{}, fmt.Errorf("%q is no address of the kernel's", text)
	}
	for i := 0; i < len(p); i += 4 {
		binary.NativeEndian.PutUint32(p[i:], binary.BigEndian.Uint32(p[i:]))
	}
	at, ok := netip.AddrFromSlice(p)
	if !ok {
		return netip.Addr{}, fmt.Errorf("%q is no address of the kernel's", text)
	}
	return at.Unmap(), nil
}

// reached tells whether one of the sockets takes what comes to the address that is
// asked for.
func reached(at []netip.Addr, c op.PortCheck) (bool, error) {
	if c.Address == "" {
		return len(at) > 0, nil
	}
	want, err := netip.ParseAddr(c.Address)
	if err != nil {
		return false, err
	}
	want = want.Unmap().WithZone("")
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	switch {
	case slices.Contains(at, want), want.Is4() && slices.Contains(at, any4), want.Is6() && slices.Contains(at, any6):
		return true, nil
	case want.Is4() && slices.Contains(at, any6):
		// Whether it takes IPv4, too, is not in the table.
		return taken(c.Protocol, c.Port)
	}
	return false, nil
}

// taken tells whether a port of IPv4 is somebody's, by an attempt to have it.
func taken(protocol string, port int) (bool, error) {
	kind := map[string]int{"tcp": unix.SOCK_STREAM, "udp": unix.SOCK_DGRAM}[protocol]
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("make a socket: %w", err)
	}
	defer unix.Close(fd)
	err = unix.Bind(fd, &unix.SockaddrInet4{Port: port})
	if errors.Is(err, unix.EADDRINUSE) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("find out whether %s/%d is taken: %w", protocol, port, err)
	}
	return false, nil
}
