package sysprep

// bluetooth removes pairings: their keys belong to the address of one adapter.
func bluetooth(t *task) error { return t.root.Empty("/var/lib/bluetooth") }
