package workshop

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/gateway"
	"herdbook/internal/machine"
	"herdbook/internal/peer"
	"herdbook/internal/wire"
)

func TestTheRecordOfAMachine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "machine")
	spec := machine.Spec{
		Memory: 512, CPUs: 2, Firmware: machine.UEFI, Port: wire.Port, Terminal: wire.TerminalPort,
		Network: &gateway.Rules{HostPorts: []uint16{8140}, Forward: []gateway.Forward{{Host: 2222, Guest: 22}}},
		Disks:   []machine.Disk{{Path: "/somewhere/disk.qcow2", Format: disk.QCOW2, Serial: wire.RootDisk}, {Path: "/else/files", Format: disk.Raw, Serial: wire.FilesDisk}},
	}
	peer.Must(t, Session{Keep: dir}.record(spec))
	k, ok, err := readKept(dir)
	if err != nil || !ok || KeptWhole(dir) {
		t.Fatalf("%v, %v", ok, err)
	}
	spec.Disks = slices.Clone(spec.Disks)
	spec.Disks[0].Path, spec.Disks[1].Path = "", "" // they move
	if diff := cmp.Diff(spec, k.Machine, cmp.Comparer(func(a, b machine.Spec) bool {
		return a.Memory == b.Memory && a.CPUs == b.CPUs && a.Firmware == b.Firmware && a.Port == b.Port && a.Terminal == b.Terminal &&
			cmp.Equal(a.Disks, b.Disks) && cmp.Equal(a.Network.HostPorts, b.Network.HostPorts) && cmp.Equal(a.Network.Forward, b.Network.Forward)
	})); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"", keptRecord} {
		if stat, err := os.Stat(filepath.Join(dir, name)); err != nil || stat.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: others may read it: %v, %v", name, stat.Mode(), err)
		}
	}
}

func TestARecordThatIsNone(t *testing.T) {
	for name, text := range map[string]string{"no JSON": "moo", "no disks": `{"Machine": {}}`, "many disks": `{"Machine": {"Disks": [{}, {}, {}, {}]}}`} {
		dir := t.TempDir()
		peer.Must(t, os.WriteFile(filepath.Join(dir, keptRecord), []byte(text), 0o600))
		if _, ok, err := readKept(dir); ok || err == nil || !strings.Contains(err.Error(), "read what machine failed: ") {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
	for _, dir := range []string{"", t.TempDir()} {
		if _, ok, err := readKept(dir); ok || err != nil {
			t.Errorf("%q: %v, %v", dir, ok, err)
		}
	}
}

func TestTheWitnessTellsADumpFromTheConsole(t *testing.T) {
	var streams []string
	w := newWitness(func(e event.Event) { streams = append(streams, e.Stream) })
	say := event.Sink(w.take)
	say.Emit(event.Event{Kind: event.Phase, Text: `boot "a"`})
	say.Line(event.Console, "sysrq: Show State")
	if w.dumped.Load() || len(w.came) > 0 {
		t.Error("nobody has asked yet")
	}
	w.dumping.Store(true)
	say.Line(event.Stdout, "sysrq: Show State")
	say.Line(event.Console, "login:")
	if w.dumped.Load() || len(w.came) != 1 {
		t.Error("that was no answer")
	}
	say.Line(event.Console, "[    7.1] SysRq : Show State")
	if !w.dumped.Load() {
		t.Error("that was one")
	}
	if want := []string{"", event.Console, event.Stdout, event.Kernel, event.Kernel}; !slices.Equal(streams, want) {
		t.Errorf("%q, want %q", streams, want)
	}
	err := error(&BrokenError{Err: errAgentEnded, At: w.at(), Dumped: true})
	if text := err.Error(); !errors.Is(err, errAgentEnded) || !strings.Contains(text, `it was at: boot "a"; the log tells`) {
		t.Error(text)
	}
}

// Whoever interrupts the saving of a machine keeps nothing: its disk lacks what QEMU had
// of it in its memory. Otherwise the machine is kept and has ended.
func TestKeepingAMachine(t *testing.T) {
	interrupted := errors.New("interrupted")
	for _, interrupt := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "disk")
		peer.Must(t, os.WriteFile(path, make([]byte, 1<<20), 0o600))
		spec := machine.Spec{Memory: 128, Disks: []machine.Disk{{Path: path, Format: disk.Raw, Serial: wire.RootDisk}}, Port: wire.Port, Terminal: wire.TerminalPort}
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		m, err := machine.Start(ctx, spec, nil)
		peer.Must(t, err)
		s := Session{Keep: filepath.Join(t.TempDir(), "machine"), Job: wire.Job{Stay: true}, Sink: func(e event.Event) {
			if interrupt && e.Text == "keep the machine as it is" {
				cancel(interrupted)
			}
		}}
		if err := s.keep(ctx, m, spec); errors.Is(err, interrupted) != interrupt || (err != nil) != interrupt {
			t.Errorf("interrupted %v: %v", interrupt, err)
		}
		select {
		case <-m.Done():
		default:
			if !interrupt { // which kills it, in its own time
				t.Error("the machine runs on")
			}
		}
		if KeptWhole(s.Keep) == interrupt {
			t.Errorf("interrupted %v: its memory is kept: %v", interrupt, !interrupt)
		}
		peer.Must(t, m.Close())
	}
}

// An agent that another herdbook left in a machine is not spoken to.
func TestAMachineOfAnotherHerdbook(t *testing.T) {
	dir := t.TempDir()
	peer.Must(t, Session{Keep: dir}.record(machine.Spec{Disks: []machine.Disk{{}}}))
	k, _, err := readKept(dir)
	peer.Must(t, err)
	k.Protocol++
	if _, err := k.resume(t.Context(), dir, "", nil); err == nil || !strings.Contains(err.Error(), "the agent in it speaks protocol") {
		t.Error(err)
	}
}
