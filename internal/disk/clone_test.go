package disk

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"herdbook/internal/peer"
)

func TestCloneKeepsContentAndHoles(t *testing.T) {
	dir := t.TempDir()
	for name, write := range map[string]func(*os.File) error{
		"nothing":    func(*os.File) error { return nil },
		"only holes": func(f *os.File) error { return f.Truncate(64 << 20) },
		"data at both ends": func(f *os.File) error {
			_, first := f.WriteAt([]byte("first"), 0)
			_, last := f.WriteAt([]byte("last"), 32<<20-4)
			return errors.Join(first, last)
		},
		"data and a hole behind it": func(f *os.File) error {
			_, err := f.WriteAt(bytes.Repeat([]byte("data"), 1<<20), 8<<20)
			return errors.Join(err, f.Truncate(64<<20))
		},
	} {
		src, dst := filepath.Join(dir, name), filepath.Join(dir, name+" copied")
		f, err := os.Create(src)
		peer.Must(t, err)
		peer.Must(t, write(f))
		peer.Must(t, f.Close())
		if err := Clone(src, dst); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want, err := os.ReadFile(src)
		peer.Must(t, err)
		got, err := os.ReadFile(dst)
		peer.Must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the copy differs", name)
		}
		var a, b unix.Stat_t
		peer.Must(t, errors.Join(unix.Stat(src, &a), unix.Stat(dst, &b)))
		if b.Blocks > a.Blocks+128 {
			t.Errorf("%s: %d blocks became %d", name, a.Blocks, b.Blocks)
		}
	}
	if err := Clone(filepath.Join(dir, "none"), filepath.Join(dir, "x")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := Clone(filepath.Join(dir, "nothing"), filepath.Join(dir, "no/x")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*.tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("%q is left: %v", left, err)
	}
}
