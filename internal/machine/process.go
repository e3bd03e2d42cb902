package machine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// program is QEMU for the one architecture there is.
const program = "qemu-system-x86_64"

// ErrNoQEMU says that QEMU is not installed, and how to get it.
var ErrNoQEMU = errors.New(program + " is not installed: apt-get install qemu-system-x86")

func findQEMU() (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", ErrNoQEMU
	}
	return path, nil
}

// process is a QEMU that cannot outlive herdbook.
type process struct {
	process *os.Process
	stderr  *tailWriter
	done    chan struct{} // closed when it has ended
	err     error         // of its end, set before done is closed
}

// launch starts QEMU with the files as its descriptors from 3 on. They stay
// the caller's to close.
func launch(binary string, args []string, files []*os.File) (*process, error) {
	p := &process{stderr: &tailWriter{}, done: make(chan struct{})}
	cmd := exec.Command(binary, args...)
	// No proxy, no preload, no debug switch of the user reaches QEMU.
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	cmd.Stderr = p.stderr
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL, // kill -9 of herdbook ends it too
		Setpgid:   true,            // Ctrl-C is herdbook's to handle
	}
	started := make(chan error, 1)
	go p.run(cmd, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	return p, nil
}

// run starts QEMU and waits for it on a thread of its own. The kernel sends the
// parent-death signal when the *thread* that started the process ends, and the
// Go runtime ends threads as it likes; a goroutine that is locked to its thread
// keeps it for as long as QEMU lives.
func (p *process) run(cmd *exec.Cmd, started chan<- error) {
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

// kill ends it at once. An error of Kill means that it has ended already.
func (p *process) kill() { _ = p.process.Kill() }

// pair is a connected pair of sockets, one end of which is for QEMU. Nothing of
// it lies on a disk, and it goes with its processes.
type pair struct {
	ours   net.Conn
	theirs *os.File
}

func socketPair() (pair, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return pair{}, fmt.Errorf("make socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket")
	conn, err := net.FileConn(ours)
	err = errors.Join(err, ours.Close()) // FileConn has a copy
	if err != nil {
		return pair{}, errors.Join(fmt.Errorf("make socket pair: %w", err), theirs.Close())
	}
	return pair{conn, theirs}, nil
}

// maxStderr bounds what is kept of QEMU's words, in bytes.
const maxStderr = 4096

// tailWriter keeps the end of what is written.
type tailWriter struct {
	mu   sync.Mutex
	text []byte
}

// Write never fails.
func (t *tailWriter) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = append([]byte(nil), t.text[max(0, len(t.text)-maxStderr):]...)
	return len(p), nil
}

// String returns what was kept as one line of plain text.
func (t *tailWriter) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var s splitter
	lines := s.add(t.text)
	if rest, ok := s.rest(); ok {
		lines = append(lines, rest)
	}
	return strings.Join(lines, "; ")
}
