// Package readertest is what the tests of the readers of file systems have in
// common: images as files and as mounts of the kernel, a tree of everything, the
// comparison of what a reader reads with what the kernel shows, and the reading of
// images that are broken. It is for tests only; what one format alone has stays with
// its reader.
package readertest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"herdbook/internal/peer"
)

// File opens an image for a reader, which it is closed behind with the test, and
// says how many bytes it has.
func File(t testing.TB, path string) (*os.File, int64) {
	t.Helper()
	file, err := os.Open(path)
	peer.Must(t, err)
	t.Cleanup(func() { file.Close() })
	stat, err := file.Stat()
	peer.Must(t, err)
	return file, stat.Size()
}

// Mount lets the kernel mount an image, for this test alone, and returns where.
func Mount(t testing.TB, kind, image string, options ...string) string {
	t.Helper()
	peer.NeedRoot(t, "mounting")
	peer.OwnMounts(t)
	dir := t.TempDir()
	// mount(8) is run by this thread, and so in its namespace.
	peer.Run(t, "mount", "-t", kind, "-o", strings.Join(append([]string{"loop"}, options...), ","), image, dir)
	// Lazily, as a test that failed may have files open.
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Error(err)
		}
	})
	return dir
}

// Sync writes back all of the file system that dir is on.
func Sync(t testing.TB, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	peer.Must(t, err)
	peer.Must(t, errors.Join(unix.Syncfs(int(f.Fd())), f.Close()))
}

// CutOff is a copy of an image as it is now, as if the machine that has it mounted
// were cut off.
func CutOff(t testing.TB, image string) string {
	t.Helper()
	cut := filepath.Join(t.TempDir(), "cut")
	peer.Run(t, "cp", "--sparse=always", image, cut)
	return cut
}

// Run is a run of bytes.
type Run struct{ Start, End int64 }

// UsedRanges lists the ranges that a reader says are in use, and their bytes. They
// must be in order, apart from each other and not empty.
func UsedRanges(t testing.TB, each func(fn func(start, length int64) error) error) (list []Run, bytes int64) {
	t.Helper()
	last := int64(-1)
	peer.Must(t, each(func(start, length int64) error {
		if start <= last || length <= 0 {
			t.Errorf("the range %d+%d follows one that ends at %d", start, length, last)
		}
		last = start + length
		list, bytes = append(list, Run{start, last}), bytes+length
		return nil
	}))
	return list, bytes
}
