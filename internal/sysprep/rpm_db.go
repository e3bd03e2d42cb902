package sysprep

// rpmDB removes the environment of Berkeley DB, which belongs to a running system;
// the database itself stays.
func rpmDB(t *task) error { return t.root.Unlink("/{var/lib,usr/lib/sysimage}/rpm/__db.*") }
