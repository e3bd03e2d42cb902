package sysprep

// passwdBackups removes older versions of the databases of accounts: they hold the
// hashes of passwords that are no more.
func passwdBackups(t *task) error {
	return t.root.Unlink("/etc/{group,gshadow,passwd,shadow,subuid,subgid}-")
}
