// Package program finds programs of this host, runs those that read, write and end, and
// starts those that must not outlive herdbook. What they are for is left to others.
package program

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// debianPackages tells where a program comes from, in Debian and Ubuntu.
var debianPackages = map[string]string{
	"apt-cacher-ng":    "apt-cacher-ng",
	"ansible-playbook": "ansible-core",
	"ssh":              "openssh-client",
	"mcopy":            "mtools",
	"mformat":          "mtools",
	"mmd":              "mtools",
	"mmdebstrap":       "mmdebstrap",
	"mke2fs":           "e2fsprogs",
	"mksquashfs":       "squashfs-tools",
	"newuidmap":        "uidmap",
	"newgidmap":        "uidmap",
	"tar":              "tar",
	"xorriso":          "xorriso",
	"xz":               "xz-utils",
}

// MissingError says that a program is not installed.
type MissingError struct{ Program, Package string }

// Error implements error.
func (e *MissingError) Error() string {
	if e.Package == "" {
		return e.Program + " is not installed"
	}
	return fmt.Sprintf("%s is not installed: apt-get install %s", e.Program, e.Package)
}

// Find returns the path of a program, or a *MissingError. It looks in the
// directories of the superuser too.
func Find(name string) (string, error) {
	for _, candidate := range []string{name, "/usr/sbin/" + name, "/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, nil
		}
	}
	return "", &MissingError{name, debianPackages[name]}
}

// Process is a program that runs and cannot outlive herdbook. Its methods may be
// called from several goroutines.
type Process struct {
	process *os.Process
	done    chan struct{}
	err     error // of its end, set before done is closed
}

// Start starts a command that nobody else waits for. Ctrl-C does not reach it,
// and kill -9 of herdbook ends it.
func Start(cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL, // kill -9 of herdbook ends it too
		Setpgid:   true,            // Ctrl-C is herdbook's to handle
	}
	p := &Process{done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(cmd, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// run starts the program and waits for it on a thread of its own. The kernel sends
// the parent-death signal when the *thread* that started the process ends, and the
// Go runtime ends threads as it likes; a goroutine that is locked to its thread
// keeps it for as long as the program lives.
func (p *Process) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	p.process = cmd.Process
	started <- err
	if err != nil {
		return
	}
	p.err = cmd.Wait()
	close(p.done)
}

// PID is its number.
func (p *Process) PID() int { return p.process.Pid }

// Done is closed when it has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how it ended, as of exec.Cmd's Wait; it is for after Done.
func (p *Process) Err() error { return p.err }

// Kill ends it at once. An error of the signal means that it has ended already.
func (p *Process) Kill() { _ = p.process.Kill() }

// KillAll ends it at once, with all that it started and that is in its process group.
func (p *Process) KillAll() { _ = syscall.Kill(-p.process.Pid, syscall.SIGKILL) }

// Terminate asks it to end.
func (p *Process) Terminate() { _ = p.process.Signal(syscall.SIGTERM) }
