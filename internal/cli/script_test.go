package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"herdbook/internal/artefact"
	"herdbook/internal/digest"
	"herdbook/internal/disk"
	"herdbook/internal/gateway"
	"herdbook/internal/machine"
	"herdbook/internal/peer"
	"herdbook/internal/workshop"
)

// TestMain lets the test program be herdbook itself, for the scripts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"herdbook": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		status := Main(ctx, World{
			Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, LookupEnv: os.LookupEnv, Now: time.Now,
		})
		stop()
		os.Exit(status)
	}})
}

// commands are what the scripts can say beside testscript's own.
var commands = map[string]func(*testscript.TestScript, bool, []string){
	"exits":   exits,
	"await":   await,
	"boots":   boots,
	"runs":    runs,
	"corrupt": corrupt,
	"orphans": orphans,
	"serves":  serves,
	"tmpfs":   tmpfs,
	"remount": remount,

	"artefacts": artefacts,
}

// scripts runs the scripts of a directory.
func scripts(t *testing.T, dir string, setup func(*testscript.Env) error) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", dir), Setup: setup, Cmds: commands, Condition: conditions, RequireExplicitExec: true, RequireUniqueNames: true,
	})
}

func TestScripts(t *testing.T) {
	scripts(t, "script", func(e *testscript.Env) error {
		e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, "cache"))
		return findProgram(e)
	})
}

// findProgram tells the script where TestMain has put herdbook, for those that
// leave nothing else on the PATH.
func findProgram(e *testscript.Env) error {
	program, err := exec.LookPath("herdbook")
	e.Setenv("BIN", program)
	return err
}

// exits runs a command that must end with a status: exits 2 herdbook build.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("it ended with status %d, want %d", got, want)
	}
}

// await waits until a file has a line that matches: await FILE PATTERN.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE PATTERN")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	file := ts.MkAbs(args[0])
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	ts.Check(err)
	defer unix.Close(watch)
	_, err = unix.InotifyAddWatch(watch, filepath.Dir(file), unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO)
	ts.Check(err)
	for {
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			ts.Fatalf("%v", err)
		}
		if pattern.Match(text) {
			return
		}
		var events [4096]byte
		if _, err := unix.Read(watch, events[:]); err != nil && err != unix.EINTR {
			ts.Fatalf("wait for %s: %v", file, err)
		}
	}
}

// boots boots a disk image as it is, by its own loader, up to the login on its
// console: boots bios|uefi IMAGE.
func boots(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: boots bios|uefi IMAGE")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	overlay := filepath.Join(ts.MkAbs("."), "boots-"+args[0]+".qcow2")
	ts.Check(disk.CreateOverlay(ctx, overlay, ts.MkAbs(args[1]), disk.QCOW2, 0))
	defer os.Remove(overlay)
	verdict, err := machine.Probe(ctx, filepath.Join(ts.Getenv("XDG_CACHE_HOME"), "herdbook"))
	ts.Check(err)
	login := make(chan struct{}, 1)
	atLogin := regexp.MustCompile(`^\S+ login:`)
	m, err := machine.Start(ctx, machine.Spec{
		Accelerator: verdict.Accelerator, CPUs: 2, Firmware: machine.Firmware(args[0]),
		Disks: []machine.Disk{{Path: overlay, Format: disk.QCOW2}},
	}, nil)
	ts.Check(err)
	defer m.Close()
	m.Attach(neverReader{ctx}, &matcher{pattern: atLogin, found: login})
	select {
	case <-login:
	case <-m.Done():
		ts.Fatalf("it ended before its login: %v", m.Wait(ctx))
	case <-ctx.Done():
		ts.Fatalf("no login within five minutes; the console's last lines: %q", m.Tail())
	}
	ts.Check(m.Quit(ctx))
}

// runs boots a disk image by its own loader and writes to it, until the system in it
// has powered off by itself: runs bios|uefi IMAGE [DISC]. With a disc for cloud-init it
// also has a network, in which there is DHCP and nobody else.
func runs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 && len(args) != 3 {
		ts.Fatalf("usage: runs bios|uefi IMAGE [DISC]")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	verdict, err := machine.Probe(ctx, filepath.Join(ts.Getenv("XDG_CACHE_HOME"), "herdbook"))
	ts.Check(err)
	spec := machine.Spec{
		Accelerator: verdict.Accelerator, CPUs: 2, Firmware: machine.Firmware(args[0]),
		Disks: []machine.Disk{{Path: ts.MkAbs(args[1]), Format: disk.QCOW2, Discard: true}},
	}
	if len(args) == 3 {
		spec.Disks = append(spec.Disks, machine.Disk{Path: ts.MkAbs(args[2]), Format: disk.Raw, ReadOnly: true})
		spec.Network, spec.MAC = &gateway.Rules{Alone: true}, "52:54:00:12:34:56"
	}
	m, err := machine.Start(ctx, spec, nil)
	ts.Check(err)
	ts.Check(errors.Join(m.Wait(ctx), m.Close()))
}

// neverReader is a person who types nothing.
type neverReader struct{ ctx context.Context }

func (r neverReader) Read([]byte) (int, error) {
	<-r.ctx.Done()
	return 0, r.ctx.Err()
}

// matcher looks for a pattern at the beginning of any line of what is written
// to it, the last one, which has no end, included.
type matcher struct {
	pattern *regexp.Regexp
	line    []byte
	found   chan struct{}
}

func (w *matcher) Write(p []byte) (int, error) {
	for _, c := range p {
		if c == '\n' || c == '\r' {
			w.line = w.line[:0]
			continue
		}
		w.line = append(w.line, c)
		if w.pattern.Match(w.line) {
			select {
			case w.found <- struct{}{}:
			default:
			}
		}
	}
	return len(p), nil
}

// corrupt overwrites bytes of a file with noise: corrupt FILE OFFSET LENGTH.
func corrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: corrupt FILE OFFSET LENGTH")
	}
	offset, err := strconv.ParseInt(args[1], 0, 64)
	ts.Check(err)
	length, err := strconv.ParseInt(args[2], 0, 32)
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR, 0)
	ts.Check(err)
	noise := make([]byte, length)
	for i := range noise {
		noise[i] = byte(i*37 + 11)
	}
	_, err = f.WriteAt(noise, offset)
	ts.Check(errors.Join(err, f.Close()))
}

// orphans fails if a QEMU runs on a disk below the script's directories. One
// that is being killed has a moment to end, told by the kernel.
func orphans(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: orphans DIRECTORY")
	}
	dir := []byte(ts.MkAbs(args[0]))
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	ts.Check(err)
	for _, path := range lines {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		ts.Check(err)
		text, err := os.ReadFile(path)
		if err != nil || !regexp.MustCompile(`^\S*qemu-system`).Match(text) || !regexp.MustCompile(regexp.QuoteMeta(string(dir))).Match(text) {
			continue
		}
		if !endsSoon(pid) {
			ts.Fatalf("process %d is left: %q", pid, text)
		}
	}
}

// endsSoon waits up to ten seconds for a process's end.
func endsSoon(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return true // it is gone
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	return err == nil && n == 1
}

// tmpfs mounts one for the rest of the script: tmpfs DIRECTORY SIZE.
func tmpfs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tmpfs DIRECTORY SIZE")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+args[1]))
	ts.Defer(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// remount changes what tmpfs mounted: remount DIRECTORY ro|rw.
func remount(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: remount DIRECTORY ro|rw")
	}
	flags := uintptr(unix.MS_REMOUNT)
	if args[1] == "ro" {
		flags |= unix.MS_RDONLY
	}
	ts.Check(unix.Mount("tmpfs", ts.MkAbs(args[0]), "tmpfs", flags, ""))
}

// artefacts holds the manifests of artefacts of one image against their files: artefacts
// DIRECTORY TARGET…
func artefacts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: artefacts DIRECTORY TARGET…")
	}
	dir := ts.MkAbs(args[0])
	for _, name := range args[1:] {
		paths, err := filepath.Glob(filepath.Join(dir, "*."+name+".json"))
		ts.Check(err)
		if len(paths) != 1 {
			ts.Fatalf("the target %s has %d manifests", name, len(paths))
		}
		m, err := artefact.Read(paths[0])
		ts.Check(err)
		if len(m.Files) == 0 || len(m.Use) == 0 || m.Target != name {
			ts.Fatalf("%s: %+v", paths[0], m)
		}
		for _, file := range m.Files {
			f, err := os.Open(filepath.Join(dir, file.Name))
			ts.Check(err)
			d, size, err := digest.OfReader(f)
			ts.Check(errors.Join(err, f.Close()))
			if d != file.Digest || size != file.Size {
				ts.Fatalf("%s has %d bytes and %s, and the manifest says %+v", file.Name, size, d, file)
			}
		}
	}
}

// serves serves a directory over HTTP for the rest of the script, and says in a variable
// where a guest of QEMU finds it: serves DIRECTORY VARIABLE.
func serves(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: serves DIRECTORY VARIABLE")
	}
	server := httptest.NewServer(http.FileServer(http.Dir(ts.MkAbs(args[0]))))
	ts.Defer(server.Close)
	ts.Setenv(args[1], strings.Replace(server.URL, "127.0.0.1", "10.0.2.2", 1))
}

// conditions are what a script can ask before a command, such as
// [!have:podman] skip 'podman is not installed'.
func conditions(name string) (bool, error) {
	program, ok := strings.CutPrefix(name, "have:")
	var err error
	switch {
	case name == "root":
		if os.Getuid() != 0 {
			err = errors.New("it needs root")
		}
	case ok:
		_, err = exec.LookPath(program)
	default:
		return false, fmt.Errorf("there is no condition %q", name)
	}
	if _, ci := os.LookupEnv("HERDBOOK_CI"); ci && err != nil {
		return false, fmt.Errorf("nothing may be skipped here: %w", err)
	}
	return err == nil, nil
}

// TestVM builds with real machines.
func TestVM(t *testing.T) { inMachines(t, "vm", "base.hcl") }

// inMachines runs the scripts of a directory that need machines. The images of the bases are
// made once; every script gets a store of its own, which begins with a copy of them, and base.hcl.
func inMachines(t *testing.T, dir string, bases ...string) {
	t.Helper()
	peer.NeedTool(t, "qemu-system-x86_64", "qemu-img", "mmdebstrap")
	goss := peer.Goss(t)
	_, err := workshop.Agent()
	peer.Need(t, err == nil, "the agent is not built: make build")
	shared, err := filepath.Abs("../../.test")
	peer.Must(t, err)
	base := filepath.Join(shared, "base")
	peer.Must(t, os.MkdirAll(base, 0o755))
	definitions := map[string][]byte{}
	for _, name := range bases {
		definitions[name], err = os.ReadFile(filepath.Join("testdata", name))
		peer.Must(t, err)
		peer.Must(t, os.WriteFile(filepath.Join(base, name), definitions[name], 0o644))
	}
	status := Main(t.Context(), World{
		Args:  []string{"build", "--file", base, "--store", filepath.Join(shared, "herdbook"), "--progress", "plain"},
		Stdin: os.Stdin, Stdout: t.Output(), Stderr: t.Output(), LookupEnv: os.LookupEnv, Now: time.Now,
	})
	if status != exitDone {
		t.Fatalf("the base images: status %d", status)
	}
	lock, err := os.ReadFile(filepath.Join(base, lockName))
	peer.Must(t, err)
	testdata, err := filepath.Abs("testdata")
	peer.Must(t, err)
	examples, err := filepath.Abs("../../examples")
	peer.Must(t, err)
	peer.Must(t, os.MkdirAll(filepath.Join(shared, "tmp"), 0o755))
	t.Setenv("GOTMPDIR", filepath.Join(shared, "tmp")) // where links to the store are possible
	scripts(t, dir, func(e *testscript.Env) error {
		cache := filepath.Join(e.WorkDir, "cache")
		e.Setenv("XDG_CACHE_HOME", cache)
		e.Setenv("GOSS", goss)
		e.Setenv("COW", filepath.Join(testdata, "cow.hcl"))
		e.Setenv("REPORT", filepath.Join(testdata, "report.sh"))
		e.Setenv("EXAMPLES", examples)
		// Links will do, since a layer is never written to; but not for locks.
		link := exec.Command("cp", "--archive", "--link", filepath.Join(shared, "herdbook"), cache)
		return errors.Join(
			findProgram(e), os.MkdirAll(cache, 0o755), link.Run(), os.RemoveAll(filepath.Join(cache, "herdbook", "locks")),
			os.WriteFile(filepath.Join(e.WorkDir, "base.hcl"), definitions["base.hcl"], 0o644),
			os.WriteFile(filepath.Join(e.WorkDir, lockName), lock, 0o644),
		)
	})
}
