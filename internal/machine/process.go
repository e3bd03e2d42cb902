package machine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"herdbook/internal/program"
)

// qemu is QEMU for the one architecture there is.
const qemu = "qemu-system-x86_64"

// ErrNoQEMU says that QEMU is not installed, and how to get it.
var ErrNoQEMU = errors.New(qemu + " is not installed: apt-get install qemu-system-x86")

func findQEMU() (string, error) {
	path, err := exec.LookPath(qemu)
	if err != nil {
		return "", ErrNoQEMU
	}
	return path, nil
}

// process is a QEMU that runs.
type process struct {
	*program.Process
	stderr *tailWriter
}

// launch starts QEMU with the files as its descriptors from 3 on, without one for
// each that is nil. They stay the caller's to close.
func launch(binary string, args []string, files []*os.File) (*process, error) {
	stderr := &tailWriter{}
	cmd := exec.Command(binary, args...)
	// No proxy, no preload, no debug switch of the user reaches QEMU.
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	cmd.Stderr = stderr
	cmd.ExtraFiles = files
	p, err := program.Start(cmd)
	return &process{p, stderr}, err
}

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
