package bootstrap

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"herdbook/internal/peer"
)

const nobody = 65534

// A bootstrap needs no root: this runs the test of the whole as nobody, to whom
// a mount namespace of the test's own gives subordinate numbers.
func TestWithoutRoot(t *testing.T) {
	if os.Getuid() != 0 {
		return // as all tests then are
	}
	peer.NeedTool(t, "newuidmap", "newgidmap")
	peer.OwnMounts(t)
	dir, err := os.MkdirTemp("", "herdbook-nobody-") // t.TempDir is for root's eyes
	peer.Must(t, err)
	t.Cleanup(func() { peer.Must(t, os.RemoveAll(dir)) })
	numbers := filepath.Join(dir, "numbers")
	peer.Must(t, os.WriteFile(numbers, []byte("nobody:100000:65536\n"), 0o644))
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		peer.Must(t, unix.Mount(numbers, file, "", unix.MS_BIND, ""))
	}
	me, err := os.Executable()
	peer.Must(t, err)
	program := filepath.Join(dir, "bootstrap.test")
	peer.Run(t, "cp", me, program)
	peer.Must(t, os.Chown(dir, nobody, nobody))
	peer.Must(t, os.Chmod(dir, 0o755))

	cmd := exec.Command(program, "-test.v", "-test.run", "^TestPackagesBecomeADisk$")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir, "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestPackagesBecomeADisk") {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}
