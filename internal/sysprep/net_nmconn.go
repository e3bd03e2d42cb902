package sysprep

// netNmconn removes connections of this machine, with the secrets of its networks.
// Without any, NetworkManager asks DHCP on every wired interface. Ubuntu keeps them
// with netplan.
func netNmconn(t *task) error {
	return t.root.Unlink("/etc/NetworkManager/system-connections/{*,.[!.]*}", "/etc/netplan/90-NM-*.yaml")
}
