package sysprep

// lvmSystemDevices removes the list of the disks that LVM may look at: a clone's
// have other numbers, and without the list it looks at all.
func lvmSystemDevices(t *task) error {
	return t.root.Unlink("/etc/lvm/devices/system.devices", "/etc/lvm/devices/backup/system.devices-*")
}
