package guesttest

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"herdbook/internal/peer"
)

var (
	sandboxesMu sync.Mutex
	sandboxes   = map[testing.TB]string{}
)

// Main runs the tests of a package that makes goldens of trees: what a fixture
// leaves to the default is in them, so the umask is fixed.
func Main(m *testing.M) {
	unix.Umask(0o022)
	m.Run()
}

// Sandbox returns a new directory, on a file system of the test's own, and makes
// all else read-only for the test. These tests are about code that must not get
// out of a directory: on the day when it does, it must not get at this machine,
// and the clean-up of a guest that is still mounted must not be that of /dev.
//
// It is the thread that is locked in, so a subtest needs a sandbox of its own.
func Sandbox(t testing.TB) string {
	t.Helper()
	sandboxesMu.Lock()
	base, ok := sandboxes[t]
	sandboxesMu.Unlock()
	if !ok {
		base = lockIn(t)
		sandboxesMu.Lock()
		sandboxes[t] = base
		sandboxesMu.Unlock()
	}
	dir, err := os.MkdirTemp(base, "")
	peer.Must(t, err)
	peer.Must(t, os.Chmod(dir, 0o755))
	return dir
}

// lockIn makes the sandbox. The thread is never unlocked, so that it ends with
// the test, and its mounts with it.
func lockIn(t testing.TB) string {
	t.Helper()
	peer.NeedRoot(t, "a guest's files belong to many, which")
	base, err := os.MkdirTemp("", "herdbook-sandbox-")
	peer.Must(t, err)
	peer.Must(t, os.MkdirAll("testdata", 0o755))
	testdata, err := filepath.Abs("testdata")
	peer.Must(t, err)
	t.Cleanup(func() {
		sandboxesMu.Lock()
		delete(sandboxes, t)
		sandboxesMu.Unlock()
		// The mount point can go by a thread that may write there, and only if
		// it is as empty as it must be.
		gone := make(chan error)
		go func() { gone <- os.Remove(base) }()
		if err := <-gone; err != nil {
			t.Error(err)
		}
	})
	peer.OwnMounts(t)
	for _, step := range []func() error{
		func() error { return unix.Mount(testdata, testdata, "", unix.MS_BIND, "") }, // for -update
		func() error {
			return unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		},
		func() error {
			return unix.MountSetattr(unix.AT_FDCWD, testdata, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
		},
		func() error { return unix.Mount("tmpfs", base, "tmpfs", 0, "mode=755") },
	} {
		err := step()
		peer.Need(t, err == nil, fmt.Sprintf("a test may make no mounts of its own here: %v", err))
	}
	return base
}
