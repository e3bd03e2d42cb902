package sysprep

// tmpFiles empties the directories of temporary files, which stay with their modes.
func tmpFiles(t *task) error { return t.root.Empty("/tmp", "/var/tmp") }
