package peer

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Dockerd starts Docker's own engine, without a network and with all that it has in a
// directory of the test, and ends it with the test. Docker runs its client.
func Dockerd(t testing.TB) (docker func(args ...string) string) {
	t.Helper()
	NeedRoot(t, "Docker's engine")
	NeedTool(t, "dockerd", "containerd", "runc", "docker")
	dir, err := os.MkdirTemp("", "dockerd-") // the paths of sockets must be short
	Must(t, err)
	t.Cleanup(func() { Must(t, os.RemoveAll(dir)) })
	host := "unix://" + filepath.Join(dir, "socket")
	c := exec.Command("dockerd", "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"),
		"--host", host, "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none", "--storage-driver", "overlay2")
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // at which it ends what it has started
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	ended := startTied(t, c)
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM) // it has ended, if not
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Errorf("dockerd does not end: %s", &said)
		}
		err := unix.Unmount(filepath.Join(dir, "exec", "netns", "default"), unix.MNT_DETACH)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	for exec.Command("docker", "--host", host, "info").Run() != nil {
		select {
		case <-ended:
			t.Fatalf("dockerd ended: %s", &said)
		case <-time.After(50 * time.Millisecond): // it does not say when it is ready
		}
	}
	return func(args ...string) string {
		t.Helper()
		return Run(t, "docker", append([]string{"--host", host}, args...)...)
	}
}
