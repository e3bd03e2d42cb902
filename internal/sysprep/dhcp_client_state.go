package sysprep

import "errors"

// dhcpClientState removes leases, so that no clone asks for another's address, and
// the DUIDs by which servers tell machines apart.
func dhcpClientState(t *task) error {
	return errors.Join(
		t.root.Empty("/var/lib/dhclient", "/var/lib/dhcp", "/var/lib/dhcpcd{,5}", "/run/systemd/netif/leases"),
		t.root.Unlink("/var/lib/NetworkManager/*.lease", "/etc/dhcpcd.{duid,secret}"),
	)
}
