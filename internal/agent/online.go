package agent

import (
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/wire"
)

// addressTime is how long an interface may take to get an address, when the system says
// that it is online or has come up. Where the image configures none it is waited in vain.
const addressTime = 30 * time.Second

// awaitAddress waits until the booted system has an address by its own configuration:
// its network-online.target is reached even if nothing configures a network.
func awaitAddress(g *wire.Guest) error {
	if isOnline() {
		return nil
	}
	g.Phase("wait for an address")
	addresses := news{unix.NETLINK_ROUTE, 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1)}
	online, err := addresses.look(addressTime, isOnline)
	if err == nil && !online {
		err = errors.New("no network interface has got an address: the step has a network card with DHCP behind it, which the image must configure itself, " +
			"as its clones will, by systemd-networkd, ifupdown, NetworkManager or the like")
	}
	return err
}

// isOnline tells whether an interface has an address: of IPv4, to which there always is
// a route, or one of IPv6 that is not the link's alone.
func isOnline() bool {
	routes, _ := os.ReadFile("/proc/net/route")
	addresses, _ := os.ReadFile("/proc/net/if_inet6")
	return hasRoute(string(routes)) || hasAddress(string(addresses))
}

// hasRoute reads /proc/net/route (proc(5)): a header, then lines that begin with an
// interface.
func hasRoute(text string) bool {
	for n, line := range strings.Split(text, "\n") {
		if fields := strings.Fields(line); n > 0 && len(fields) > 0 && fields[0] != "lo" {
			return true
		}
	}
	return false
}

// hasAddress reads /proc/net/if_inet6: address, index, length of the prefix, scope, flags
// and interface. The scope 00 is global (include/net/ipv6.h).
func hasAddress(text string) bool {
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) == 6 && fields[3] == "00" && fields[5] != "lo" {
			return true
		}
	}
	return false
}
