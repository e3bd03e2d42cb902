package workshop

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/machine"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/wire"
)

// smallInit is the init of a booted system in an initramfs, which has the agent as a
// service and does not know how to power off.
const smallInit = `#!/busybox sh
/busybox mkdir -p /bin /proc /sys /dev /run /tmp /root
/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts; mount -t devpts devpts /dev/pts
for m in $(cat /etc/herdbook/modules); do insmod $m; done
/agent &
while :; do sleep 1000; done
`

// small is a booted system that is up within moments.
type small struct {
	session Session
	spec    machine.Spec
	mu      sync.Mutex
	said    []event.Event
}

func (s *small) take(e event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, e)
}

// has tells whether something was said on a stream.
func (s *small) has(stream, text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.said {
		if e.Stream == stream && strings.Contains(e.Text, text) {
			return true
		}
	}
	return false
}

func newSmall(t *testing.T) func(t *testing.T, script string) *small {
	t.Helper()
	agent, err := Agent()
	peer.Need(t, err == nil, "the agent is not built: make build")
	verdict, err := machine.Probe(t.Context(), t.TempDir())
	peer.Must(t, err)
	g := newGuest(t, "")
	g.write(t, "etc/fstab", "")
	parts, _, _, err := Session{Disk: makeDisk(t, "dos", part{mib: 500, format: "-t ext4", tree: g.dir}), Agent: agent}.parts()
	peer.Must(t, err)
	busybox, err := exec.LookPath("busybox")
	peer.Must(t, err)
	program, err := os.ReadFile(busybox)
	peer.Must(t, err)
	var overlay bytes.Buffer
	w := cpio.Newc.Writer(&overlay)
	for _, r := range []cpio.Record{cpio.StaticFile("init", smallInit, 0o755), cpio.StaticFile("agent", string(agent), 0o755), cpio.StaticFile("busybox", string(program), 0o755)} {
		peer.Must(t, w.WriteRecord(cpio.MakeReproducible(r)))
	}
	peer.Must(t, cpio.WriteTrailer(w))
	return func(t *testing.T, script string) *small {
		t.Helper()
		dir := t.TempDir()
		s := &small{}
		s.session = Session{
			Disk: filepath.Join(dir, "disk.qcow2"), Scratch: dir, Accelerator: verdict.Accelerator, Memory: 256, CPUs: 1, Timeout: 5 * time.Minute,
			Job:  wire.Job{Steps: []wire.Step{{Name: `boot "small"`, Operation: op.Envelope{Operation: &op.Boot{Script: script}}}}},
			Keep: filepath.Join(dir, "machine"), Screen: filepath.Join(dir, "screen.png"), End: 3 * time.Second, Terms: wire.Terms{Silent: 12 * time.Second},
			Sink: s.take,
		}
		peer.Must(t, disk.Create(t.Context(), s.session.Disk, 16*mib))
		s.spec = s.session.spec()
		s.spec.Kernel, s.spec.Initrd, s.spec.Overlay = filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd"), overlay.Bytes()
		s.spec.CommandLine, s.spec.Screen = "console=ttyS0 quiet loglevel=4 random.trust_cpu=on no_timer_check i8042.noaux i8042.nokbd", true
		peer.Must(t, os.WriteFile(s.spec.Kernel, parts.Kernel, 0o644))
		peer.Must(t, os.WriteFile(s.spec.Initrd, parts.Initramfs, 0o644))
		return s
	}
}

// A machine that does not come to its end is given up for the right reason, in bounded
// time, and looked at before.
func TestVMSystemsThatDoNotEnd(t *testing.T) {
	boot := newSmall(t)
	for name, c := range map[string]struct {
		script string
		want   string
		dumped bool
	}{
		"no power-off":     {"echo done", `all steps are done, but the system has not powered off within 3s; it was at: shut down`, true},
		"the agent killed": {"kill -KILL $PPID; sleep 1000", `something in the guest has ended herdbook's agent there, which carries out the steps; it was at: boot "small"`, false},
		"it stands still":  {"kill -STOP $PPID; sleep 1000", `the agent fell silent; it was at: boot "small"`, true},
		"a panic":          {"echo c > /proc/sysrq-trigger; sleep 1000", `the machine's kernel gave up: Kernel panic - not syncing: sysrq triggered crash; it was at: boot "small"`, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := boot(t, c.script)
			_, err := s.session.run(t.Context(), s.spec)
			var broken *BrokenError
			if !errors.As(err, &broken) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v\nwant %q\n%v", err, c.want, s.said)
			}
			if broken.Dumped != c.dumped || c.dumped != s.has(event.Kernel, "init") {
				t.Errorf("whether its kernel was asked where it stands: %v, want %v", broken.Dumped, c.dumped)
			}
			if stat, err := os.Stat(s.session.Screen); err != nil || stat.Size() == 0 {
				t.Errorf("the screenshot: %v", err)
			}
			if KeptWhole(s.session.Keep) {
				t.Error("nobody could enter it")
			}
		})
	}
}

// What runs when a step fails runs on when somebody looks, each time anew.
func TestVMTheMachineStays(t *testing.T) {
	boot := newSmall(t)
	s := boot(t, "echo before; echo in memory > /run/note; setsid sh -c 'echo > /run/own; exec sleep 4242' & until test -e /run/own; do sleep 0.1; done; exit 3")
	result, err := s.session.run(t.Context(), s.spec)
	if err != nil || result.OK || result.ExitStatus != 3 {
		t.Fatalf("%+v, %v", result, err)
	}
	if !KeptWhole(s.session.Keep) || !s.has("", "the machine is kept as it is, in ") {
		t.Fatalf("it is not kept: %v", s.said)
	}
	for range 2 {
		var out bytes.Buffer
		v := Visit{
			Backing: s.session.Disk, Kept: s.session.Keep, Scratch: t.TempDir(), Terminal: "vt100",
			Input:  strings.NewReader("cat /run/note; ps | grep 424[2]; echo scribble >> /run/note; echo $TERM; tty; stty size; exit\n"),
			Output: &out, Window: func(ctx context.Context, had string) (string, error) {
				if had == "" {
					return "33 111", nil
				}
				<-ctx.Done()
				return "", ctx.Err()
			},
			Sink: s.take,
		}
		peer.Must(t, Look(t.Context(), v))
		for _, want := range []string{"in memory\r\n", "sleep 4242\r\n", "vt100\r\n", "/dev/pts/0\r\n", "33 111\r\n"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q: %q", want, out.String())
			}
		}
		if strings.Contains(out.String(), "scribble\r\nscribble") || strings.Contains(out.String(), "memory\r\nscribble") {
			t.Errorf("it is not as it was: %q", out.String())
		}
	}
}

// Secrets in memory are not written to a disk.
func TestVMSecretsDoNotStay(t *testing.T) {
	s := newSmall(t)(t, "")
	s.session.Job.Steps[0].Operation.Operation = &op.Boot{Script: `test -n "$WORD"; false`, Environment: map[string]op.Secret{"WORD": {Value: "correct-horse", Name: "WORD"}}}
	result, err := s.session.run(t.Context(), s.spec)
	if err != nil || result.OK {
		t.Fatalf("%+v, %v", result, err)
	}
	if KeptWhole(s.session.Keep) || !s.has("", "since there are secrets in its memory") {
		t.Errorf("%v", s.said)
	}
	if _, ok, err := readKept(s.session.Keep); !ok || err != nil {
		t.Errorf("what machine it was is not known: %v", err)
	}
}
