package bootstrap

import (
	"os"
	"path/filepath"
	"testing"

	"herdbook/internal/peer"
)

// What a program has mounted when it ends, by whatever, is nowhere else.
func TestMountsAreKept(t *testing.T) {
	peer.Need(t, os.Geteuid() == 0, "only root can mount outside of a user namespace")
	dir := t.TempDir()
	cmd, err := command(t.Context(), "sh", "-c", `mount -t tmpfs none "$1" && touch "$1/seen" && ls "$1" && kill -9 $$`, "sh", dir)
	peer.Must(t, err)
	peer.Must(t, keepMounts(cmd))
	if out, err := cmd.Output(); string(out) != "seen\n" || err == nil {
		t.Errorf("it says %q, %v", out, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "seen")); !os.IsNotExist(err) {
		t.Errorf("it is still mounted: %v", err)
	}
}
