package sysprep

// firewallRules removes the rules of a site. It is off by default: an image with
// its ports open is a danger.
func firewallRules(t *task) error {
	return t.root.Unlink("/etc/sysconfig/{iptables,ip6tables}", "/etc/iptables/rules.v{4,6}", "/etc/firewalld/{services,zones}/*")
}
