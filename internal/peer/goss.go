package peer

import (
	"os"
	"path/filepath"
	"testing"
)

// Goss is the path of a real goss, a program that needs nothing else in a guest.
func Goss(t testing.TB) string {
	t.Helper()
	program := filepath.Join(moduleRoot(t), "bin", "goss")
	_, err := os.Stat(program)
	Need(t, err == nil, "bin/goss is not built; make packages builds it")
	return program
}
