package sysprep

// ifcfg are Red Hat's files of network interfaces, on whatever distribution.
const ifcfg = "/etc/sysconfig/network-scripts/ifcfg-*"

// netHostname lets no interface ask DHCP for the name of another machine.
func netHostname(t *task) error { return t.dropLines(ifcfg, "HOSTNAME=", "DHCP_HOSTNAME=") }
