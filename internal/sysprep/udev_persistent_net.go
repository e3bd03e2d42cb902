package sysprep

// udevPersistentNet removes the names that old releases tie to hardware addresses:
// a clone's only interface would be eth1.
func udevPersistentNet(t *task) error {
	return t.root.Unlink("/etc/udev/rules.d/70-persistent-net.rules")
}
