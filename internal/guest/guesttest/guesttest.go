// Package guesttest is what tests of guests need: trees to work on, a sandbox
// that keeps mistakes from this machine, and what became of a tree. It is for tests
// only, and knows nothing of package guest, whose own tests use it too.
package guesttest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"herdbook/internal/peer"
)

// Node is one file of a fixture: a directory if its path ends in /, a link if it
// has a target, else a file.
type Node struct {
	Path     string // absolute in the guest
	Mode     uint32 // 0 for that of the umask
	UID, GID int
	Content  string
	Link     string // what a link leads to
}

// Plant makes a tree below dir. Parents that are not listed belong to root.
func Plant(t testing.TB, dir string, nodes []Node) {
	t.Helper()
	for _, n := range nodes {
		name := filepath.Join(dir, n.Path)
		mode := n.Mode
		peer.Must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		switch {
		case n.Link != "":
			peer.Must(t, os.Symlink(n.Link, name))
			continue
		case strings.HasSuffix(n.Path, "/"):
			peer.Must(t, os.MkdirAll(name, 0o755))
		default:
			if mode == 0 {
				mode = 0o644
			}
			peer.Must(t, os.WriteFile(name, []byte(n.Content), 0o600))
		}
		peer.Must(t, os.Chown(name, n.UID, n.GID))
		peer.Must(t, syscall.Chmod(name, mode))
	}
}

// Snapshot describes every file of a tree but the times.
func Snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	peer.Must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if name == "." {
			name = ""
		}
		files["/"+name], err = describe(path)
		return err
	}))
	return files
}

func describe(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", err
	}
	text := fmt.Sprintf("%06o %d:%d", st.Mode, st.Uid, st.Gid)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		link, err := os.Readlink(path)
		return text + " -> " + link, err
	case unix.S_IFREG:
		content, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		text += fmt.Sprintf(" %d ", st.Size)
		if len(content) > 1024 || bytes.ContainsRune(content, 0) {
			text += fmt.Sprintf("sha256 %x", sha256.Sum256(content))
		} else {
			text += fmt.Sprintf("%q", content)
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		text += fmt.Sprintf(" %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	names := make([]byte, 4096)
	n, err := unix.Llistxattr(path, names)
	if errors.Is(err, unix.ENOTSUP) {
		return text, nil
	}
	for name := range strings.SplitSeq(strings.Trim(string(names[:max(n, 0)]), "\x00"), "\x00") {
		if name != "" {
			text += " " + name
		}
	}
	return text, err
}

// Diff says what became of a tree: - for what is gone, + for what is new, and
// both for what was changed.
func Diff(before, after map[string]string) string {
	names := maps.Clone(before)
	maps.Copy(names, after)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was, had := before[name]
		is, has := after[name]
		if had && was != is {
			fmt.Fprintf(&b, "- %s %s\n", name, was)
		}
		if has && was != is {
			fmt.Fprintf(&b, "+ %s %s\n", name, is)
		}
	}
	return b.String()
}

// Changes calls a function and returns what it did to the tree in dir.
func Changes(t testing.TB, dir string, fn func() error) (string, error) {
	t.Helper()
	before := Snapshot(t, dir)
	err := fn()
	return Diff(before, Snapshot(t, dir)), err
}

// Bring copies programs of this machine into the tree, with the libraries that
// they need, and gives it a /dev/null. dash becomes /usr/bin/sh.
func Bring(t testing.TB, dir string, programs ...string) {
	t.Helper()
	peer.NeedTool(t, append([]string{"ldd"}, programs...)...)
	for _, name := range programs {
		path, err := exec.LookPath(name)
		peer.Must(t, err)
		to := path
		if name == "dash" {
			to = "/usr/bin/sh"
		}
		BringFile(t, dir, path, to)
	}
	// What a shell's background process reads.
	peer.Must(t, syscall.Mknod(filepath.Join(dir, "dev/null"), syscall.S_IFCHR|0o666, 1<<8|3))
}

// BringFile copies one program or library of this machine, and what it needs.
func BringFile(t testing.TB, dir, from, to string) {
	t.Helper()
	copyIn(t, from, filepath.Join(dir, to))
	out, err := exec.Command("ldd", from).Output() // fails for a static program
	if err != nil {
		return
	}
	for field := range strings.FieldsSeq(string(out)) {
		name := filepath.Join(dir, field)
		if _, err := os.Stat(name); strings.HasPrefix(field, "/") && err != nil {
			copyIn(t, field, name)
		}
	}
}

func copyIn(t testing.TB, from, name string) {
	t.Helper()
	content, err := os.ReadFile(from)
	peer.Must(t, err)
	peer.Must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	peer.Must(t, os.WriteFile(name, content, 0o755))
}
