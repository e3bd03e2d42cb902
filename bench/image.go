package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"herdbook/internal/disk"
)

// imageRows are those of the commands that work on any disk image: the starter's
// web before its sysprep, of 2 GiB.
var imageRows = []func(context.Context, *bench) (row, error){
	inspectImage, sysprepImage, customizeImage, trimAgainstZeros, trimAgainstDiscard, tarOutImage, resizeImage, imageMemory,
}

// fresh is a raw copy of the image, with its holes.
func (b *bench) fresh(ctx context.Context, name string) (string, error) {
	path := filepath.Join(b.dir, name)
	if err := os.RemoveAll(path); err != nil {
		return "", err
	}
	return path, disk.Flatten(ctx, b.layers[`web run "check"`], path, disk.FlattenOptions{Format: disk.Raw})
}

// command runs herdbook on a disk image and notes how much memory it had.
func (b *bench) command(ctx context.Context, args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, b.herdbook, append(args, "--store", filepath.Join(b.dir, "store"))...)
	var said bytes.Buffer
	cmd.Stderr = &said
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				err = fmt.Errorf("herdbook %v: %w\n%s", args, err, &said)
			}
			return time.Since(start), err
		case <-tick.C:
			// A high-water mark of herdbook itself, without its machines.
			b.peak = max(b.peak, highWater(cmd.Process.Pid))
		}
	}
}

func inspectImage(ctx context.Context, b *bench) (row, error) {
	image, err := b.fresh(ctx, "inspect.raw")
	if err != nil {
		return row{}, err
	}
	ours, err := median(3, func(int) (time.Duration, error) { return b.command(ctx, "inspect", "--packages", image) })
	if err != nil {
		return row{}, err
	}
	peer, err := b.peer(ctx, "virt-inspector", "--format=raw", "-a", image)
	return row{what: "inspect", ours: ours, peer: peer, peerName: "virt-inspector", most: 0.02}, err
}

func sysprepImage(ctx context.Context, b *bench) (row, error) {
	return b.inPlace(ctx, row{what: "sysprep, the defaults", peerName: "virt-sysprep", most: 0.2},
		[]string{"sysprep", "--trim=false"}, []string{"virt-sysprep", "--format", "raw", "-a"})
}

// customizeImage makes five edits.
func customizeImage(ctx context.Context, b *bench) (row, error) {
	edits := []string{
		"--write", "/etc/motd:Welcome", "--append-line", "/etc/hosts:192.0.2.1 gateway", "--mkdir", "/srv/data/new",
		"--chmod", "0700:/srv/data", "--edit", "/etc/login.defs:s/^UMASK.*/UMASK 077/",
	}
	return b.inPlace(ctx, row{what: "customize, five edits", peerName: "virt-customize", most: 0.2},
		append([]string{"customize"}, edits...), append(append([]string{"virt-customize", "--no-network"}, edits...), "--format", "raw", "-a"))
}

// inPlace measures what changes an image, whose path is the last argument on both
// sides.
func (b *bench) inPlace(ctx context.Context, r row, ours, peer []string) (row, error) {
	image, err := b.fresh(ctx, "ours.raw")
	if err != nil {
		return r, err
	}
	if r.ours, err = b.command(ctx, append(ours, image)...); err != nil {
		return r, err
	}
	if image, err = b.fresh(ctx, "peer.raw"); err != nil {
		return r, err
	}
	r.peer, err = b.peer(ctx, peer[0], append(peer[1:], image)...)
	return r, err
}

func trimAgainstZeros(ctx context.Context, b *bench) (row, error) {
	return b.inPlace(ctx, row{what: "trim", peerName: "guestfish zero-free-space", most: 0.02},
		[]string{"trim"}, []string{"sh", "-c", `guestfish --format=raw -a "$0" -i zero-free-space /`})
}

func trimAgainstDiscard(ctx context.Context, b *bench) (row, error) {
	return b.inPlace(ctx, row{what: "trim", peerName: "guestfish fstrim", most: 0.1},
		[]string{"trim"}, []string{"sh", "-c", `guestfish add "$0" format:raw discard:enable : run : mount /dev/sda3 / : fstrim /`})
}

func tarOutImage(ctx context.Context, b *bench) (row, error) {
	image, err := b.fresh(ctx, "tar-out.raw")
	if err != nil {
		return row{}, err
	}
	ours, err := b.command(ctx, "tar-out", image, "/", filepath.Join(b.dir, "ours.tar"))
	if err != nil {
		return row{}, err
	}
	peer, err := b.peer(ctx, "virt-tar-out", "--format=raw", "-a", image, "/", filepath.Join(b.dir, "peer.tar"))
	return row{what: "tar-out of the root", ours: ours, peer: peer, peerName: "virt-tar-out", most: 0.1}, err
}

// resizeImage grows the image by 10 GiB, and its root into all of that.
func resizeImage(ctx context.Context, b *bench) (row, error) {
	image, err := b.fresh(ctx, "resize.raw")
	if err != nil {
		return row{}, err
	}
	stat, err := os.Stat(image)
	if err != nil {
		return row{}, err
	}
	// virt-resize copies into another image.
	larger := filepath.Join(b.dir, "larger.raw")
	if err := os.WriteFile(larger, nil, 0o600); err != nil {
		return row{}, err
	}
	if err := os.Truncate(larger, stat.Size()+10<<30); err != nil {
		return row{}, err
	}
	peer, err := b.peer(ctx, "virt-resize", "--format", "raw", "--output-format", "raw", "--expand", "/dev/sda3", image, larger)
	if err != nil {
		return row{}, err
	}
	ours, err := b.command(ctx, "resize", image, "--size", "+10G")
	return row{what: "resize by 10 GiB", ours: ours, peer: peer, peerName: "virt-resize", most: 0.1}, err
}

func imageMemory(_ context.Context, b *bench) (row, error) {
	return limit("all of these: memory of herdbook", fmt.Sprintf("%d MiB", b.peak>>20), "< 256 MiB", b.peak > 0 && b.peak < 256<<20), nil
}
