package peer

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// Volume mounts a small file system in memory at dir, for the time of a test and for all
// that run meanwhile. Options are those of tmpfs, such as size=1m.
func Volume(t testing.TB, dir, options string) {
	t.Helper()
	NeedRoot(t, "a file system of its own")
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, options)
	Need(t, !errors.Is(err, unix.EPERM), "this container allows no mounts")
	Must(t, err)
	t.Cleanup(func() { Must(t, unix.Unmount(dir, 0)) })
}
