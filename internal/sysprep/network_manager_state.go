package sysprep

// networkManagerState removes the secret from which NetworkManager makes stable
// addresses, and what it remembers of networks and interfaces.
func networkManagerState(t *task) error {
	return t.root.Unlink("/var/lib/NetworkManager/{secret_key,*.lease,seen-bssids,timestamps,no-auto-default.state}")
}
