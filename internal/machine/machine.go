// Package machine runs QEMU: a Spec becomes a command line by a pure function,
// a process that cannot outlive herdbook, a serial log, an agent port and a QMP
// connection. What the guest does is left to others.
package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"herdbook/internal/disk"
	"herdbook/internal/event"
)

// Accelerator is how QEMU runs the guest's instructions.
type Accelerator string

// The accelerators.
const (
	KVM Accelerator = "kvm" // the processor itself
	TCG Accelerator = "tcg" // software emulation: works everywhere, several times slower
)

// Firmware is what a machine without a kernel of its own starts from.
type Firmware string

// The firmwares.
const (
	BIOS Firmware = "bios"
	UEFI Firmware = "uefi"
)

// Spec is a machine. The zero value of a field means that it has none of it.
type Spec struct {
	Accelerator Accelerator
	Memory      int // MiB
	CPUs        int

	// A kernel to start directly; without one the machine starts from its
	// first disk by Firmware.
	Kernel, Initrd, CommandLine string
	Firmware                    Firmware
	FirmwareCode, FirmwareVars  string // paths, for UEFI; Vars is written to

	Disks   []Disk
	Port    string // name of the agent's virtio-serial port
	Network bool   // a virtio network device on QEMU's user network
}

// Disk is one virtio disk.
type Disk struct {
	Path     string
	Format   disk.Format
	ReadOnly bool
	Serial   string // what the guest knows it by; at most 20 characters
}

// Exit tells how a machine ended.
type Exit string

// The ways to end.
const (
	PoweredOff Exit = "powered off" // by the guest itself
	Reset      Exit = "reset"       // the guest wanted to restart: a kernel panic does
	Ended      Exit = "ended"       // by herdbook
	Crashed    Exit = "crashed"     // QEMU itself
)

// tailLines is the number of console lines kept for a message.
const tailLines = 40

// Machine is a running machine.
type Machine struct {
	port    net.Conn
	console *console
	qmp     *qmp
	stderr  *tailWriter
	process *os.Process

	done    chan struct{} // closed when the process has ended
	exit    Exit          // set before done is closed
	exitErr error

	mu     sync.Mutex
	killed error // why herdbook ended it
	closed sync.Once
}

// ErrNoQEMU says that QEMU is not installed.
var ErrNoQEMU = errors.New("qemu-system-x86_64 is not installed: apt-get install qemu-system-x86")

// Start starts a machine. Each line of its console goes to sink. When ctx ends
// the machine is killed, and Wait tells the cause.
func Start(ctx context.Context, s Spec, sink event.Sink) (*Machine, error) {
	binary, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return nil, ErrNoQEMU
	}
	var pairs [3]pair // QMP, agent port, console: the descriptors 3, 4 and 5 of QEMU
	for i := range pairs {
		if pairs[i], err = socketPair(); err != nil {
			closePairs(pairs[:i])
			return nil, fmt.Errorf("start machine: %w", err)
		}
	}
	m := &Machine{
		port:    pairs[1].ours,
		console: newConsole(pairs[2].ours, sink),
		qmp:     newQMP(pairs[0].ours),
		stderr:  &tailWriter{},
		done:    make(chan struct{}),
	}
	cmd := exec.Command(binary, Args(s)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	cmd.Stderr = m.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL, // kill -9 of herdbook ends the machine too
		Setpgid:   true,            // Ctrl-C is herdbook's to handle
	}
	for _, p := range pairs {
		cmd.ExtraFiles = append(cmd.ExtraFiles, p.theirs)
	}
	started := make(chan error)
	go m.run(cmd, started)
	err = <-started
	for _, p := range pairs {
		err = errors.Join(err, p.theirs.Close())
	}
	if err != nil {
		closePairs(pairs[:])
		return nil, fmt.Errorf("start machine: %w", err)
	}
	go m.watch(ctx)
	return m, nil
}

// run starts the process and waits for it on one thread: the kernel sends the
// parent-death signal when the thread that started the process ends, not when
// the program does.
func (m *Machine) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	m.process = cmd.Process
	started <- err
	if err != nil {
		return
	}
	err = cmd.Wait()
	m.console.wait()
	m.qmp.wait()
	m.conclude(err)
	close(m.done)
}

// conclude works out why the process ended.
func (m *Machine) conclude(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch reason := m.qmp.shutdownReason(); {
	case m.killed != nil:
		m.exit, m.exitErr = Ended, m.killed
	case err != nil:
		m.exit, m.exitErr = Crashed, fmt.Errorf("QEMU ended: %w%s", explainSignal(err), m.stderr.said())
	case reason == "guest-shutdown":
		m.exit = PoweredOff
	case reason == "guest-reset" || reason == "guest-panic":
		m.exit = Reset
	default:
		m.exit, m.exitErr = Crashed, fmt.Errorf("QEMU ended without a reason (%q)%s", reason, m.stderr.said())
	}
}

// explainSignal says what a killed QEMU may mean.
func explainSignal(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return fmt.Errorf("%w: killed from outside; was the host out of memory?", err)
		}
	}
	return err
}

func (m *Machine) watch(ctx context.Context) {
	select {
	case <-ctx.Done():
		m.kill(context.Cause(ctx))
	case <-m.done:
	}
}

func (m *Machine) kill(why error) {
	m.mu.Lock()
	if m.killed == nil {
		m.killed = why
	}
	m.mu.Unlock()
	// An error means that it has ended already.
	_ = m.process.Kill()
}

// Port is the guest agent's end of the conversation.
func (m *Machine) Port() net.Conn { return m.port }

// Tail returns the last lines of the console.
func (m *Machine) Tail() []string { return m.console.tail() }

// Attach passes the console's raw bytes to w and what is read from r to the
// console, for a person at a terminal, beside the log.
func (m *Machine) Attach(r io.Reader, w io.Writer) {
	m.console.attach(w)
	go func() {
		// Ends with the machine, or with r.
		_, _ = io.Copy(m.console.conn, r)
	}()
}

// Wait waits for the machine's end and tells how it came. Beside PoweredOff and
// Reset, the error says why. It may be called more than once.
func (m *Machine) Wait() (Exit, error) {
	<-m.done
	return m.exit, m.exitErr
}

// Done is closed when the machine has ended.
func (m *Machine) Done() <-chan struct{} { return m.done }

// PowerDown presses the power button.
func (m *Machine) PowerDown(ctx context.Context) error {
	return m.qmp.execute(ctx, "system_powerdown")
}

var errClosed = errors.New("the machine is not needed any more")

// Close kills the machine if it runs, waits for its end and frees all that it
// held. It may be called more than once.
func (m *Machine) Close() error {
	var err error
	m.closed.Do(func() {
		m.kill(errClosed)
		<-m.done
		err = errors.Join(m.port.Close(), m.console.conn.Close(), m.qmp.conn.Close())
	})
	return err
}

// pair is a connected pair of sockets, one end of which is for QEMU. Nothing of
// it lies on a disk, and it goes with its processes.
type pair struct {
	ours   net.Conn
	theirs *os.File
}

func socketPair() (pair, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return pair{}, fmt.Errorf("make socket pair: %w", err)
	}
	ours := os.NewFile(uintptr(fds[0]), "socket")
	defer ours.Close() // FileConn has a copy
	conn, err := net.FileConn(ours)
	if err != nil {
		return pair{}, errors.Join(err, syscall.Close(fds[1]))
	}
	return pair{conn, os.NewFile(uintptr(fds[1]), "socket")}, nil
}

func closePairs(pairs []pair) {
	for _, p := range pairs {
		p.ours.Close()
		p.theirs.Close()
	}
}

// tailWriter keeps the last kilobytes of what is written.
type tailWriter struct {
	mu   sync.Mutex
	text []byte
}

func (t *tailWriter) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-4096):]
	return len(p), nil
}

func (t *tailWriter) said() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if text := strings.TrimSpace(string(t.text)); text != "" {
		return ": " + text
	}
	return ""
}

// deadline makes a context for a short exchange with QEMU.
func deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 10*time.Second)
}
