package sysprep

// machineID leaves an empty /etc/machine-id, which systemd fills at the first boot of
// each clone, and no other copy of it: D-Bus refuses a file that is empty, and makes
// one that is not there.
func machineID(t *task) error {
	const name, dbus = "/etc/machine-id", "/var/lib/dbus/machine-id"
	if t.root.IsFile(dbus) {
		if err := t.root.RemoveAll(dbus); err != nil {
			return err
		}
	}
	if !t.root.IsFile(name) {
		return nil
	}
	if t.o.MachineID == "" {
		return t.root.Truncate(name)
	}
	return t.root.Rewrite(name, []byte(t.o.MachineID+"\n"))
}
