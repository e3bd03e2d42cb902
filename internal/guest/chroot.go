package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/event"
)

// Chroot runs commands in the root by chroot(2).
type Chroot struct {
	Dir    string
	Redact []string // values to be blotted out of all output
	Sink   event.Sink
}

var _ Runner = (*Chroot)(nil)

// environment is that of every command.
var environment = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh", "TERM=dumb", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
}

// Run implements Runner. All processes of the command end with it or with ctx.
func (c *Chroot) Run(ctx context.Context, command Command) (int, error) {
	cmd := exec.CommandContext(ctx, command.Args[0], command.Args[1:]...)
	path, err := c.lookPath(command.Args[0])
	if err != nil {
		return 0, err
	}
	cmd.Path, cmd.Err = path, nil
	cmd.Dir = "/"
	cmd.Env = append(append([]string{}, environment...), command.Environment...)
	cmd.Stdin = strings.NewReader(command.Stdin)
	out, errs := c.lines(event.Stdout), c.lines(event.Stderr)
	errs.swallow = command.Swallow
	cmd.Stdout, cmd.Stderr = out, errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.Dir, Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	if cmd.Process != nil {
		// What it left behind; most often there is nothing.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	out.end()
	errs.end()
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		// With the second, what it left behind held its output open.
		return 0, nil
	case errors.As(err, &exit):
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// lookPath finds a program in the guest's own directories.
func (c *Chroot) lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	root, err := OpenRoot(c.Dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	for dir := range strings.SplitSeq(strings.TrimPrefix(environment[0], "PATH="), ":") {
		program := path.Join(dir, name)
		if st, err := root.Stat(program); err == nil && isFile(st) && st.Mode&0o111 != 0 {
			return program, nil
		}
	}
	return "", fmt.Errorf("the guest has no program %s", name)
}

// bind is what a command finds in the guest beside its files.
var binds = []struct {
	dir, source, kind string
	flags             uintptr
}{
	{"dev", "/dev", "", unix.MS_BIND | unix.MS_REC},
	{"proc", "proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"sys", "sysfs", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"run", "tmpfs", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
	{"tmp", "tmpfs", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
}

const (
	policyPath = "/usr/sbin/policy-rc.d"
	resolvPath = "/etc/resolv.conf"
	// aside is where what stood in the way waits.
	aside = ".herdbook-aside"
)

// Prepare makes a root fit for commands: /dev, /proc, /sys, /run and /tmp are
// mounted, services are kept from starting (policy-rc.d), and with a nameserver
// the resolver uses it. The function that it returns takes all of it away again
// and must be called; afterwards the guest's files are as they were.
func Prepare(r *Root, nameserver string) (restore func() error, err error) {
	var undo []func() error
	restore = func() error {
		var errs []error
		for i := len(undo) - 1; i >= 0; i-- {
			errs = append(errs, undo[i]())
		}
		undo = nil
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("prepare the guest for commands: %w", err), restore())
		}
	}()
	for _, b := range binds {
		// The directories of a real root are no links; one that is would lead out.
		st, err := r.Lstat("/" + b.dir)
		if err != nil {
			return restore, err
		}
		if !isDir(st) {
			return restore, fmt.Errorf("/%s is no directory", b.dir)
		}
		target := filepath.Join(r.dir, b.dir)
		if err := unix.Mount(b.source, target, b.kind, b.flags, ""); err != nil {
			return restore, fmt.Errorf("mount /%s: %w", b.dir, err)
		}
		undo = append(undo, func() error { return unix.Unmount(target, unix.MNT_DETACH) })
		// Or the unmount of the guest's /dev/pts would be that of the host's too.
		if err := unix.Mount("", target, "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			return restore, fmt.Errorf("mount /%s: %w", b.dir, err)
		}
	}
	if err := r.Chmod("/tmp", 0o1777); err != nil {
		return restore, err
	}
	replaced := map[string]string{}
	if st, err := r.Stat("/usr/sbin"); err == nil && isDir(st) {
		replaced[policyPath] = "#!/bin/sh\nexit 101\n"
	}
	if nameserver != "" {
		replaced[resolvPath] = "nameserver " + nameserver + "\n"
	}
	for name, content := range replaced {
		back, err := r.replace(name, content)
		if err != nil {
			return restore, err
		}
		undo = append(undo, back)
	}
	return restore, nil
}

// replace puts a file in place of whatever is there, even a link.
func (r *Root) replace(name, content string) (back func() error, err error) {
	kept := name + aside
	had := true
	if err := r.Rename(name, kept); errors.Is(err, fs.ErrNotExist) {
		had = false
	} else if err != nil {
		return nil, err
	}
	back = func() error {
		if had {
			return r.Rename(kept, name)
		}
		return r.RemoveAll(name)
	}
	if err := r.WriteFile(name, []byte(content), owned(0o755), false); err != nil {
		return nil, errors.Join(err, back())
	}
	return back, nil
}
