package sysprep

// sambaDBLog removes the databases of Samba, in which the host has its SID and its
// secrets, and the logs.
func sambaDBLog(t *task) error {
	return t.root.RemoveFiles([]string{"/var/log/samba", "/var/lib/samba"})
}
