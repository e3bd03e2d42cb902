package sysprep

import "errors"

// rhSubscriptionManager removes the certificates of a registration, and the facts
// with the number under which it was made.
func rhSubscriptionManager(t *task) error {
	return errors.Join(
		t.root.Empty("/etc/pki/consumer", "/etc/pki/entitlement"),
		t.root.Unlink("/var/lib/rhsm/{facts,cache}/*"),
	)
}
