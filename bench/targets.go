package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"herdbook/internal/event"
)

// targetRows are those of the places that an image is delivered to.
var targetRows = []func(context.Context, *bench) (row, error){box, squashfs, exportsMemory}

// delivered is an image for every place.
const delivered = `
image "box" {
  disk { size = "3G" }
  bootstrap "mmdebstrap" {
    suite   = "bookworm"
    mirror  = "http://deb.debian.org/debian"
    variant = "minbase"
    include = ["linux-image-amd64", "openssh-server", "sudo", "rsync", "nfs-common", "systemd-resolved", "iproute2"]
  }
  target "vagrant" {}
  target "ramdisk" { url = "http://boot.example.org" }
}
`

// targets builds the image and its artefacts.
func (b *bench) targets(ctx context.Context) error {
	if err := errors.Join(os.RemoveAll(b.dir), os.MkdirAll(b.dir, 0o755)); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.dir, "herdbook.hcl"), []byte(delivered), 0o644); err != nil {
		return err
	}
	return b.builds(ctx)
}

// box is a box for VirtualBox out of a finished layer, against what makes one of the same
// disk by hand.
func box(ctx context.Context, b *bench) (row, error) {
	r, err := b.exports(ctx, "box", "vagrant")
	if err != nil {
		return row{}, err
	}
	ours, err := r.between(`target "vagrant-virtualbox"`, kind(event.StepStarted), kind(event.StepDone))
	if err != nil {
		return row{}, err
	}
	layer, err := b.flat(ctx, b.layers["box/vagrant-virtualbox sysprep \"generalise\""], "box.qcow2")
	if err != nil {
		return row{}, err
	}
	peer, err := b.shell(ctx, "qemu-img convert -f qcow2 -O vmdk -o subformat=streamOptimized "+layer+" box-disk001.vmdk && tar -czf by-hand.box box-disk001.vmdk")
	return row{what: "vagrant box for VirtualBox", ours: ours, peer: peer, peerName: "qemu-img convert, tar -z", most: 0.7}, err
}

// squashfs is the root of a ramdisk, read out of a finished layer and checked, against
// mksquashfs on the same files in a directory.
func squashfs(ctx context.Context, b *bench) (row, error) {
	r, err := b.exports(ctx, "box", "ramdisk")
	if err != nil {
		return row{}, err
	}
	ours, err := r.between(`target "ramdisk"`, phase("read the file system"), phase("write the initrd"))
	if err != nil {
		return row{}, err
	}
	roots, err := filepath.Glob(filepath.Join(b.dir, "dist", "*.squashfs"))
	if err != nil || len(roots) != 1 {
		return row{}, fmt.Errorf("find the root: %v, %w", roots, err)
	}
	if _, err := b.shell(ctx, "rm -rf root && unsquashfs -quiet -no-progress -dest root "+roots[0]); err != nil {
		return row{}, err
	}
	peer, err := b.shell(ctx, "mksquashfs root by-hand.squashfs -noappend -quiet -no-progress -comp zstd -b 256K")
	return row{what: "squashfs of a ramdisk", ours: ours, peer: peer, peerName: "mksquashfs alone", most: 1.1}, err
}

// shell runs a line of the old way in the bench's directory.
func (b *bench) shell(ctx context.Context, line string) (time.Duration, error) {
	return b.peer(ctx, "sh", "-c", "cd "+b.dir+" && "+line)
}

func exportsMemory(_ context.Context, b *bench) (row, error) {
	return memory("the exports: memory of herdbook", ran{peak: b.exportPeak}, 512), nil
}
