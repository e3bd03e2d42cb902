package ramdisk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"herdbook/internal/event"
	"herdbook/internal/machine"
	"herdbook/internal/ramroot"
)

// What is reckoned with, in bytes.
const (
	kernelMemory = 96 << 20  // of the kernel, before it starts its first process
	systemMemory = 128 << 20 // of a small system, behind what is in use when it starts
	step         = 32 << 20  // of a machine's memory
	// window is where iPXE under BIOS, a program of 32 bits, puts what it loads.
	window = 2 << 30
)

// measureTime bounds the run of the machine that is measured, under emulation, too.
const measureTime = 10 * time.Minute

// budget is the memory that a machine needs, in bytes.
type budget struct {
	kernel, initrd, root int64 // as files
	unpacked             int64 // what the initrd becomes, the root in it included
	doubled              bool  // it is unpacked to a tmpfs, which takes half of the memory that is left
	used                 int64 // when the system starts; reckoned, until it is measured
	measured             bool
}

// unpacking is the memory that the kernel needs to unpack the initrd: for what it is and
// for what it becomes.
func (b budget) unpacking() int64 {
	if b.doubled {
		return kernelMemory + b.initrd + 2*b.unpacked
	}
	return kernelMemory + b.initrd + b.unpacked
}

// minimum is the memory of the smallest machine.
func (b budget) minimum() int64 { return round(max(b.unpacking(), b.used+systemMemory), step) }

// carried is the budget of an initrd that has the root in it.
func (b budget) carried() budget {
	b.initrd += b.root
	b.unpacked += b.root
	return b
}

// budget finds out what memory the artefact takes, and refuses one that takes too much.
func (w *work) budget(ctx context.Context) (map[string]any, error) {
	b := budget{unpacked: w.unpacked, doubled: w.Layout != squashfs, root: w.config.Size}
	for ending, size := range map[string]*int64{"vmlinuz": &b.kernel, "initrd": &b.initrd} {
		stat, err := os.Stat(w.path(ending))
		if err != nil {
			return nil, err
		}
		*size = stat.Size()
	}
	if !w.fetches() {
		b.unpacked += b.root
	}
	b.used = kernelMemory + w.unpacked + b.root
	if w.Layout == squashfs {
		b.used = kernelMemory + b.root // the rest of the initrd is given back
	}
	if err := w.measure(ctx, &b); err != nil {
		return nil, err
	}
	if limit := w.Memory(); limit > 0 && b.minimum() > limit {
		return nil, fmt.Errorf("machines need %d MiB of memory at least, and max_memory is %s: "+
			"%s, or raise max_memory", b.minimum()>>20, w.MaxMemory, w.lighter())
	}
	if b.kernel+b.initrd > window-kernelMemory && !w.Medium {
		w.sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf(
			"%s has %d MiB, which iPXE under BIOS cannot load below 2 GiB; say from which url the root can be fetched", w.name("initrd"), b.initrd>>20)})
	}
	root := b.root
	if w.Layout != squashfs {
		root = b.unpacked
	}
	facts := map[string]any{
		"layout": w.Layout, "kernel": w.kernel.Version, "initrd_size": b.initrd, "root_size": root,
		"memory_at_start": b.used, "memory_measured": b.measured, "memory_minimum": b.minimum(),
	}
	if !w.Medium {
		facts["fits_ipxe_window"] = b.kernel+b.initrd <= window-kernelMemory
	}
	if len(w.firmware) > 0 {
		facts["firmware"] = w.firmware
	}
	return facts, nil
}

// lighter is what makes the initrd smaller.
func (e *Exporter) lighter() string {
	if e.Medium {
		return "take files out of the image"
	}
	return "take files out of the image, let the root be fetched from a url"
}

// measure starts the artefact in a machine, up to where the system would start.
func (w *work) measure(ctx context.Context, b *budget) (err error) {
	w.sink.Emit(event.Event{Kind: event.Phase, Text: "measure the memory"})
	if w.Accelerator == nil {
		return nil
	}
	accelerator, err := w.Accelerator(ctx)
	if errors.Is(err, machine.ErrNoQEMU) {
		return w.reckoned(err)
	}
	if err != nil {
		return err
	}
	initrd, drop, err := w.measuredInitrd()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	words := append([]string{w.CommandLine()}, "console=ttyS0,115200", "quiet", "panic=1", "no_timer_check", ramroot.MeasureArgument)
	if w.Layout == squashfs {
		words = append(words, asRamfs)
	}
	memory := b.minimum()
	if limit := w.Memory(); limit > 0 && limit < memory {
		memory = limit // it is the machine that has to tell
	}
	if w.fetches() { // here the initrd carries the root, which takes more than to fetch it
		memory = max(memory, round(b.carried().unpacking(), step))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, measureTime, fmt.Errorf("it took longer than %v", measureTime))
	defer cancel()
	var found ramroot.Memory
	m, err := machine.Start(ctx, machine.Spec{
		Accelerator: accelerator, Memory: int(memory >> 20), Kernel: w.path("vmlinuz"), Initrd: initrd,
		CommandLine: strings.Join(words, " "),
	}, func(e event.Event) {
		if got, ok := ramroot.ParseMemory(e.Text); ok && e.Kind == event.Log {
			found = got
		}
		w.sink.Emit(e)
	})
	if errors.Is(err, machine.ErrNoQEMU) {
		return w.reckoned(err)
	}
	if err != nil {
		return err
	}
	err = errors.Join(m.Wait(ctx), m.Close())
	if err != nil || found.Total == 0 {
		return fmt.Errorf("start it in a machine of %d MiB of memory, to measure it: %w", memory>>20, errors.Join(err, lastWords(m)))
	}
	b.used, b.measured = memory-found.Available, true
	return nil
}

// reckoned says why nothing was measured.
func (w *work) reckoned(why error) error {
	w.sink.Emit(event.Event{Kind: event.Notice, Text: "the memory was reckoned, not measured: " + why.Error()})
	return nil
}

// lastWords is what the first process complained of on the console; nil for nothing.
func lastWords(m *machine.Machine) error {
	for _, line := range m.Tail() {
		if strings.HasPrefix(line, ramroot.Complaint) {
			return errors.New(strings.TrimSpace(line))
		}
	}
	return nil
}

// measuredInitrd is the initrd with the root in it, which no network then has to bring.
func (w *work) measuredInitrd() (path string, drop func() error, err error) {
	if !w.fetches() {
		return w.path("initrd"), func() error { return nil }, nil
	}
	path = filepath.Join(w.dir, "."+w.name("measured"))
	drop = func() error { return os.Remove(path) }
	small, err := os.Open(w.path("initrd"))
	if err != nil {
		return "", nil, err
	}
	defer small.Close()
	err = writeFile(path, func(out io.Writer) error {
		if _, err := io.Copy(out, small); err != nil {
			return err
		}
		return appendRoot(out, w.root, w.config.Size)
	})
	if err != nil {
		return "", nil, errors.Join(err, drop())
	}
	return path, drop, nil
}
