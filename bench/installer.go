package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/peer"
)

const (
	netboot  = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64" // where Debian's package has its installer
	diskSize = 4                                                                       // GiB

	// partman is what the installer's log says when it comes to the partitions.
	partman     = "Menu item 'partman-base' selected"
	pairs       = 2
	byHandLimit = 30 * time.Minute
)

// The ways in which herdbook ends here.
const (
	failed      = 1
	interrupted = 130
)

// status is what a program that has failed has ended with.
func status(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// installer is a bench below b whose one image is made by the real installer,
// with answers of the usual size. More is of its install block.
func (b *bench) installer(name, more string) (*bench, error) {
	i := &bench{dir: filepath.Join(b.dir, name), herdbook: b.herdbook}
	answers, err := filepath.Abs("test/installer/preseed.cfg")
	if err := errors.Join(err, os.RemoveAll(i.dir), os.MkdirAll(i.dir, 0o755)); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("image \"bookworm\" {\n  disk { size = \"%dG\" }\n  install \"preseed\" {\n    location = %q\n    answers = file(%q)\n    %s\n  }\n}\n",
		diskSize, netboot, answers, more)
	return i, os.WriteFile(filepath.Join(i.dir, "herdbook.hcl"), []byte(text), 0o644)
}

// panicked is how the kernel ends that finds no init, and nothing else.
var panicked = regexp.MustCompile(`^in the phase "media" [^\n]*Kernel panic - not syncing: Attempted to kill init![^\n]*$`)

// preparation is the time from the start of herdbook to that of the machine, of
// which the copy of the initrd into memory is a part: some hundredths of a second.
// The installer's kernel gives up at once, so the build must fail, of just that.
func preparation(ctx context.Context, b *bench) (row, error) {
	i, err := b.installer("preparation", `arguments = ["rdinit=/bin/false"]`)
	if err != nil {
		return row{}, err
	}
	measure := func(int) (time.Duration, error) {
		r, err := i.run(ctx, "build")
		begun, ended := r.first(phase("media")), r.first(kind(event.StepFailed))
		if status(err) != failed || begun.Time.IsZero() || !panicked.MatchString(ended.Text) {
			return 0, errors.Join(errors.New("herdbook should have reported that the kernel gave up"), err)
		}
		return begun.Time.Sub(r.start), nil
	}
	if _, err := measure(0); err != nil { // warms the caches
		return row{}, err
	}
	ours, err := median(5, measure)
	return limit("preparing an installation (tree found, verified, initrd made)", ours.Round(time.Millisecond).String(), "< 300ms", ours < 300*time.Millisecond), err
}

// first is the first event of a kind, or none.
func (r ran) first(is func(event.Event) bool) event.Event {
	for _, e := range r.events {
		if is(e) {
			return e
		}
	}
	return event.Event{}
}

// installation is the time from power-on to the partitioning, against the same
// machine started by hand, by turns.
func installation(ctx context.Context, b *bench) (row, error) {
	overlay, err := filepath.Abs(filepath.Join(".test", "installer", "overlay"))
	if err != nil {
		return row{}, err
	}
	fmt.Fprintln(os.Stderr, "building what the mirror lacks of the installer …")
	if out, err := exec.CommandContext(ctx, "test/installer/overlay", overlay).CombinedOutput(); err != nil {
		return row{}, fmt.Errorf("overlay: %w\n%s", err, out)
	}
	mirror := httptest.NewServer(peer.Mirror{Overlay: map[string]string{"": filepath.Join(overlay, "www")}})
	defer mirror.Close()
	initrd := filepath.Join(overlay, "initrd.d")
	i, err := b.installer("installation", fmt.Sprintf("mirror_proxy = %q\n    files = { %q = %q, %q = %q }",
		peer.GuestAddress(mirror.Listener.Addr().(*net.TCPAddr).Port),
		"/etc/udebs-source", initrd+"/etc/udebs-source", "/usr/share/keyrings/archive.gpg", initrd+"/usr/share/keyrings/archive.gpg"))
	if err != nil {
		return row{}, err
	}
	var ours, byHand time.Duration
	for n := range pairs {
		first, second, err := i.pair(ctx)
		if err != nil {
			return row{}, err
		}
		fmt.Fprintf(os.Stderr, "pair %d of %d: herdbook %.2f s, by hand %.2f s\n", n+1, pairs, first.Seconds(), second.Seconds())
		ours, byHand = ours+first, byHand+second
	}
	b.accelerator = i.accelerator
	what := fmt.Sprintf("the real installer, power-on → partitioning (mean of %d runs each)", pairs)
	return row{what: what, ours: ours / pairs, peer: byHand / pairs, peerName: "QEMU by hand", most: 1.02}, nil
}

// pair lets herdbook install up to the partitioning, then starts its machine by
// hand.
func (b *bench) pair(ctx context.Context) (ours, byHand time.Duration, err error) {
	var there time.Time
	var q qemu
	var lost error
	r, err := b.runUntil(ctx, func(e event.Event) bool {
		if e.Stream != event.System || !strings.Contains(e.Text, partman) {
			return false
		}
		there = e.Time
		q, lost = b.qemu()
		return true
	}, "build")
	if there.IsZero() || status(err) != interrupted {
		return 0, 0, errors.Join(errors.New("herdbook should have been interrupted at the partitioning"), err)
	}
	if lost != nil {
		return 0, 0, lost
	}
	defer q.initrd.Close() // nothing was written to it
	b.accelerator = r.accelerator()
	byHand, err = q.install(ctx, b.dir)
	return there.Sub(r.first(phase("media")).Time), byHand, err
}

// qemu is how herdbook has started QEMU.
type qemu struct {
	args   []string
	initrd *os.File // in memory
}

// qemu finds the QEMU that runs for this bench.
func (b *bench) qemu() (qemu, error) {
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return qemu{}, err
	}
	for _, path := range processes {
		text, err := os.ReadFile(path)
		args := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
		if err != nil || filepath.Base(args[0]) != "qemu-system-x86_64" || !strings.Contains(string(text), b.dir) {
			continue // it may have just ended
		}
		initrd, err := os.Open(filepath.Join(filepath.Dir(path), "fd", "6"))
		return qemu{args, initrd}, err
	}
	return qemu{}, errors.New("the QEMU that herdbook has started cannot be found")
}

// outside turns the lines to herdbook of a machine's command line into those of a person.
var outside = strings.NewReplacer(
	"socket,id=qmp,fd=3", "null,id=qmp",
	"socket,id=port,fd=4", "file,id=port,path=/dev/stdout",
	"socket,id=console,fd=5", "file,id=console,path=console.log",
	"/proc/self/fd/6", "/proc/self/fd/3",
)

// byHand is the command line of a person: the same machine, with its lines to
// the outside and its disk in the simplest way.
func (q qemu) byHand() []string {
	var args []string
	for _, arg := range q.args {
		last := len(args) - 1
		switch {
		case strings.HasPrefix(arg, "file,node-name=disk0-file,"):
			args = args[:last]
		case strings.HasPrefix(arg, "qcow2,node-name=disk0,"):
			args[last] = "-drive"
			args = append(args, "if=none,id=disk0,file=disk.qcow2,format=qcow2,cache=unsafe")
		default:
			args = append(args, outside.Replace(arg))
		}
	}
	return args
}

// install is the time from QEMU's start to the partitioning.
func (q qemu) install(ctx context.Context, dir string) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, byHandLimit)
	defer cancel()
	image := filepath.Join(dir, "disk.qcow2")
	if err := errors.Join(os.RemoveAll(image), disk.Create(ctx, image, diskSize<<30)); err != nil {
		return 0, err
	}
	args := q.byHand()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.ExtraFiles = dir, []*os.File{q.initrd}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	log, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(log); took == 0 && lines.Scan(); {
		if strings.Contains(lines.Text(), partman) {
			took = time.Since(start)
		}
	}
	cancel()
	if err := cmd.Wait(); took == 0 {
		return 0, errors.Join(fmt.Errorf("by hand, the installer did not come to the partitioning; its console is in %s", dir), err, errors.New(stderr.String()))
	}
	return took, nil
}
