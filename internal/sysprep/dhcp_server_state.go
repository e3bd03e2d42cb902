package sysprep

import "errors"

// dhcpServerState removes the leases that this machine gave. ISC's dhcpd does not
// start without its file of leases, so that stays, empty.
func dhcpServerState(t *task) error {
	return errors.Join(
		t.emptied("/var/lib/dhcpd/{dhcpd,dhcpd6}.leases", "/var/lib/dhcpd/{*,.[!.]*,..?*}"),
		t.root.Unlink("/var/lib/kea/*.csv*", "/var/lib/misc/dnsmasq.leases", "/var/lib/dnsmasq/dnsmasq.leases"),
	)
}
