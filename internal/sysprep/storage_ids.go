package sysprep

// storageIDs removes the names by which storage in the network knows this machine.
func storageIDs(t *task) error {
	if err := t.root.Unlink("/etc/nvme/{hostid,hostnqn}", "/etc/multipath/wwids"); err != nil {
		return err
	}
	if !t.root.Exists("/etc/zfs/zpool.cache") { // else the pools would belong to another host
		if err := t.root.Unlink("/etc/hostid"); err != nil {
			return err
		}
	}
	return t.initiatorName()
}

// initiatorName lets iSCSI make a new name. Debian's start script asks the file
// whether it is to; elsewhere one is made where there is none.
func (t *task) initiatorName() error {
	const name, ask = "/etc/iscsi/initiatorname.iscsi", "GenerateName=yes\n"
	if !t.root.IsFile(name) {
		return nil
	}
	if !t.root.Exists("/usr/lib/open-iscsi/startup-checks.sh") && !t.root.Exists("/lib/open-iscsi/startup-checks.sh") {
		if makers, err := t.root.Glob(unitDirectories + "iscsi-init.service"); err != nil || len(makers) == 0 {
			t.notice("nothing makes a new name for iSCSI at a clone's first boot: iscsid will not start before " + name + " is written")
		}
		return t.root.RemoveAll(name)
	}
	if text, err := t.root.ReadFile(name); err != nil || string(text) == ask {
		return err
	}
	return t.root.Rewrite(name, []byte(ask))
}
