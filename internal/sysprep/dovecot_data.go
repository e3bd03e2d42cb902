package sysprep

// dovecotData removes what Dovecot makes for itself at its start.
func dovecotData(t *task) error { return t.root.Unlink("/var/lib/dovecot/*") }
