package sysprep

// sshUserdir removes the keys of people, with the hosts that they know.
func sshUserdir(t *task) error { return t.removeInHomes(".ssh") }
