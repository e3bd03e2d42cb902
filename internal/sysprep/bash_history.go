package sysprep

// bashHistory removes what people typed into bash, passwords among it.
func bashHistory(t *task) error {
	return t.removeInHomes(".bash_history", ".bash_sessions")
}
