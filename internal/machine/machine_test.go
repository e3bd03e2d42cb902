package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/gateway"
	"herdbook/internal/peer"
)

// childEnv makes the test program a herdbook that starts a machine and waits.
const childEnv = "HERDBOOK_TEST_MACHINE_OF"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		child(path)
	}
	goleak.VerifyTestMain(m)
}

// Programs of a boot sector, in the language of a processor in real mode.
var (
	// mov dx, 0x604; mov ax, 0x2000; out dx, ax: ACPI's power-off of a q35.
	sectorPowerOff = []byte{0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd}
	// mov al, 0xfe; out 0x64, al: the keyboard controller's reset.
	sectorReset = []byte{0xb0, 0xfe, 0xe6, 0x64, 0xf4, 0xeb, 0xfd}
	// hlt, for ever.
	sectorHang = []byte{0xfb, 0xf4, 0xeb, 0xfd}
)

// say writes a text to the serial console: mov dx, 0x3f8; mov al, c; out dx, al.
func say(text string) []byte {
	code := []byte{0xba, 0xf8, 0x03}
	for _, c := range []byte(text) {
		code = append(code, 0xb0, c, 0xee)
	}
	return code
}

// bootDisk is a disk whose boot sector holds programs, one behind the other.
func bootDisk(t *testing.T, programs ...[]byte) Disk {
	t.Helper()
	sector := make([]byte, 1<<20)
	if n := copy(sector, slices.Concat(programs...)); n > 510 {
		t.Fatal("the program does not fit into a boot sector")
	}
	sector[510], sector[511] = 0x55, 0xaa
	path := filepath.Join(t.TempDir(), "disk,with comma.raw")
	peer.Must(t, os.WriteFile(path, sector, 0o644))
	return Disk{Path: path, Format: disk.Raw}
}

// lines gathers the console, and tells when a line has come.
type lines struct {
	mu   sync.Mutex
	list []string
	came chan string
}

func newLines() *lines { return &lines{came: make(chan string, 1000)} }

func (l *lines) sink(e event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, e.Text)
	l.came <- e.Text
}

func (l *lines) wait(t *testing.T, text string) {
	t.Helper()
	for line := range l.came {
		if strings.Contains(line, text) {
			return
		}
	}
}

func power(t *testing.T, ctx context.Context, s Spec, sink event.Sink) *Machine {
	t.Helper()
	peer.NeedTool(t, qemu)
	m, err := Start(ctx, s, sink)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Must(t, m.Close()) })
	return m
}

func TestAGuestThatPowersOff(t *testing.T) {
	console := newLines()
	m := power(t, t.Context(), Spec{Disks: []Disk{bootDisk(t, say("hello\r\nand more"), sectorPowerOff)}}, console.sink)
	for range 2 {
		if err := m.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if tail := m.Tail(); len(tail) < 2 || !strings.HasSuffix(tail[len(tail)-2], "hello") || tail[len(tail)-1] != "and more" {
		t.Errorf("the console: %q", tail)
	}
	if n, err := m.Port().Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the port behind the end: %d, %v", n, err)
	}
}

func TestAGuestThatRestarts(t *testing.T) {
	m := power(t, t.Context(), Spec{Disks: []Disk{bootDisk(t, say("\r\nagain\r\n"), sectorReset)}}, nil)
	var exit *Exit
	if err := m.Wait(t.Context()); !errors.As(err, &exit) || exit.Reason != Reset || exit.Last != "again" {
		t.Errorf("%v", err)
	}
}

func TestEndings(t *testing.T) {
	late := errors.New("it was not done in time")
	for name, c := range map[string]struct {
		end    func(t *testing.T, m *Machine, cancel context.CancelCauseFunc)
		reason Reason
		cause  error
	}{
		"Quit":     {func(t *testing.T, m *Machine, _ context.CancelCauseFunc) { peer.Must(t, m.Quit(t.Context())) }, Ended, nil},
		"Kill":     {func(_ *testing.T, m *Machine, _ context.CancelCauseFunc) { m.Kill() }, Ended, nil},
		"Close":    {func(t *testing.T, m *Machine, _ context.CancelCauseFunc) { peer.Must(t, m.Close()) }, Ended, nil},
		"deadline": {func(_ *testing.T, _ *Machine, cancel context.CancelCauseFunc) { cancel(late) }, Cancelled, late},
		"SIGKILL": {func(t *testing.T, m *Machine, _ context.CancelCauseFunc) {
			peer.Must(t, syscall.Kill(m.process.PID(), syscall.SIGKILL))
		}, Killed, nil},
		"SIGTERM": {func(t *testing.T, m *Machine, _ context.CancelCauseFunc) {
			peer.Must(t, syscall.Kill(m.process.PID(), syscall.SIGTERM))
		}, Killed, nil},
		// A guest that does not listen to its power button goes on.
		"PowerDown": {func(t *testing.T, m *Machine, _ context.CancelCauseFunc) {
			peer.Must(t, m.PowerDown(t.Context()))
			m.Kill()
		}, Ended, nil},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			console := newLines()
			m := power(t, ctx, Spec{Disks: []Disk{bootDisk(t, say("up\r\n"), sectorHang)}}, console.sink)
			console.wait(t, "up")
			c.end(t, m, cancel)
			err := m.Wait(t.Context())
			var exit *Exit
			if !errors.As(err, &exit) || exit.Reason != c.reason || c.cause != nil && !errors.Is(err, c.cause) {
				t.Errorf("%v; want %s, %v", err, c.reason, c.cause)
			}
			if _, err := m.qmp.execute(t.Context(), "query-status"); !errors.Is(err, errLost) {
				t.Errorf("a question behind the end: %v", err)
			}
		})
	}
}

// Every device that Args knows is one that QEMU knows.
func TestQEMUTakesEverything(t *testing.T) {
	peer.NeedTool(t, "qemu-img", qemu)
	qcow := filepath.Join(t.TempDir(), "a b,c.qcow2")
	peer.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", qcow, "64M")
	raw := bootDisk(t, sectorHang)
	for name, s := range map[string]Spec{
		"everything": {Memory: 512, CPUs: 2, Network: &gateway.Rules{Alone: true}, MAC: "52:54:00:68:62:01", UUID: "68657264-626f-4f6b-8000-000000000001", NoFlush: true, Port: "org.herdbook.0", Terminal: "org.herdbook.terminal", Screen: true, Disks: []Disk{
			{Path: raw.Path, Format: disk.Raw, Serial: "root", Discard: true}, {Path: qcow, Format: disk.QCOW2, ReadOnly: true, Serial: "files"},
		}},
		"UEFI": {Firmware: UEFI, Disks: []Disk{{Path: qcow, Format: disk.QCOW2, Discard: true}}},
	} {
		if s.Firmware == UEFI {
			_, _, err := Firmwares()
			peer.Need(t, err == nil, "no UEFI firmware is installed")
		}
		m := power(t, t.Context(), s, nil)
		if _, err := m.qmp.execute(t.Context(), "query-status"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		peer.Must(t, m.Quit(t.Context()))
		var exit *Exit
		if err := m.Wait(t.Context()); !errors.As(err, &exit) || exit.Reason != Ended {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatCannotStartSaysWhy(t *testing.T) {
	peer.NeedTool(t, qemu)
	lying := filepath.Join(t.TempDir(), "lying.qcow2")
	peer.Must(t, os.WriteFile(lying, make([]byte, 1<<16), 0o644))
	for name, c := range map[string]struct {
		spec Spec
		want string
	}{
		"a wrong spec":         {Spec{Arch: "vax"}, `architecture "vax"`},
		"no such disk":         {Spec{Disks: []Disk{{Path: "/no/such/disk", Format: disk.Raw}}}, "No such file or directory"},
		"no such kernel":       {Spec{Kernel: "/no/such/kernel"}, "/no/such/kernel"},
		"not the format":       {Spec{Disks: []Disk{{Path: lying, Format: disk.QCOW2}}}, "qcow2"},
		"more than any memory": {Spec{Memory: 1 << 40}, "memory"},
	} {
		m, err := Start(t.Context(), c.spec, nil)
		if m != nil {
			t.Errorf("%s: it started", name)
			peer.Must(t, m.Close())
			continue
		}
		if !strings.HasPrefix(err.Error(), "start machine: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q in it", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, Spec{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
	t.Setenv("PATH", "")
	if _, err := Start(t.Context(), Spec{}, nil); !errors.Is(err, ErrNoQEMU) || !strings.Contains(err.Error(), "apt-get install") {
		t.Errorf("no QEMU: %v", err)
	}
}

// child starts a machine, tells its process, and waits to be killed.
func child(path string) {
	m, err := Start(context.Background(), Spec{Disks: []Disk{{Path: path, Format: disk.Raw}}}, nil)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(m.process.PID())
	_ = m.Wait(context.Background())
	os.Exit(1)
}

// kill -9 of herdbook must not leave a machine behind.
func TestTheMachineDiesWithHerdbook(t *testing.T) {
	peer.NeedTool(t, qemu)
	me, err := os.Executable()
	peer.Must(t, err)
	cmd := exec.Command(me)
	cmd.Env = append(os.Environ(), childEnv+"="+bootDisk(t, sectorHang).Path)
	out, err := cmd.StdoutPipe()
	peer.Must(t, err)
	peer.Must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	peer.Must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the child says %q", line)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	peer.Must(t, err)
	defer unix.Close(fd)
	peer.Must(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 60_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n != 1 {
			t.Errorf("QEMU (%d) lives on: %d, %v", pid, n, err)
		}
		return
	}
}

// A kernel without an init gives up, and that is told as what it is.
func TestVMAKernelThatPanics(t *testing.T) {
	kernels, err := filepath.Glob("/boot/vmlinuz-*")
	peer.Must(t, err)
	peer.Need(t, len(kernels) > 0, "this host has no kernel in /boot")
	m := power(t, t.Context(), Spec{Kernel: kernels[0], CommandLine: "console=ttyS0 panic=-1 quiet", Memory: 512}, nil)
	var exit *Exit
	if err := m.Wait(t.Context()); !errors.As(err, &exit) || exit.Reason != Panicked || !strings.HasPrefix(exit.Panic, panicMark) {
		t.Errorf("%v", err)
	}
}

// fakeQEMU answers as it is told. Its conversation is a list of lines to be sent,
// "<" for a line to be read first.
func fakeQEMU(t *testing.T, script ...string) *qmp {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		r := bufio.NewReader(theirs)
		for _, line := range script {
			if line == "<" {
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
				continue
			}
			if _, err := io.WriteString(theirs, line+"\n"); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		peer.Must(t, ours.Close())
		<-done
	})
	return newQMP(ours)
}

const greeting = `{"QMP": {"version": {}, "capabilities": []}}`

func TestQMP(t *testing.T) {
	for name, c := range map[string]struct {
		script []string
		want   string // part of the error of the second question; "" for none
	}{
		"as it should":         {[]string{greeting, "<", `{"return": {}, "id": 1}`, "", `{"event": "RESUME", "data": {}}`, "<", `{"return": {"x": 1}, "id": 2}`}, ""},
		"an error":             {[]string{greeting, "<", `{"return": {}, "id": 1}`, "<", `{"error": {"class": "CommandNotFound", "desc": "no such thing"}, "id": 2}`}, "no such thing (CommandNotFound)"},
		"it goes away":         {[]string{greeting, "<", `{"return": {}, "id": 1}`, "<"}, errLost.Error()},
		"no JSON":              {[]string{greeting, "<", `{"return": {}, "id": 1}`, "<", "what?"}, `read QMP message "what?"`},
		"an unasked answer":    {[]string{greeting, "<", `{"return": {}, "id": 1}`, "<", `{"return": {}}`}, "was not asked"},
		"it greets twice":      {[]string{greeting, "<", `{"return": {}, "id": 1}`, "<", greeting}, "greets twice"},
		"an endless line":      {[]string{greeting, "<", `{"return": {}, "id": 1}`, "<", strings.Repeat("x", maxMessage+1)}, "too long"},
		"an answer to another": {[]string{greeting, "<", `{"return": {}, "id": 1}`, "<", `{"return": {}, "id": 77}`, `{"return": {}, "id": 2}`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			q := fakeQEMU(t, c.script...)
			peer.Must(t, q.handshake(t.Context()))
			_, err := q.execute(t.Context(), "query-status")
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
	q := fakeQEMU(t)
	if err := q.handshake(t.Context()); !errors.Is(err, errLost) {
		t.Errorf("no greeting: %v", err)
	}
}

func TestTroubleOfADiskIsTold(t *testing.T) {
	q := fakeQEMU(t, greeting, `{"event": "BLOCK_IO_ERROR", "data": {"node-name": "disk1", "operation": "write", "nospace": true}}`,
		`{"event": "STOP", "data": {}}`, `{"event": "SHUTDOWN", "data": {"reason": "guest-shutdown"}}`)
	<-q.done
	err := (<-q.trouble).explain([]Disk{{Path: "/a"}, {Path: "/b"}})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), `write of disk "/b"`) {
		t.Errorf("%v", err)
	}
	if q.shutdownReason() != "guest-shutdown" {
		t.Errorf("the reason: %q", q.shutdownReason())
	}
}

func FuzzQMP(f *testing.F) {
	f.Add([]byte(greeting + "\n{\"event\": \"STOP\"}\n{\"return\": {}, \"id\": 1}\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		ours, theirs := net.Pipe()
		q := newQMP(ours)
		_, _ = theirs.Write(p) // until q has had enough
		theirs.Close()
		<-q.done
		peer.Must(t, ours.Close())
	})
}
