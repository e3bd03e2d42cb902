package sysprep

// crashData removes dumps of the kernel's and of programs' memory.
func crashData(t *task) error {
	return t.root.Empty("/var/crash", "/var/log/dump", "/var/lib/systemd/coredump", "/var/lib/systemd/pstore")
}
