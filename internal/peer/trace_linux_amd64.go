package peer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// UntilWrite runs a program and kills it before its n-th change of the file system;
// of writes only those into dir count. It returns which one that was, "" if the
// program came to its end, and what it said. The test must have locked its thread,
// which is the tracer.
func UntilWrite(t testing.TB, c *exec.Cmd, dir string, n int) (at, said string) {
	t.Helper()
	stdout, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	Must(t, err)
	defer stdout.Close()
	c.Stdout = stdout
	c.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := c.Start(); errors.Is(err, fs.ErrPermission) {
		Need(t, false, "this machine allows no ptrace")
	} else {
		Must(t, err)
	}
	at, status, err := trace(c.Process.Pid, dir, n)
	Must(t, err)
	Must(t, c.Process.Release())
	text, err := os.ReadFile(stdout.Name())
	Must(t, err)
	if at == "" && status.ExitStatus() != 0 {
		t.Fatalf("the child failed: %s", text)
	}
	return at, string(text)
}

// trace follows all threads of a stopped child from one system call to the
// next, until it is gone.
func trace(pid int, dir string, n int) (at string, status unix.WaitStatus, err error) {
	if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil {
		return "", status, err
	}
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL
	if err := unix.PtraceSetOptions(pid, options); err != nil {
		return "", status, err
	}
	for thread := pid; ; {
		signal := 0
		switch sig := status.StopSignal(); sig {
		case unix.SIGTRAP | 0x80:
			if what := change(pid, thread, dir); what != "" && at == "" {
				if n--; n < 0 {
					at = what
					// The thread stands at the entry of the call, which is not done.
					if err := unix.Kill(pid, unix.SIGKILL); err != nil {
						return at, status, err
					}
				}
			}
		case unix.SIGTRAP, unix.SIGSTOP: // of the tracing
		default:
			signal = int(sig)
		}
		// A thread that was killed meanwhile cannot go on.
		if err := unix.PtraceSyscall(thread, signal); err != nil && !errors.Is(err, unix.ESRCH) {
			return at, status, err
		}
		for {
			// The other children of the test process are not ours.
			thread, err = unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
			if err != nil {
				return at, status, err
			}
			if status.Stopped() {
				break
			}
			if thread == pid {
				return at, status, nil
			}
		}
	}
}

// change tells what a thread is about to change in the file system, "" if
// nothing. Of the writes only those into dir count.
func change(pid, thread int, dir string) string {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(thread, &regs); err != nil {
		return ""
	}
	// At the entry, the kernel has set the result to this.
	if int64(regs.Rax) != -int64(unix.ENOSYS) {
		return ""
	}
	switch regs.Orig_rax {
	case unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_WRITEV, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE,
		unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_FCHMOD, unix.SYS_COPY_FILE_RANGE:
		path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, regs.Rdi))
		if err != nil || !strings.HasPrefix(path, dir) {
			return ""
		}
		return fmt.Sprintf("call %d of %s", regs.Orig_rax, path)
	case unix.SYS_OPENAT:
		if regs.Rdx&unix.O_CREAT == 0 {
			return ""
		}
	case unix.SYS_MKDIR, unix.SYS_MKDIRAT, unix.SYS_RENAME, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2,
		unix.SYS_UNLINK, unix.SYS_UNLINKAT, unix.SYS_RMDIR, unix.SYS_LINK, unix.SYS_LINKAT, unix.SYS_SYMLINKAT,
		unix.SYS_UTIMENSAT, unix.SYS_CHMOD, unix.SYS_FCHMODAT, unix.SYS_TRUNCATE:
	default:
		return ""
	}
	return fmt.Sprintf("call %d", regs.Orig_rax)
}
