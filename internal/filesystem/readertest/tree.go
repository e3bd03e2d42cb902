package readertest

import (
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"herdbook/internal/peer"
)

// Write writes files below a directory, with the directories above them.
func Write(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		peer.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		peer.Must(t, os.WriteFile(path, content, 0o644))
	}
}

// PlantSmall makes a small tree with something of everything, for images to be
// broken.
func PlantSmall(t testing.TB, dir string) {
	t.Helper()
	Write(t, dir, map[string][]byte{
		"etc/os-release": []byte("ID=debian\n"), "deep/er/and/file": []byte(strings.Repeat("x", 5000)),
		"sparse": []byte(strings.Repeat("\x00", 100000) + "end"), "large": []byte(strings.Repeat("0123456789abcdef", 20000)), "empty": nil,
	})
	for i := range 150 {
		name := strings.Repeat("n", 40) + string(rune('a'+i%26)) + strings.Repeat("m", i)
		peer.Must(t, os.WriteFile(filepath.Join(dir, "deep", name), nil, 0o600))
	}
	peer.Must(t, os.Symlink("and", filepath.Join(dir, "deep/er/link")))
}

// Plant makes a tree with everything that any file system of Linux can hold: devices
// and the like only if root makes it.
func Plant(t testing.TB, dir string) {
	t.Helper()
	random := rand.New(rand.NewSource(1))
	noise := func(n int) []byte { p := make([]byte, n); random.Read(p); return p }
	Write(t, dir, map[string][]byte{
		"empty": nil, "tiny": []byte("a"), "block": noise(4096), "odd": noise(70001), "large": noise(5 << 20), "zeros": make([]byte, 300000),
		"deep/er/and/deeper/file": []byte("down here"), "etc/os-release": []byte("ID=debian\n"),
		strings.Repeat("n", 255): []byte("long"), "ünï/čödé": []byte("utf-8"), "holes/in-front": append(make([]byte, 1<<20), noise(5000)...),
	})
	sparse, err := os.Create(filepath.Join(dir, "holes/sparse"))
	peer.Must(t, err)
	for _, off := range []int64{0, 1 << 20, 20<<20 + 123} {
		_, err := sparse.WriteAt(noise(4096), off)
		peer.Must(t, err)
	}
	peer.Must(t, sparse.Truncate(21<<20))
	peer.Must(t, sparse.Close())
	plantKinds(t, dir)
}

// plantKinds makes what is no file or no ordinary one.
func plantKinds(t testing.TB, dir string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	peer.Must(t, os.Symlink("../etc/os-release", at("deep/short")))
	peer.Must(t, os.Symlink("/"+strings.Repeat("long/", 40)+"end", at("dangling")))
	peer.Must(t, os.Link(at("odd"), at("deep/hardlink")))
	peer.Must(t, os.WriteFile(at("setuid"), []byte("x"), 0o755))
	peer.Must(t, os.Chmod(at("setuid"), 0o755|fs.ModeSetuid|fs.ModeSetgid))
	peer.Must(t, os.Mkdir(at("sticky"), 0o777))
	peer.Must(t, os.Chmod(at("sticky"), 0o777|fs.ModeSticky))
	peer.Must(t, syscall.Mkfifo(at("pipe"), 0o640))
	if os.Getuid() != 0 {
		return
	}
	peer.Must(t, os.Chown(at("tiny"), 70000, 80000))
	peer.Must(t, syscall.Mknod(at("null"), syscall.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	peer.Must(t, syscall.Mknod(at("nvme"), syscall.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
	// A capability, as setcap cap_net_raw+ep writes it.
	peer.Must(t, unix.Setxattr(at("odd"), "security.capability", []byte{1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0))
}
