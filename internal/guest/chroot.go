package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/event"
)

// Chroot runs commands in the root by chroot(2).
type Chroot struct {
	Dir         string
	Environment []string // of every command, beyond the usual one
	Redact      []string // values to be blotted out of all output
	Sink        event.Sink
	// Daemons live on when the command that has started them ends, and what they say is
	// still reported. Without it all processes of a command end with it.
	Daemons bool
}

var _ Runner = (*Chroot)(nil)

// environment is that of every command.
var environment = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh", "TERM=dumb", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
}

// Run implements Runner. All processes of the command end with ctx.
func (c *Chroot) Run(ctx context.Context, command Command) (int, error) {
	cmd := exec.CommandContext(ctx, command.Args[0], command.Args[1:]...)
	path, err := c.lookPath(command.Args[0])
	if err != nil {
		return 0, err
	}
	cmd.Path, cmd.Err = path, nil
	cmd.Dir = "/"
	cmd.Env = slices.Concat(environment, c.Environment, command.Environment)
	cmd.Stdin = strings.NewReader(command.Stdin)
	out, errs := c.lines(event.Stdout), c.lines(event.Stderr)
	errs.swallow = command.Swallow
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.Dir, Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if c.Daemons {
		err = runWithDaemons(cmd, out, errs)
	} else {
		err = runAlone(cmd, out, errs)
	}
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

// runAlone runs a command and ends what it leaves behind.
func runAlone(cmd *exec.Cmd, out, errs *lineWriter) error {
	cmd.Stdout, cmd.Stderr = out, errs
	err := cmd.Run()
	if cmd.Process != nil {
		// Most often there is nothing.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	out.end()
	errs.end()
	return err
}

// lastWords is how long the output of a command is waited for after its end, if
// something that it left behind holds it open.
const lastWords = time.Second

// runWithDaemons runs a command and leaves alone what it leaves behind.
func runWithDaemons(cmd *exec.Cmd, out, errs *lineWriter) error {
	var reading sync.WaitGroup
	var writers []*os.File
	for _, stream := range []struct {
		writer *lineWriter
		to     *io.Writer
	}{{out, &cmd.Stdout}, {errs, &cmd.Stderr}} {
		r, w, err := os.Pipe()
		if err != nil {
			return errors.Join(err, closeAll(writers))
		}
		writers, *stream.to = append(writers, w), w
		reading.Go(func() {
			_, _ = io.Copy(stream.writer, r) // up to its end, or the machine's
			stream.writer.end()
			r.Close()
		})
	}
	err := errors.Join(cmd.Run(), closeAll(writers))
	said := make(chan struct{})
	go func() {
		reading.Wait()
		close(said)
	}()
	select {
	case <-said:
	case <-time.After(lastWords):
		out.end()
		errs.end()
	}
	return err
}

func closeAll(files []*os.File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
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
		replaced[policyPath] = noServices
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

// noServices is a policy-rc.d that lets no service start (invoke-rc.d(8)).
const noServices = "#!/bin/sh\nexit 101\n"

// ForbidServices keeps packages from starting services, where they ask whether they
// may. The function that it returns allows it again and must be called.
func (r *Root) ForbidServices() (allow func() error, err error) {
	if !r.IsDir(path.Dir(policyPath)) {
		return func() error { return nil }, nil
	}
	return r.replace(policyPath, noServices)
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
