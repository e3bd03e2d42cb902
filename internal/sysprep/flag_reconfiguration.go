package sysprep

import "herdbook/internal/guest"

// flagReconfiguration asks Red Hat's old start scripts to ask for the host name, the
// root password and more at the next boot.
func flagReconfiguration(t *task) error {
	const name = "/.unconfigured"
	if t.root.Exists(name) {
		return nil
	}
	return t.root.WriteFile(name, nil, guest.Attributes{Mode: 0o644}, false)
}
