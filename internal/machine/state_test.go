package machine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/gateway"
	"herdbook/internal/peer"
)

// sectorAlone is cli: nothing but the program itself reads its serial line, as the BIOS
// would at every interrupt of the clock.
var sectorAlone = []byte{0xfa}

// sectorCount answers each byte on the serial line with the next digit, which it has in
// a register: mov bl, '0'; loop: wait for a byte of the UART at 0x3f8; inc bl; write it
// and a line's end.
var sectorCount = []byte{
	0xb3, '0',
	0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xfb, 0xba, 0xf8, 0x03, 0xec,
	0xfe, 0xc3, 0x88, 0xd8, 0xee, 0xb0, 0x0a, 0xee, 0xeb, 0xea,
}

// counter starts a machine that counts, with every device that a booted machine has.
func counter(t *testing.T, console *lines) (*Machine, Spec) {
	t.Helper()
	s := Spec{
		Memory: 128, Disks: []Disk{bootDisk(t, sectorAlone, say("\r\nready\r\n"), sectorCount)},
		Port: "org.herdbook.0", Terminal: "org.herdbook.terminal", Screen: true, Network: &gateway.Rules{},
	}
	m := power(t, t.Context(), s, console.sink)
	console.wait(t, "ready")
	press(t, m)
	console.wait(t, "1")
	return m, s
}

// press types a key at the console.
func press(t *testing.T, m *Machine) {
	t.Helper()
	_, err := m.console.conn.Write([]byte("x"))
	peer.Must(t, err)
}

func TestASavedMachineGoesOn(t *testing.T) {
	console := newLines()
	m, s := counter(t, console)
	var state bytes.Buffer
	peer.Must(t, m.Save(t.Context(), &state))
	peer.Must(t, m.Quit(t.Context()))
	t.Logf("%d KiB for a machine of %d MiB", state.Len()>>10, s.Memory)
	if state.Len() > 16<<20 {
		t.Errorf("%d bytes: memory that was never touched must cost nearly nothing", state.Len())
	}
	for range 2 { // it can be entered again
		again, err := Resume(t.Context(), s, bytes.NewReader(state.Bytes()), console.sink)
		peer.Must(t, err)
		press(t, again)
		console.wait(t, "2")
		peer.Must(t, again.Close())
	}
}

func TestAStateThatCannotBeWritten(t *testing.T) {
	console := newLines()
	m, _ := counter(t, console)
	full := errors.New("no room")
	if err := m.Save(t.Context(), &fullWriter{64 << 10, full}); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
	peer.Must(t, m.Quit(t.Context())) // it does not hang
}

// fullWriter has room for some bytes.
type fullWriter struct {
	room int
	err  error
}

func (w *fullWriter) Write(p []byte) (int, error) {
	if w.room -= len(p); w.room < 0 {
		return 0, w.err
	}
	return len(p), nil
}

func TestSavingHasAnEnd(t *testing.T) {
	console := newLines()
	m, _ := counter(t, console)
	late := errors.New("it took too long")
	ctx, cancel := context.WithCancelCause(t.Context())
	r, w := io.Pipe()
	go func() {
		_, _ = io.ReadFull(r, make([]byte, 4096))
		cancel(late) // and nothing is read any more
		r.Close()
	}()
	if err := m.Save(ctx, w); !errors.Is(err, late) {
		t.Errorf("%v", err)
	}
}

func TestAStateThatIsNone(t *testing.T) {
	peer.NeedTool(t, qemu)
	_, s := counter(t, newLines())
	for name, state := range map[string]string{"noise": strings.Repeat("noise", 1000), "nothing": ""} {
		m, err := Resume(t.Context(), s, strings.NewReader(state), nil)
		if err == nil {
			t.Errorf("%s: it runs", name)
			peer.Must(t, m.Close())
			continue
		}
		if !strings.Contains(err.Error(), "resume the machine: ") || strings.Contains(err.Error(), "\n") && len(err.Error()) > 2000 {
			t.Errorf("%s: %v", name, err)
		}
		t.Log(err)
	}
}

func TestAFileGoesWithItsCommand(t *testing.T) {
	p, err := socketPair()
	peer.Must(t, err)
	theirs, err := net.FileConn(p.theirs)
	peer.Must(t, errors.Join(err, p.theirs.Close()))
	q := newQMP(p.ours)
	t.Cleanup(func() { theirs.Close(); <-q.done; p.ours.Close() })
	f, err := os.CreateTemp(t.TempDir(), "")
	peer.Must(t, err)
	defer f.Close()
	answered := make(chan error, 1)
	go func() {
		buffer, rights := make([]byte, 4096), make([]byte, 64)
		n, rn, _, _, err := theirs.(*net.UnixConn).ReadMsgUnix(buffer, rights)
		if err != nil {
			answered <- err
			return
		}
		messages, err := unix.ParseSocketControlMessage(rights[:rn])
		if err != nil || len(messages) != 1 || !bytes.Contains(buffer[:n], []byte(`"getfd"`)) {
			answered <- errors.Join(err, errors.New("no file came with the command"))
			return
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		for _, fd := range fds {
			_, _ = unix.Write(fd, []byte("it is this one"))
			unix.Close(fd)
		}
		_, writeErr := theirs.Write([]byte(`{"return": {}, "id": 1}` + "\n"))
		answered <- errors.Join(err, writeErr)
	}()
	peer.Must(t, q.pass(t.Context(), "state", f))
	peer.Must(t, <-answered)
	if text, err := os.ReadFile(f.Name()); string(text) != "it is this one" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestTransferEvents(t *testing.T) {
	q := &qmp{ended: make(chan string, 1), shut: make(chan struct{}), trouble: make(chan trouble, 1), done: make(chan struct{})}
	for _, event := range []string{
		`{"event": "MIGRATION", "data": {"status": "setup"}}`, `{"event": "MIGRATION", "data": {"status": "active"}}`,
		`{"event": "VSERPORT_CHANGE", "data": {"open": true, "id": "port0"}}`, `{"event": "VSERPORT_CHANGE", "data": {"open": false, "id": "other"}}`,
	} {
		peer.Must(t, takeText(q, event))
	}
	select {
	case <-q.shut:
		t.Error("the port was not closed")
	case status := <-q.ended:
		t.Errorf("ended with %q", status)
	default:
	}
	for range 2 {
		peer.Must(t, takeText(q, `{"event": "MIGRATION", "data": {"status": "completed"}}`))
		peer.Must(t, takeText(q, `{"event": "VSERPORT_CHANGE", "data": {"open": false, "id": "port0"}}`))
	}
	if err := q.moved(t.Context()); err != nil {
		t.Error(err)
	}
	<-q.shut
	q.pause()
	peer.Must(t, takeText(q, `{"event": "STOP"}`))
	if len(q.trouble) > 0 {
		t.Error("a stop that was asked for is trouble")
	}
}

func takeText(q *qmp, text string) error {
	m, err := newMessageReader(strings.NewReader(text + "\n")).next()
	if err != nil {
		return err
	}
	return q.take(m)
}

func TestSysRqReachesTheConsole(t *testing.T) {
	// mov dx, 0x3fd; in al, dx; test al, 0x10 (break); jz back; then say so.
	waitBreak := []byte{0xba, 0xfd, 0x03, 0xec, 0xa8, 0x10, 0x74, 0xfb}
	// mov dx, 0x3f8; in al, dx; cmp al, 't'; jne back: the machine stays until all has come.
	waitKey := []byte{0xba, 0xf8, 0x03, 0xec, 0x3c, 't', 0x75, 0xfb}
	console := newLines()
	m := power(t, t.Context(), Spec{Disks: []Disk{bootDisk(t, sectorAlone, say("\r\nready\r\n"), waitBreak, say("\r\nbreak\r\n"), waitKey, sectorPowerOff)}}, console.sink)
	console.wait(t, "ready")
	peer.Must(t, m.SysRq(t.Context(), 't'))
	console.wait(t, "break")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := m.Wait(ctx); err != nil {
		t.Error(err)
	}
}
