package sysprep

// rhnSystemid removes the registration in the Red Hat Network of old.
func rhnSystemid(t *task) error { return t.root.Unlink("/etc/sysconfig/rhn/{systemid,osad-auth.conf}") }
