package sysprep

import "errors"

// systemdCredential removes the secret that would open the encrypted credentials of
// every clone.
func systemdCredential(t *task) error {
	return errors.Join(
		t.root.Unlink("/var/lib/systemd/credential.secret", "/var/lib/systemd/tpm2-srk-public-key.*"),
		t.root.Empty("/var/lib/systemd/network"),
	)
}
