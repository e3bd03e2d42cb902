package guest

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"herdbook/internal/guest/guesttest"
	"herdbook/internal/peer"
)

func TestMain(m *testing.M) { guesttest.Main(m) }

// A sandbox that lets something out would make all these tests dangerous.
func TestTheSandboxHolds(t *testing.T) {
	dir := sandbox(t)
	peer.Must(t, os.WriteFile(filepath.Join(dir, "inside"), nil, 0o600))
	wd, err := os.Getwd()
	peer.Must(t, err)
	for _, outside := range []string{"/", "/dev", "/etc", os.TempDir(), wd, filepath.Dir(filepath.Dir(dir))} {
		name := filepath.Join(outside, filepath.Base(dir)+"-herdbook-test")
		if err := os.Mkdir(name, 0o700); err == nil {
			t.Fatalf("made %s: %v", name, os.Remove(name))
		}
	}
	// Nor by way of what Prepare binds into a guest.
	peer.Must(t, os.Mkdir(filepath.Join(dir, "dev"), 0o755))
	peer.Must(t, unix.Mount("/dev", filepath.Join(dir, "dev"), "", unix.MS_BIND|unix.MS_REC, ""))
	for _, name := range []string{"dev/herdbook-test", "dev/shm/herdbook-test", "dev/pts/herdbook-test"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err == nil {
			t.Fatalf("made %s: %v", name, os.Remove(filepath.Join(dir, name)))
		}
	}
}
