// Package machine runs QEMU: a Spec becomes a command line by a pure function,
// and that a process that cannot outlive herdbook, with a console kept line by
// line, a port for the agent and a QMP connection for power and status. It also
// finds out whether KVM can be used. What the guest does, and what is said on
// its port, is left to others.
package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"herdbook/internal/event"
	"herdbook/internal/gateway"
)

// Machine is a running machine. Its methods may be called from several
// goroutines. Close must be called.
type Machine struct {
	port    net.Conn
	console *console
	log     *console // nil if there is none
	term    net.Conn // nil if there is none
	tunnel  net.Conn // nil if there is none
	qmp     *qmp
	process *process
	network *gateway.Gateway // nil if there is none
	disks   []Disk

	done chan struct{} // closed when the machine has ended and all it said was read
	exit *Exit         // set before done is closed

	mu     sync.Mutex
	intent *Exit // why herdbook ended it
	closed sync.Once
}

// Start starts a machine and returns when QEMU has made it. Each line of its
// console goes to sink. When ctx ends, the machine is killed, and Wait tells
// the cause. The error wraps ErrNoQEMU or ErrNoFirmware where those are missing.
func Start(ctx context.Context, s Spec, sink event.Sink) (*Machine, error) {
	m, err := startProcess(ctx, s, sink)
	if err != nil {
		return nil, fmt.Errorf("start machine: %w", err)
	}
	go m.reap()
	go m.watch(ctx)
	if err := m.qmp.handshake(ctx); err != nil {
		// What QEMU says of itself is better than that it is gone.
		if errors.Is(err, errLost) {
			err = m.Wait(ctx)
		}
		return nil, errors.Join(fmt.Errorf("start machine: %w", err), m.Close())
	}
	return m, nil
}

// startProcess starts the process with its sockets and its network.
func startProcess(ctx context.Context, s Spec, sink event.Sink) (*Machine, error) {
	if err := errors.Join(context.Cause(ctx), s.check()); err != nil {
		return nil, err
	}
	binary, err := findQEMU()
	if err != nil {
		return nil, err
	}
	memory, err := s.memoryFile()
	if err != nil {
		return nil, err
	}
	var theirs []*os.File
	var ours []net.Conn
	for range 3 { // in the order of qmpFD, portFD, consoleFD
		p, pairErr := socketPair()
		if err = pairErr; err != nil {
			break
		}
		theirs, ours = append(theirs, p.theirs), append(ours, p.ours)
	}
	theirs = append(theirs, memory) // or a nil in its place, which is no descriptor
	var network *gateway.Gateway
	var cable *os.File
	if err == nil && s.Network != nil {
		network, cable, err = connect(*s.Network, sink)
	}
	theirs = append(theirs, cable)
	var more [2]pair
	for i, name := range []string{s.Terminal, s.Tunnel} { // in the order of terminalFD, tunnelFD
		if err == nil && name != "" {
			more[i], err = socketPair()
		}
		theirs = append(theirs, more[i].theirs)
	}
	var p *process
	if err == nil {
		p, err = launch(binary, Args(s), theirs)
	}
	err = errors.Join(err, closeFiles(theirs))
	if err != nil {
		if p != nil {
			p.Kill()
		}
		if network != nil {
			network.Close()
		}
		return nil, errors.Join(err, closeAll(append(ours, more[0].ours, more[1].ours)))
	}
	m := &Machine{
		qmp: newQMP(ours[0]), port: ours[1], console: newConsole(ours[2], event.Console, sink),
		term: more[0].ours, tunnel: more[1].ours, process: p, network: network, disks: s.Disks, done: make(chan struct{}),
	}
	if s.Log != "" {
		m.log = newConsole(m.port, event.System, sink)
	}
	return m, nil
}

// connect starts the network of a machine, whose end of it is the file.
func connect(rules gateway.Rules, sink event.Sink) (*gateway.Gateway, *os.File, error) {
	p, err := socketPair()
	if err != nil {
		return nil, nil, err
	}
	network, err := gateway.Start(p.ours, rules, sink)
	return network, p.theirs, err
}

// reap waits for QEMU's end and for its last words on every socket.
func (m *Machine) reap() {
	<-m.process.Done()
	if m.network != nil {
		m.network.Close()
	}
	<-m.console.done
	<-m.qmp.done
	if m.log != nil {
		<-m.log.done
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.exit = conclude(ending{
		err:      m.process.Err(),
		intent:   m.intent,
		shutdown: m.qmp.shutdownReason(),
		panicked: m.console.kernelPanic(),
		stderr:   m.process.stderr.String(),
		last:     lastLine(m.console.tail()),
	})
	close(m.done)
}

// watch ends the machine with ctx, or when it cannot go on.
func (m *Machine) watch(ctx context.Context) {
	select {
	case <-ctx.Done():
		m.kill(Cancelled, context.Cause(ctx))
	case t := <-m.qmp.trouble:
		m.kill(Failed, t.explain(m.disks))
	case <-m.done:
	}
}

// explain names the disk by its path.
func (t trouble) explain(disks []Disk) error {
	if t.node == "" {
		return t.why
	}
	name := t.node
	for i, d := range disks {
		if t.node == fmt.Sprintf("disk%d", i) {
			name = d.Path
		}
	}
	return fmt.Errorf("%s of disk %q failed on the host: %w", t.operation, name, t.why)
}

// kill ends the process; the first intent counts.
func (m *Machine) kill(why Reason, cause error) {
	m.intend(why, cause)
	m.process.Kill()
}

func (m *Machine) intend(why Reason, cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.intent == nil {
		m.intent = &Exit{Reason: why, Cause: cause}
	}
}

// Port is herdbook's end of the agent's port. What is written before the guest
// has opened it waits; what the guest writes arrives in order. It can have
// deadlines, and ends (io.EOF) with the machine. Close closes it.
func (m *Machine) Port() net.Conn { return m.port }

// Dial connects to a TCP port of the guest, as gateway.Dial does. It fails if the
// machine has no network.
func (m *Machine) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	if m.network == nil {
		return nil, fmt.Errorf("connect to port %d of the guest: the machine has no network", port)
	}
	return m.network.Dial(ctx, port)
}

// Terminal is herdbook's end of the person's port; nil if the machine has none. What is
// written before the guest has opened it waits. Close closes it.
func (m *Machine) Terminal() net.Conn { return m.term }

// Tunnel is herdbook's end of the machine's Tunnel, nil if it has none. It is as Port.
func (m *Machine) Tunnel() net.Conn { return m.tunnel }

// PortClosed is closed when the guest has closed the agent's port, or who had it open
// was ended.
func (m *Machine) PortClosed() <-chan struct{} { return m.qmp.shut }

// Panicked is closed when the guest's kernel has said that it gives up. A guest may say
// so without doing it.
func (m *Machine) Panicked() <-chan struct{} { return m.console.gaveUp }

// Panic is what the guest's kernel said when it gave up; "" while it has not.
func (m *Machine) Panic() string { return m.console.kernelPanic() }

// Tail returns the last lines of the console, 40 at most, the unfinished one
// included.
func (m *Machine) Tail() []string { return m.console.tail() }

// Unfinished returns what stands on the console behind its last whole line: a
// prompt, or progress.
func (m *Machine) Unfinished() string { return m.console.unfinished() }

// Attach passes the console's raw bytes to w and what is read from r to the
// console, for a person at a terminal, beside the log. It returns at once. The goroutine
// that reads r ends with r, or at its first read after the machine.
func (m *Machine) Attach(r io.Reader, w io.Writer) {
	m.console.attach(w)
	go func() {
		// The error says only that the machine or the terminal is gone.
		_, _ = io.Copy(m.console.conn, r)
	}()
}

// Detach ends what Attach began, but for the read of r that is under way.
func (m *Machine) Detach() { m.console.attach(nil) }

// Wait waits for the machine's end. It returns nil if the guest powered off,
// otherwise an *Exit that tells how it ended. When ctx ends first, the machine is killed,
// and the error wraps the cause. It may be called more than once.
func (m *Machine) Wait(ctx context.Context) error {
	select {
	case <-m.done:
	case <-ctx.Done():
		m.kill(Cancelled, context.Cause(ctx))
		<-m.done
	}
	if m.exit.Reason == PoweredOff {
		return nil
	}
	return m.exit
}

// Done is closed when the machine has ended.
func (m *Machine) Done() <-chan struct{} { return m.done }

// PowerDown presses the power button and returns: a guest that listens to it
// powers off in its own time, which Wait tells.
func (m *Machine) PowerDown(ctx context.Context) error {
	_, err := m.qmp.execute(ctx, "system_powerdown")
	return err
}

// Quit asks QEMU to close its disks and end, without asking the guest. Wait
// then tells Ended.
func (m *Machine) Quit(ctx context.Context) error {
	m.intend(Ended, nil)
	_, err := m.qmp.execute(ctx, "quit")
	select {
	case <-m.qmp.done: // it may be gone before it has answered
		return nil
	default:
		return err
	}
}

// Status is QEMU's word for what the machine does: "running", "shutdown",
// "internal-error" and so on.
func (m *Machine) Status(ctx context.Context) (string, error) {
	p, err := m.qmp.execute(ctx, "query-status")
	if err != nil {
		return "", err
	}
	var answer struct {
		Status string `json:"status"`
	}
	if err := json.Unmarshal(p, &answer); err != nil {
		return "", fmt.Errorf("read QEMU's status: %w", err)
	}
	return answer.Status, nil
}

// Screenshot writes what the machine's screen shows to path, as PNG. The machine
// must have a Screen. It needs QEMU 7.1.
func (m *Machine) Screenshot(ctx context.Context, path string) error {
	absolute, err := filepath.Abs(path)
	if err == nil {
		_, err = m.qmp.call(ctx, "screendump", map[string]any{"filename": absolute, "format": "png"})
	}
	if err != nil {
		return fmt.Errorf("take a screenshot: %w", err)
	}
	return nil
}

// Kill ends the machine at once, as if its plug were pulled.
func (m *Machine) Kill() { m.kill(Ended, nil) }

// Close kills the machine if it runs, waits for its end and frees all that it
// held. It may be called more than once; only the first call can return an error.
func (m *Machine) Close() error {
	var err error
	m.closed.Do(func() {
		m.Kill()
		<-m.done
		err = closeAll([]net.Conn{m.port, m.console.conn, m.qmp.conn, m.term, m.tunnel})
	})
	return err
}

func closeFiles(files []*os.File) error {
	var err error
	for _, f := range files {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// closeAll closes connections, of which some may be nil.
func closeAll(conns []net.Conn) error {
	var err error
	for _, c := range conns {
		if c == nil {
			continue
		}
		if closed := c.Close(); !errors.Is(closed, net.ErrClosed) { // as who had the port may have done
			err = errors.Join(err, closed)
		}
	}
	return err
}

func lastLine(lines []string) string {
	for i := len(lines) - 1; i >= 0; i-- {
		if text := strings.TrimSpace(lines[i]); text != "" {
			return text
		}
	}
	return ""
}
