package sysprep

import (
	"context"

	"herdbook/internal/guest"
)

// caCertificates removes certificates and keys of an authority of the site, not
// those that the distribution trusts.
func caCertificates(t *task) error {
	return t.removeCertificates("/etc/pki/CA/{certs,crl,newcerts}/*.crt", "/etc/pki/CA/private/*.key",
		"/etc/pki/tls/private/*.key", "/etc/pki/tls/certs/*.crt")
}

// removeCertificates removes files of which the system's store of trust may be made,
// and notes that. The bundles of the distribution stay.
func (t *task) removeCertificates(patterns ...string) error {
	for _, pattern := range patterns {
		names, err := t.root.Glob(pattern)
		if err != nil {
			return err
		}
		for _, name := range names {
			if t.root.IsDir(name) || name == "/etc/pki/tls/certs/ca-bundle.crt" || name == "/etc/pki/tls/certs/ca-bundle.trust.crt" {
				continue
			}
			if err := t.root.RemoveAll(name); err != nil {
				return err
			}
			t.certificates = true
		}
	}
	return nil
}

// renewTrust lets the guest make its store of trusted certificates anew from what
// is left. Every distribution has its own program for that, which alone knows its
// formats.
func (t *task) renewTrust(ctx context.Context) error {
	var args []string
	switch {
	case !t.certificates:
		return nil
	case t.root.Exists("/usr/bin/update-ca-trust"):
		args = []string{"update-ca-trust", "extract"}
	case t.root.Exists("/usr/sbin/update-ca-certificates"):
		args = []string{"update-ca-certificates"}
	default:
		return nil // it has no such store
	}
	if t.guest.Runner == nil {
		t.notice("certificates were removed, but nothing can be run in the guest: " + args[0] + " is to be run there")
		return nil
	}
	return t.withCommands(func() error { return guest.Must(ctx, t.guest.Runner, guest.Command{Args: args}) })
}
