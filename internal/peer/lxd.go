package peer

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lxdSettings give instances a root of files and no network.
const lxdSettings = `storage_pools:
- {name: default, driver: dir}
profiles:
- {name: default, devices: {root: {path: /, pool: default, type: disk}}}
`

// LXD starts LXD with all that it has in a directory of the test, and ends it with the
// test. Lxc runs its client.
func LXD(t testing.TB) (lxc func(args ...string) string) {
	t.Helper()
	NeedRoot(t, "LXD")
	NeedTool(t, "lxd", "lxc")
	dir, err := os.MkdirTemp("", "lxd-") // the paths of sockets must be short
	Must(t, err)
	t.Cleanup(func() { Must(t, os.RemoveAll(dir)) })
	Must(t, errors.Join(os.Chmod(dir, 0o711), os.Mkdir(filepath.Join(dir, "lxd"), 0o711))) // the root of a container is an account of the host
	command := func(name string, args ...string) *exec.Cmd {
		c := exec.Command(name, args...)
		c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LXD_DIR=" + filepath.Join(dir, "lxd")}
		return c
	}
	run := func(c *exec.Cmd) string {
		t.Helper()
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(c.Args, " "), err, out)
		}
		return string(out)
	}
	c := command("lxd", "--group", "root")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	ended := startTied(t, c)
	t.Cleanup(func() {
		_ = command("lxd", "shutdown", "--timeout", "30").Run() // it has ended, if not
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Errorf("lxd does not end: %s", &said)
		}
	})
	run(command("lxd", "waitready", "--timeout", "60"))
	begin := command("lxd", "init", "--preseed")
	begin.Stdin = strings.NewReader(lxdSettings)
	run(begin)
	return func(args ...string) string {
		t.Helper()
		return run(command("lxc", args...))
	}
}
