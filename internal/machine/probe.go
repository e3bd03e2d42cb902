package machine

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

//go:embed probe.bin
var probeCode []byte

const (
	probeLimit = 2 * time.Second // a working KVM needs a tenth of one
	probeExit  = 33              // what the probe's code makes QEMU end with
	romSize    = 64 << 10        // of the probe's firmware; the code is its end
	kvmDevice  = "/dev/kvm"
)

// Verdict is which accelerator to use, and why.
type Verdict struct {
	Accelerator Accelerator `json:"accelerator"`
	Reason      string      `json:"reason"` // empty for KVM
	Boot        string      `json:"boot"`   // the host's boot that it holds for
}

// Probe finds out whether KVM works: not by looking for /dev/kvm, which can be
// there and hang, but by running a program in it. The verdict of that is kept in
// the directory cache until the host starts anew; any other costs nothing.
func Probe(ctx context.Context, cache string) (Verdict, error) {
	device, err := os.OpenFile(kvmDevice, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Verdict{Accelerator: TCG, Reason: "there is no " + kvmDevice}, nil
	case errors.Is(err, fs.ErrPermission):
		return Verdict{Accelerator: TCG, Reason: kvmDevice + " may not be used by this account; add it to the group kvm"}, nil
	case err != nil:
		return Verdict{Accelerator: TCG, Reason: err.Error()}, nil
	}
	if err := device.Close(); err != nil {
		return Verdict{}, fmt.Errorf("close %s: %w", kvmDevice, err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Verdict{}, fmt.Errorf("tell this boot of the host: %w", err)
	}
	return cachedProbe(ctx, filepath.Join(cache, "kvm.json"), strings.TrimSpace(string(boot)))
}

func cachedProbe(ctx context.Context, path, boot string) (Verdict, error) {
	var v Verdict
	if text, err := os.ReadFile(path); err == nil && json.Unmarshal(text, &v) == nil && v.Boot == boot {
		return v, nil
	}
	reason, err := tryAccelerator(ctx, KVM)
	if err != nil {
		return Verdict{}, fmt.Errorf("try KVM: %w", err)
	}
	v = Verdict{Accelerator: KVM, Boot: boot}
	if reason != "" {
		v.Accelerator, v.Reason = TCG, kvmDevice+" does not work: "+reason
	}
	text, err := json.Marshal(v)
	if err != nil {
		return v, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
		// Where nothing can be written the next run tries again, that is all.
		_ = renameio.WriteFile(path, text, 0o644)
	}
	return v, nil
}

// tryAccelerator runs the probe's code and returns what is wrong, "" for
// nothing. The error says that it could not be tried.
func tryAccelerator(ctx context.Context, a Accelerator) (reason string, err error) {
	binary, err := findQEMU()
	if err != nil {
		return "", err
	}
	rom := make([]byte, romSize)
	copy(rom[romSize-len(probeCode):], probeCode)
	firmware, err := newMemoryFile("probe", rom)
	if err != nil {
		return "", err
	}
	p, err := launch(binary, probeArgs(a), []*os.File{firmware})
	if err := errors.Join(err, firmware.Close()); err != nil {
		return "", err
	}
	limit := time.NewTimer(probeLimit)
	defer limit.Stop()
	select {
	case <-p.Done():
	case <-limit.C:
		p.Kill()
		<-p.Done()
		return fmt.Sprintf("a program of a tenth of a second did not end within %v", probeLimit), nil
	case <-ctx.Done():
		p.Kill()
		<-p.Done()
		return "", context.Cause(ctx)
	}
	if status := exitStatus(p.Err()); status != probeExit {
		return "QEMU gave up: " + firstClause(p.stderr.String()), nil
	}
	return "", nil
}

func probeArgs(a Accelerator) []string {
	args := []string{
		"-nodefaults", "-no-user-config", "-sandbox", sandbox, "-display", "none",
		"-machine", "q35", "-m", "16M", "-bios", fmt.Sprintf("/proc/self/fd/%d", qmpFD),
		"-device", "isa-debug-exit,iobase=0xf4,iosize=4",
	}
	return append(args, accelerator(a)...)
}

// firstClause cuts QEMU's words at the second message.
func firstClause(text string) string {
	text, _, _ = strings.Cut(text, ";")
	if text == "" {
		return "it gave no reason"
	}
	return strings.TrimPrefix(strings.TrimPrefix(text, qemu+": "), "error: ")
}

// exitStatus is how a process ended by itself; -1 if it did not.
func exitStatus(err error) int {
	if err == nil {
		return 0
	}
	exit, ok := err.(interface{ ExitCode() int })
	if !ok {
		return -1
	}
	return exit.ExitCode()
}

// HostMemory is the memory that new machines may have, in MiB.
func HostMemory() (int, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("read the free memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); n == 1 {
			return kib >> 10, nil
		}
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("read the free memory: %w", err)
	}
	return int(uint64(info.Freeram) * uint64(info.Unit) >> 20), nil
}
