package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"herdbook/internal/guest"
	"herdbook/internal/peer"
)

// A link of a hostile image leads nowhere outside of it, and a pipe is not waited for.
func TestTreeStaysInsideItsRoot(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	peer.Must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("outside"), 0o644))
	peer.Must(t, os.Mkdir(filepath.Join(dir, "etc"), 0o755))
	peer.Must(t, os.WriteFile(filepath.Join(dir, "etc/machine-id"), []byte("inside"), 0o644))
	for name, target := range map[string]string{"absolute": "/etc/machine-id", "out": filepath.Join(outside, "secret"), "up": "../../../../../../../../" + outside + "/secret"} {
		peer.Must(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	peer.Must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644))
	root, err := guest.OpenRoot(dir)
	peer.Must(t, err)
	defer root.Close()
	if text, err := fs.ReadFile(tree{root}, "absolute"); err != nil || string(text) != "inside" {
		t.Errorf("a link within: %q, %v", text, err)
	}
	for _, name := range []string{"out", "up"} {
		if text, err := fs.ReadFile(tree{root}, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	for _, name := range []string{"pipe", "../etc", "/etc", ""} {
		if f, err := (tree{root}).Open(name); err == nil {
			t.Errorf("%q opened: %v", name, f)
		}
	}
	if names, err := fs.Glob(tree{root}, "etc/*"); err != nil || len(names) != 1 {
		t.Errorf("%q, %v", names, err)
	}
}
