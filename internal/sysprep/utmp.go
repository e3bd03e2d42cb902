package sysprep

// utmp removes the list of who is logged in, where it is not on a tmpfs.
func utmp(t *task) error { return t.root.Unlink("/var/run/utmp") }
