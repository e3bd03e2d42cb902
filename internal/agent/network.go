package agent

import (
	"fmt"
	"net/netip"

	"herdbook/internal/nic"
)

// The guest's network always has these addresses: package gateway, on the host.
var (
	guestAddress = netip.MustParsePrefix("10.0.2.15/24")
	gateway      = netip.MustParseAddr("10.0.2.2")
)

const nameserverAddress = "10.0.2.3"

// startNetwork brings up the loopback and the one network device.
func startNetwork() error {
	name, err := appear("the network device", func() (string, bool) {
		return "eth0", nic.Exists("eth0")
	})
	if err != nil {
		return err
	}
	if err := nic.Configure("lo", netip.MustParsePrefix("127.0.0.1/8")); err != nil {
		return fmt.Errorf("start the network: lo: %w", err)
	}
	if err := nic.Configure(name, guestAddress); err != nil {
		return fmt.Errorf("start the network: %s: %w", name, err)
	}
	if err := nic.DefaultRoute(name, gateway); err != nil {
		return fmt.Errorf("start the network: add route: %w", err)
	}
	return nil
}
