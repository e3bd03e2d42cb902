package sysprep

import "errors"

// ipaClient removes the enrolment in a FreeIPA domain, and the trust in its
// authority.
func ipaClient(t *task) error {
	return errors.Join(
		t.root.Unlink("/etc/ipa/{ca.crt,default.conf}", "/var/lib/ipa-client/{sysrestore,pki}/*"),
		t.removeCertificates("/etc/pki/ca-trust/source/anchors/ipa-ca.crt", "/usr/local/share/ca-certificates/ipa-ca.crt",
			"/etc/pki/ca-trust/source/ipa.p11-kit"),
	)
}
