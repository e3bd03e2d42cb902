package sysprep

// randomSeed removes the stored entropy; a seed that all clones share is worse than
// none, for which the kernel has other sources.
func randomSeed(t *task) error {
	return t.root.Unlink("/var/lib/{systemd,urandom,misc}/random-seed", "/var/lib/random-seed", "/etc/random-seed",
		"/var/lib/seedrng/seed.*", "/{boot,efi,boot/efi}/loader/random-seed")
}
