// Package peer finds the real programs that tests hold herdbook against: the
// kernel's tools, gpg, podman, virt-builder, QEMU. It is for tests and bench only. A
// test whose peer is missing is skipped and says why; where HERDBOOK_CI is set, it
// fails, since there nothing may be skipped.
package peer

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/gofrs/flock"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Need ends a test for a reason, unless ok.
func Need(t testing.TB, ok bool, reason string) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("HERDBOOK_CI") != "" {
		t.Fatal("nothing may be skipped here: " + reason)
	}
	t.Skip(reason)
}

// NeedTool ends a test unless every one of the programs is installed.
func NeedTool(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := exec.LookPath(name)
		Need(t, err == nil, name+" is not installed; make packages installs what the tests need")
	}
}

// NeedRoot ends a test that only root can make.
func NeedRoot(t testing.TB, why string) {
	t.Helper()
	Need(t, os.Getuid() == 0, why+" needs root")
}

// Alone waits until no other test holds something of this host, such as "puppet", and holds
// it to the end of the test. The tests of several packages run at the same time.
func Alone(t testing.TB, what string) {
	t.Helper()
	lock := flock.New(filepath.Join(os.TempDir(), "herdbook-test-"+what+".lock"))
	Must(t, lock.Lock())
	t.Cleanup(func() { Must(t, lock.Unlock()) })
}

// OwnMounts gives a test mounts of its own, which end with it: it is locked to a
// thread in a mount namespace, and programs that it starts are there, too. A
// subtest and a goroutine are not.
func OwnMounts(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	err := unix.Unshare(unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	Need(t, err == nil, fmt.Sprintf("a test may make no mounts of its own here: %v", err))
}

// Run runs a program that must succeed and returns what it printed.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Busybox is the program of that name: every program of a small system.
func Busybox(t testing.TB) []byte {
	t.Helper()
	NeedTool(t, "busybox")
	path, err := exec.LookPath("busybox")
	Must(t, err)
	program, err := os.ReadFile(path)
	Must(t, err)
	return program
}

// Must ends a test at an error of its own set-up.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Golden compares with a file of testdata; go test -update writes it anew.
func Golden(t testing.TB, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		Must(t, os.WriteFile(path, got, 0o644))
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test -update writes it", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; if it is meant, go test -update writes it anew (-want +got):\n%s", path, cmp.Diff(string(want), string(got)))
	}
}
