package sysprep

// sssdDBLog removes what SSSD remembers of a domain: accounts, keys, secrets, tickets.
func sssdDBLog(t *task) error {
	return t.root.Unlink("/var/log/sssd/{*,.[!.]*}", "/var/lib/sss/{db,mc,keytabs,secrets}/{*,.[!.]*}", "/var/lib/sss/gpo_cache/*/*")
}
