package sysprep

import "errors"

// cloudInit makes a clone a new instance. The drop-ins that go are those that an
// installer wrote for the machine that it installed: they hold its accounts, with
// the hashes of passwords, and keep cloud-init from looking further.
func cloudInit(t *task) error {
	return errors.Join(
		t.root.Empty("/var/lib/cloud", "/run/cloud-init"),
		t.root.Unlink("/var/log/cloud-init*.log*",
			"/etc/cloud/cloud.cfg.d/{99-installer,subiquity-disable-cloudinit-networking,curtin-*,50-curtin-networking}.cfg"),
	)
}
