package bootstrap

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/program"
)

// command is a program that ends, with all its children, when ctx does.
func command(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	path, err := program.Find(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	// mmdebstrap cleans up on SIGINT: mounts and its copy of the tree.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 20 * time.Second
	return cmd, nil
}

// keepMounts keeps what a program mounts to itself and its children, if this process is one
// that can mount: however they end, no mount of /proc or /sys stays in a tree that somebody
// is to delete. Others that mount are in a user namespace, which has the same effect.
func keepMounts(cmd *exec.Cmd) error {
	var has [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &has[0]); err != nil {
		return fmt.Errorf("find out what this process may do: %w", err)
	}
	if has[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0 {
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS // made private by os/exec
	}
	return nil
}

// namespace is a shell script that runs as root: as the real one if herdbook
// is, else as that of a user namespace with the user's subordinate numbers.
type namespace struct {
	*exec.Cmd
	uid, gid span
}

// span is a user's range of subordinate numbers.
type span struct{ first, count int }

// newNamespace prepares a shell script with its arguments.
func newNamespace(ctx context.Context, script string, args []string) (*namespace, error) {
	if _, err := program.Find("mke2fs"); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		cmd, err := command(ctx, "sh", append([]string{"-c", script, "sh"}, args...)...)
		return &namespace{Cmd: cmd}, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("find the user's name: %w", err)
	}
	uid, err := subordinate("/etc/subuid", me)
	if err != nil {
		return nil, err
	}
	gid, err := subordinate("/etc/subgid", me)
	if err != nil {
		return nil, err
	}
	gated := `read -r go <&3 || exit 1; exec 3<&-` + "\n" + script
	cmd, err := command(ctx, "sh", append([]string{"-c", gated, "sh"}, args...)...)
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
	return &namespace{Cmd: cmd, uid: uid, gid: gid}, nil
}

// Start starts the script and, in a user namespace, maps its numbers first.
func (n *namespace) Start() error {
	if n.SysProcAttr.Cloneflags == 0 {
		return n.Cmd.Start()
	}
	wait, gate, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer gate.Close()
	n.ExtraFiles = []*os.File{wait}
	err = n.Cmd.Start()
	wait.Close()
	if err != nil {
		return fmt.Errorf("enter a user namespace: %w; allow them (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns) or run as root", err)
	}
	for _, m := range []struct {
		program string
		outer   int
		sub     span
	}{{"newuidmap", os.Getuid(), n.uid}, {"newgidmap", os.Getgid(), n.gid}} {
		if err := n.mapNumbers(m.program, m.outer, m.sub); err != nil {
			return errors.Join(err, n.Process.Kill(), n.Cmd.Wait())
		}
	}
	_, err = io.WriteString(gate, "go\n")
	return err
}

// mapNumbers maps the namespace's root to the user and all others to the
// user's subordinate range.
func (n *namespace) mapNumbers(name string, outer int, sub span) error {
	path, err := program.Find(name)
	if err != nil {
		return err
	}
	out, err := exec.Command(path, strconv.Itoa(n.Process.Pid),
		"0", strconv.Itoa(outer), "1",
		"1", strconv.Itoa(sub.first), strconv.Itoa(sub.count)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("map the user namespace with %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// subordinate reads a user's range from /etc/subuid or /etc/subgid: lines of
// NAME:FIRST:COUNT.
func subordinate(path string, me *user.User) (span, error) {
	f, err := os.Open(path)
	if err != nil {
		return span{}, fmt.Errorf("find subordinate numbers: %w; install the package uidmap", err)
	}
	defer f.Close()
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		fields := strings.Split(scanner.Text(), ":")
		if len(fields) != 3 || fields[0] != me.Username && fields[0] != me.Uid {
			continue
		}
		first, err1 := strconv.Atoi(fields[1])
		count, err2 := strconv.Atoi(fields[2])
		if err1 == nil && err2 == nil && count >= 65534 {
			return span{first, count}, nil
		}
	}
	return span{}, errors.Join(scanner.Err(), fmt.Errorf("user %s has no range of 65534 numbers in %s: run as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", me.Username, path, me.Username))
}

// pipe runs from and to with the output of one as the input of the other, and
// ends both when one fails.
func pipe(from *exec.Cmd, to *namespace, cancel func()) (fromErr, toErr error) {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err), nil
	}
	from.Stdout, to.Stdin = w, r
	toErr = to.Start()
	r.Close()
	if toErr != nil {
		w.Close()
		return nil, toErr
	}
	fromErr = from.Start()
	w.Close()
	if fromErr != nil {
		return fromErr, to.Wait()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if toErr = to.Wait(); toErr != nil {
			cancel()
		}
	}()
	fromErr = from.Wait()
	<-done
	return fromErr, toErr
}
