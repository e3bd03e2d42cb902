package sysprep

// yumUUID removes the number by which mirrors count this machine.
func yumUUID(t *task) error { return t.root.Unlink("/var/lib/yum/uuid") }
