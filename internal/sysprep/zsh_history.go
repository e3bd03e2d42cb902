package sysprep

// zshHistory removes what people typed into zsh.
func zshHistory(t *task) error {
	return t.removeInHomes(".zsh_history", ".zhistory", ".zsh_sessions")
}
