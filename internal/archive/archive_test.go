package archive

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"herdbook/internal/ext4"
	"herdbook/internal/filesystem"
	"herdbook/internal/peer"
)

// tree is a directory with one of everything.
func tree(t *testing.T) string {
	t.Helper()
	peer.NeedRoot(t, "making device nodes")
	dir := filepath.Join(t.TempDir(), "tree")
	at := func(name string) string { return filepath.Join(dir, name) }
	peer.Must(t, os.MkdirAll(at("etc/deep"), 0o755))
	peer.Must(t, os.WriteFile(at("etc/passwd"), []byte("root\n"), 0o640))
	peer.Must(t, os.Chown(at("etc/passwd"), 70000, 42))
	peer.Must(t, syscall.Chmod(at("etc/passwd"), 0o4750))
	peer.Must(t, os.Link(at("etc/passwd"), at("etc/deep/other name")))
	peer.Must(t, os.Symlink("../passwd", at("etc/deep/link")))
	peer.Must(t, os.WriteFile(at("etc/empty"), nil, 0o600))
	peer.Must(t, os.WriteFile(at("large"), bytes.Repeat([]byte("0123456789abcdef"), 1<<17), 0o644))
	peer.Must(t, os.Truncate(at("large"), 5<<20))
	peer.Must(t, os.WriteFile(at("a name\nof two lines"), []byte("x"), 0o644))
	peer.Must(t, syscall.Mknod(at("console"), syscall.S_IFCHR|0o600, 5<<8|1))
	peer.Must(t, syscall.Mknod(at("disk"), syscall.S_IFBLK|0o660, 254<<8|1))
	peer.Must(t, syscall.Mkfifo(at("pipe"), 0o622))
	peer.Must(t, syscall.Mknod(at("socket"), syscall.S_IFSOCK|0o755, 0))
	return dir
}

// The real tar unpacks what is written, and has the tree again.
func TestTarHasTheTree(t *testing.T) {
	peer.NeedTool(t, "mke2fs", "debugfs", "tar", "diff")
	dir := tree(t)
	image := filepath.Join(t.TempDir(), "image")
	peer.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-d", dir, image, "16M")
	peer.Run(t, "debugfs", "-w", "-R", "ea_set /large user.colour blue", image)
	peer.Run(t, "debugfs", "-w", "-R", "ea_set /large trusted.other no", image)
	f, err := os.Open(image)
	peer.Must(t, err)
	defer f.Close()
	root, err := ext4.Open(f, 16<<20)
	peer.Must(t, err)
	var out bytes.Buffer
	w := NewWriter(&out, func(name string) bool { return name == "user.colour" })
	peer.Must(t, root.Walk(func(name string, e *filesystem.Entry) error {
		if name == "lost+found" {
			return nil
		}
		return w.Add("./"+name, e)
	}))
	peer.Must(t, w.Close())
	archive, again := filepath.Join(t.TempDir(), "tar"), t.TempDir()
	peer.Must(t, os.WriteFile(archive, out.Bytes(), 0o600))
	peer.Run(t, "tar", "--extract", "--xattrs", "--xattrs-include=*", "--same-owner", "--preserve-permissions", "--file", archive, "--directory", again)
	peer.Must(t, os.Remove(filepath.Join(dir, "socket"))) // the only one that is left out
	peer.Run(t, "diff", "--recursive", "--no-dereference", "--exclude=console", "--exclude=disk", "--exclude=pipe", dir, again)
	list := func(dir string) []string {
		out := peer.Run(t, "find", dir, "-type", "d", "-printf", `%P %M %U:%G\n`, "-o", "-printf", `%P %M %U:%G %s %n %l %Ts\n`)
		return slices.Sorted(strings.Lines(out))
	}
	if diff := cmp.Diff(list(dir), list(again)); diff != "" {
		t.Errorf("(-was +is)\n%s", diff)
	}
	value := make([]byte, 10)
	n, err := unix.Lgetxattr(filepath.Join(again, "large"), "user.colour", value)
	if err != nil || string(value[:n]) != "blue" {
		t.Errorf("%q, %v", value, err)
	}
	if _, err := unix.Lgetxattr(filepath.Join(again, "large"), "trusted.other", value); err == nil {
		t.Error("an attribute that was not asked for is there")
	}
}
