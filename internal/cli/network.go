package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"herdbook/internal/gateway"
)

// networkFlags are those of every command whose guest may have a network.
type networkFlags struct {
	network   bool
	hostPorts []uint
}

func (f *networkFlags) add(c *cobra.Command) {
	c.Flags().BoolVar(&f.network, "network", false, "give what runs in the guest a network, from which it reaches the world and nothing on this host")
	c.Flags().UintSliceVar(&f.hostPorts, "host-port", nil, "with --network: a port of this host's loopback that the guest may reach at 10.0.2.2")
}

func (f *networkFlags) check() error {
	for _, port := range f.hostPorts {
		if port < 1 || port > 65535 {
			return usageError{fmt.Sprintf("--host-port=%d: want a port from 1 to 65535", port)}
		}
	}
	if len(f.hostPorts) > 0 && !f.network {
		return usageError{"--host-port needs --network, without which the guest has no network at all"}
	}
	return nil
}

// rules are what the guest may reach; nil if that is nothing.
func (f *networkFlags) rules() *gateway.Rules {
	if !f.network {
		return nil
	}
	rules := &gateway.Rules{}
	for _, port := range f.hostPorts {
		rules.HostPorts = append(rules.HostPorts, uint16(port))
	}
	return rules
}
