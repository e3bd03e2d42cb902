package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"herdbook/internal/disk"
	"herdbook/internal/event"
)

// rows are what is measured, in the order in which it is printed.
var rows = []func(context.Context, *bench) (row, error){
	powerOn, nothingChanged, workDisk, generalise, export, exportMemory, buildMemory,
}

// installerRows are those of the real Debian installer.
var installerRows = []func(context.Context, *bench) (row, error){preparation, installation}

// row is one line of the result.
type row struct {
	what       string
	ours, peer time.Duration
	peerName   string
	most       float64 // the goal: ours at most this part of the peer's
	text       string  // in place of times
}

func (r row) String() string {
	if r.text != "" {
		return r.what + "\t" + r.text
	}
	ratio := r.ours.Seconds() / r.peer.Seconds()
	return fmt.Sprintf("%s\t%.2f s\t%.2f s %s\t%.2f\t≤ %.2f\t%s", r.what, r.ours.Seconds(), r.peer.Seconds(), r.peerName, ratio, r.most, verdict(ratio <= r.most))
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "MISSED"
}

// limit is a row whose goal is a number.
func limit(what, ours, most string, met bool) row {
	return row{what: what, text: fmt.Sprintf("%s\t-\t-\t%s\t%s", ours, most, verdict(met))}
}

// powerOn is the time from QEMU's start to the agent's first work, against
// guestfish's from its start to a ready appliance.
func powerOn(ctx context.Context, b *bench) (row, error) {
	ours, err := median(3, func(i int) (time.Duration, error) {
		// A step that does nothing, and another each time.
		step := fmt.Sprintf("power-on-%d", i)
		if err := b.define(step, fmt.Sprintf("step \"delete\" %q { paths = [\"/no/such/%s\"] }", step, step)); err != nil {
			return 0, err
		}
		r, err := b.run(ctx, "build", step)
		if err != nil {
			return 0, err
		}
		return r.between(fmt.Sprintf("delete %q", step), phase("boot"), phase("mount the image"))
	})
	if err != nil {
		return row{}, err
	}
	image, err := b.flat(ctx, b.layers["web sysprep"], "guestfish.qcow2")
	if err != nil {
		return row{}, err
	}
	args := []string{"--ro", "--format=qcow2", "-a", image, "run"}
	if _, err := b.peer(ctx, "guestfish", args...); err != nil { // makes the appliance
		return row{}, err
	}
	peer, err := median(3, func(int) (time.Duration, error) { return b.peer(ctx, "guestfish", args...) })
	return row{what: "workshop: power-on → agent ready", ours: ours, peer: peer, peerName: "guestfish run", most: 0.4}, err
}

// define adds an image that stands on web.
func (b *bench) define(name, body string) error {
	text := fmt.Sprintf("image %q {\n  from = image.web\n  %s\n}\n", name, body)
	f, err := os.OpenFile(filepath.Join(b.dir, "herdbook.hcl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString("\n" + text); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func nothingChanged(ctx context.Context, b *bench) (row, error) {
	ours, err := median(5, func(int) (time.Duration, error) {
		r, err := b.run(ctx, "build", "web", "debian-12")
		for _, e := range r.events {
			if e.Kind == event.StepStarted || e.Kind == event.Phase {
				return 0, fmt.Errorf("a build in which nothing changed did something: %+v", e)
			}
		}
		return r.elapsed, err
	})
	return limit("a build in which nothing changed", ours.Round(time.Millisecond).String(), "< 250ms", ours < 250*time.Millisecond), err
}

// workDisk makes overlays on images of 2 GiB and of 16 TiB.
func workDisk(ctx context.Context, b *bench) (row, error) {
	large := filepath.Join(b.dir, "large.qcow2")
	if err := disk.CreateOverlay(ctx, large, b.layers["web sysprep"], disk.QCOW2, 16<<40); err != nil {
		return row{}, err
	}
	var slowest time.Duration
	for _, backing := range []string{b.layers["web sysprep"], large} {
		ours, err := median(5, func(i int) (time.Duration, error) {
			start := time.Now()
			err := disk.CreateOverlay(ctx, filepath.Join(b.dir, fmt.Sprintf("overlay-%d.qcow2", i)), backing, disk.QCOW2, 0)
			return time.Since(start), err
		})
		if err != nil {
			return row{}, err
		}
		slowest = max(slowest, ours)
	}
	return limit("a new work disk, on 2 GiB and on 16 TiB", slowest.Round(time.Millisecond).String(), "< 100ms", slowest < 100*time.Millisecond), nil
}

// generalise is web's sysprep step with its trim, from its start to its layer,
// against virt-sysprep and a trim, each with its own defaults, on the same disk.
func generalise(ctx context.Context, b *bench) (row, error) {
	ours, err := b.building.of("web").between("sysprep", kind(event.StepStarted), kind(event.StepDone))
	if err != nil {
		return row{}, err
	}
	image, err := b.flat(ctx, b.layers[`web run "check"`], "sysprep.qcow2")
	if err != nil {
		return row{}, err
	}
	first, err := b.peer(ctx, "virt-sysprep", "--format", "qcow2", "-a", image)
	if err != nil {
		return row{}, err
	}
	second, err := b.peer(ctx, "guestfish", "--format=qcow2", "-a", image, "-i", "fstrim", "/")
	return row{what: "sysprep + trim", ours: ours, peer: first + second, peerName: "virt-sysprep + fstrim", most: 0.25}, err
}

// of keeps the events of one image.
func (r ran) of(image string) ran {
	var kept []event.Event
	for _, e := range r.events {
		if e.Image == image {
			kept = append(kept, e)
		}
	}
	r.events = kept
	return r
}

func export(ctx context.Context, b *bench) (row, error) {
	ours, err := b.building.of("web").between(`target "docker"`, kind(event.StepStarted), kind(event.StepDone))
	if err != nil {
		return row{}, err
	}
	image, err := b.flat(ctx, b.layers["web sysprep"], "tar-out.qcow2")
	if err != nil {
		return row{}, err
	}
	peer, err := b.peer(ctx, "virt-tar-out", "--format=qcow2", "-a", image, "/", filepath.Join(b.dir, "root.tar"))
	return row{what: "docker export of web's root", ours: ours, peer: peer, peerName: "virt-tar-out", most: 0.1}, err
}

func exportMemory(ctx context.Context, b *bench) (row, error) {
	r, err := b.exports(ctx, "web", "docker")
	return memory("docker export: memory of herdbook", r, 256), err
}

// exports makes the artefact of a target alone, with nothing there of what it consists of.
func (b *bench) exports(ctx context.Context, image, target string) (r ran, err error) {
	parts, err := filepath.Glob(filepath.Join(b.dir, "store", "layers", "*", "part-*"))
	if err != nil {
		return r, err
	}
	for _, path := range append(parts, filepath.Join(b.dir, "dist")) {
		if err := os.RemoveAll(path); err != nil {
			return r, err
		}
	}
	r, err = b.run(ctx, "export", image, target)
	b.exportPeak = max(b.exportPeak, r.peak)
	return r, err
}

func buildMemory(_ context.Context, b *bench) (row, error) {
	return memory("the whole build: memory of herdbook", b.building, 200), nil
}

func memory(what string, r ran, most int64) row {
	return limit(what, fmt.Sprintf("%d MiB", r.peak>>20), fmt.Sprintf("≤ %d MiB", most), r.peak > 0 && r.peak <= most<<20)
}
