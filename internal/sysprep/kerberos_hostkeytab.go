package sysprep

// kerberosHostkeytab removes the key with which the host proves its name.
func kerberosHostkeytab(t *task) error { return t.root.Unlink("/etc/krb5.keytab") }
