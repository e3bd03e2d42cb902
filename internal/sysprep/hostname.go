package sysprep

import "errors"

// hostname takes the host name away, so that DHCP or cloud-init can give one: a
// static name has precedence. An empty file is as good as none, and is what those
// programs expect to write to.
func hostname(t *task) error {
	for _, name := range []string{"/etc/hostname", "/etc/HOSTNAME"} {
		if !t.root.IsFile(name) {
			continue
		}
		if err := t.root.Truncate(name); err != nil {
			return err
		}
	}
	return errors.Join(
		t.dropLines("/etc/hosts", "127.0.1.1 ", "127.0.1.1\t"),
		t.dropLines("/etc/sysconfig/network", "HOSTNAME="),
		t.dropLines("/etc/conf.d/hostname", "hostname="),
		t.dropLines("/etc/machine-info", "PRETTY_HOSTNAME="),
	)
}
