package sysprep

// smoltUUID removes the number under which hardware was reported.
func smoltUUID(t *task) error {
	return t.root.Unlink("/etc/sysconfig/hw-uuid", "/etc/smolt/{uuid,hw-uuid}")
}
