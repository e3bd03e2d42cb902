package sysprep

import (
	"errors"
	"strings"
)

// puppet removes the certificate by which a server knows this machine, everything
// that it got from there, and the name if that is set.
func puppet(t *task) error {
	for _, dir := range []string{"/etc/puppetlabs/puppet", "/etc/puppet"} {
		err := t.root.EditLines(dir+"/puppet.conf", func(line string) (string, bool) {
			key, _, assigned := strings.Cut(line, "=")
			return line, !assigned || strings.TrimSpace(key) != "certname"
		})
		if err != nil {
			return err
		}
	}
	return errors.Join(
		t.root.Unlink("/etc/{puppetlabs/puppet,puppet}/csr_attributes.yaml"),
		t.root.RemoveFiles([]string{
			"/etc/puppetlabs/puppet/ssl", "/etc/puppet/ssl", "/opt/puppetlabs/puppet/cache", "/var/log/puppetlabs",
			"/var/lib/puppet", "/var/cache/puppet",
		}),
	)
}
