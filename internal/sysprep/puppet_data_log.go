package sysprep

// puppetDataLog removes the data and logs of Puppet where it had them before
// version 4, and Debian's has them today.
func puppetDataLog(t *task) error {
	return t.root.RemoveFiles([]string{"/var/log/puppet", "/var/lib/puppet"})
}
