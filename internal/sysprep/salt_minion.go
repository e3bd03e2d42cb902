package sysprep

import "errors"

// saltMinion removes the key and the name by which a master knows this machine. The
// master's own key stays.
func saltMinion(t *task) error {
	return errors.Join(
		t.root.Unlink("/etc/salt/pki/minion/minion.{pem,pub}", "/etc/salt/minion_id"),
		t.root.RemoveFiles([]string{"/var/cache/salt/minion", "/var/log/salt"}),
	)
}
