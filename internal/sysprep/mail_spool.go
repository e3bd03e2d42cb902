package sysprep

// mailSpool removes mail that waits for people of this machine.
func mailSpool(t *task) error { return t.root.Empty("/var/spool/mail", "/var/mail") }
