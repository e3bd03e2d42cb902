package sysprep

// pacctLog removes the log of who ran what. The file that accounting is switched on
// with must be there, so it comes back empty.
func pacctLog(t *task) error {
	const pattern = "/var/{,log/}account/pacct"
	return t.emptied(pattern, pattern+"*")
}
