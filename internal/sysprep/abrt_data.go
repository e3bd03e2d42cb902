package sysprep

// abrtData removes crash reports: they hold the memory of this machine's programs.
func abrtData(t *task) error {
	return t.root.Empty("/var/spool/abrt", "/var/spool/abrt-upload", "/var/tmp/abrt")
}
