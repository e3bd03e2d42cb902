package ramroot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"golang.org/x/sys/unix"

	"herdbook/internal/nic"
)

// Limits of the way to a network.
const (
	onlineTime = 2 * time.Minute // links of switches with spanning tree need one of them
	dhcpTry    = 5 * time.Second
)

// lease is an address that a device was given.
type lease struct {
	device  string
	address netip.Prefix
	routers []net.IP
	servers []net.IP // of names
}

// online brings the machine into the first network that gives it an address. The function
// that it returns takes that away again: the system finds its devices as they were.
func online() (offline func(), err error) {
	list, err := readDrivers()
	if err != nil {
		return nil, err
	}
	if err := nic.Configure("lo", netip.MustParsePrefix("127.0.0.1/8")); err != nil {
		return nil, fmt.Errorf("bring up lo: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), onlineTime, fmt.Errorf("no network gave an address within %v", onlineTime))
	defer cancel()
	leases, asked, err := ask(ctx, list)
	if err != nil {
		return nil, err
	}
	select {
	case l := <-leases:
		cancel() // the others
		return func() {
			for _, device := range asked() {
				_ = nic.Down(device) // what stays is the system's to set up
			}
		}, l.use()
	case <-ctx.Done():
		devices := asked()
		if len(devices) == 0 {
			return nil, errors.New("there is no network device that this initrd has a driver for" + lackOfFirmware(kernelLog()))
		}
		return nil, fmt.Errorf("ask for an address on %s: %w%s", strings.Join(devices, ", "), context.Cause(ctx), lackOfFirmware(kernelLog()))
	}
}

// ask asks on every device, as they appear, for an address. Asked tells on which.
func ask(ctx context.Context, list drivers) (_ <-chan lease, asked func() []string, err error) {
	events, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err == nil {
		err = unix.Bind(events, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("listen for devices: %w", err)
	}
	leases, devices := make(chan lease), make(chan []string, 1)
	devices <- nil
	go func() {
		defer unix.Close(events)
		hardware, known := map[string]bool{}, map[string]bool{}
		for ctx.Err() == nil {
			if err := list.load(hardware); err != nil {
				say("herdbook: " + err.Error()) // another device may do
			}
			for _, name := range unasked(known) {
				devices <- append(<-devices, name)
				go keepAsking(ctx, name, leases)
			}
			// sysfs entries may come a moment after their event.
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(events), Events: unix.POLLIN}}, 500)
			var event [8 << 10]byte
			_, _, _ = unix.Recvfrom(events, event[:], unix.MSG_DONTWAIT)
		}
	}()
	return leases, func() []string { d := <-devices; devices <- d; return d }, nil
}

// unasked are the devices that were not known, and are from now on.
func unasked(known map[string]bool) (names []string) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil // the next look may tell
	}
	for _, d := range devices {
		if d.Flags&net.FlagLoopback == 0 && len(d.HardwareAddr) == 6 && !known[d.Name] {
			known[d.Name] = true
			names = append(names, d.Name)
		}
	}
	return names
}

// keepAsking asks on a device until there is an answer.
func keepAsking(ctx context.Context, device string, leases chan<- lease) {
	for ctx.Err() == nil {
		l, err := askOnce(ctx, device)
		if err != nil {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case leases <- l:
		case <-ctx.Done():
		}
		return
	}
}

func askOnce(ctx context.Context, device string) (l lease, err error) {
	if err := nic.Up(device); err != nil {
		return l, err
	}
	client, err := nclient4.New(device, nclient4.WithTimeout(dhcpTry), nclient4.WithRetry(1))
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	got, err := client.Request(ctx)
	if err != nil {
		return l, err
	}
	return newLease(device, got.ACK)
}

// newLease reads a server's answer.
func newLease(device string, ack *dhcpv4.DHCPv4) (lease, error) {
	address, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	bits, size := ack.SubnetMask().Size()
	if !ok || size != 32 {
		return lease{}, errors.New("the DHCP server's answer has no IPv4 address and netmask")
	}
	return lease{device, netip.PrefixFrom(address, bits), ack.Router(), ack.DNS()}, nil
}

// use sets the device up.
func (l lease) use() error {
	if err := nic.Configure(l.device, l.address); err != nil {
		return fmt.Errorf("give %s the address %s: %w", l.device, l.address, err)
	}
	for _, r := range l.routers {
		if gateway, ok := netip.AddrFromSlice(r.To4()); ok {
			if err := nic.DefaultRoute(l.device, gateway); err != nil {
				return fmt.Errorf("route by %s: %w", gateway, err)
			}
			break
		}
	}
	return os.WriteFile("/etc/resolv.conf", []byte(l.resolvConf()), 0o644)
}

func (l lease) resolvConf() string {
	var text strings.Builder
	for _, s := range l.servers {
		fmt.Fprintf(&text, "nameserver %s\n", s)
	}
	return text.String()
}
