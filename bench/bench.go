package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/peer"
)

// bench is the place where things are measured.
type bench struct {
	dir         string
	herdbook    string
	accelerator string
	layers      map[string]string // "IMAGE STEP" → path of its disk
	building    ran               // the run that built the image, if it was not there
	site        *site             // the repository that is served, once a row has asked for it
	virtBuilt   time.Duration     // what virt-builder took for an image of its cache
	peak        int64             // the most memory that herdbook had in command, in bytes
	exportPeak  int64             // the same in exports to targets
	published   *published        // of publish, once it is measured
	bootSteps   *booted           // of boot steps, once they are measured

	puppetServer *peer.PuppetServer
	role         *role          // of Puppet, once it is measured
	ends         []func() error // what ends the rest that was started, the last first
}

// ran is one run of herdbook.
type ran struct {
	start   time.Time
	events  []event.Event
	elapsed time.Duration
	peak    int64 // the most memory that herdbook itself had, in bytes
}

// newBench is the bench of this checkout, with nothing built.
func newBench() (*bench, error) {
	program, err := filepath.Abs("bin/herdbook")
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Join(".test", "bench"))
	return &bench{dir: dir, herdbook: program, layers: map[string]string{}}, err
}

// starter builds the starter's images in a store of their own.
func (b *bench) starter(ctx context.Context) error {
	if err := errors.Join(os.RemoveAll(b.dir), os.MkdirAll(b.dir, 0o755)); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, b.herdbook, "init", b.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("init: %w\n%s", err, out)
	}
	return b.builds(ctx)
}

// builds builds what the definition has, and notes the layers.
func (b *bench) builds(ctx context.Context) (err error) {
	fmt.Fprintln(os.Stderr, "building the images …")
	if b.building, err = b.run(ctx, "build"); err != nil {
		return err
	}
	for _, e := range b.building.events {
		if e.Layer != "" {
			b.layers[e.Image+" "+e.Step] = filepath.Join(b.dir, "store", "layers", e.Layer, "disk.qcow2")
		}
	}
	b.accelerator = b.building.accelerator()
	return nil
}

// accelerator is what herdbook said that its machines run on.
func (r ran) accelerator() string {
	if slices.ContainsFunc(r.events, func(e event.Event) bool { return e.Kind == event.Notice && strings.Contains(e.Text, "emulation") }) {
		return "software emulation (tcg)"
	}
	return "kvm"
}

// run runs herdbook in the bench's directory and watches its memory.
func (b *bench) run(ctx context.Context, args ...string) (ran, error) {
	return b.runUntil(ctx, func(event.Event) bool { return false }, args...)
}

// runUntil is run, but herdbook is interrupted at the first event for which last
// is true. What it returns is of use with an error, too, which wraps that of exec.
func (b *bench) runUntil(ctx context.Context, last func(event.Event) bool, args ...string) (r ran, err error) {
	args = append(args, "--file", filepath.Join(b.dir, "herdbook.hcl"), "--store", filepath.Join(b.dir, "store"), "--progress", "json")
	cmd := exec.CommandContext(ctx, b.herdbook, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return r, err
	}
	r.start = time.Now()
	if err := cmd.Start(); err != nil {
		return r, err
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for stopped := false; lines.Scan(); {
		var e event.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return r, errors.Join(err, cmd.Cancel())
		}
		r.events = append(r.events, e)
		// A high-water mark, so it is enough to look now and then.
		r.peak = max(r.peak, highWater(cmd.Process.Pid))
		if !stopped && last(e) {
			stopped = true
			err = cmd.Process.Signal(os.Interrupt)
		}
	}
	if err := errors.Join(err, lines.Err(), cmd.Wait()); err != nil {
		return r, fmt.Errorf("herdbook %s: %w\n%s", strings.Join(args, " "), err, &stderr)
	}
	r.elapsed = time.Since(r.start)
	return r, nil
}

// highWater is the most memory that a process had so far (VmHWM of proc(5)).
func highWater(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0 // it has just ended
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}

// between is the time from one event of a step to a later one.
func (r ran) between(step string, from, to func(event.Event) bool) (time.Duration, error) {
	var start time.Time
	for _, e := range r.events {
		switch {
		case e.Step != step:
		case start.IsZero() && from(e):
			start = e.Time
		case !start.IsZero() && to(e):
			return e.Time.Sub(start), nil
		}
	}
	return 0, fmt.Errorf("step %s: its events do not tell", step)
}

func phase(text string) func(event.Event) bool {
	return func(e event.Event) bool { return e.Kind == event.Phase && e.Text == text }
}

func kind(k event.Kind) func(event.Event) bool {
	return func(e event.Event) bool { return e.Kind == k }
}

// peer runs a program of the chain that herdbook succeeds, on the same
// accelerator.
func (b *bench) peer(ctx context.Context, name string, args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LIBGUESTFS_BACKEND=direct")
	if b.accelerator != "kvm" {
		cmd.Env = append(cmd.Env, "LIBGUESTFS_BACKEND_SETTINGS=force_tcg")
	}
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return time.Since(start), nil
}

// flat copies a layer and all behind it into one image, which peers can have.
func (b *bench) flat(ctx context.Context, layer, name string) (string, error) {
	path := filepath.Join(b.dir, name)
	if err := os.RemoveAll(path); err != nil {
		return "", err
	}
	return path, disk.Flatten(ctx, layer, path, disk.FlattenOptions{})
}

// median measures n times.
func median(n int, measure func(i int) (time.Duration, error)) (time.Duration, error) {
	var all []time.Duration
	for i := range n {
		d, err := measure(i)
		if err != nil {
			return 0, err
		}
		all = append(all, d)
	}
	slices.Sort(all)
	return all[n/2], nil
}
