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
var targetRows = []func(context.Context, *bench) (row, error){box, boxMemory}

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
	ours, err := b.building.of("box/vagrant-virtualbox").between(`target "vagrant-virtualbox"`, kind(event.StepStarted), kind(event.StepDone))
	if err != nil {
		return row{}, err
	}
	layer, err := b.flat(ctx, b.layers["box/vagrant-virtualbox sysprep \"generalise\""], "box.qcow2")
	if err != nil {
		return row{}, err
	}
	peer := time.Duration(0)
	for _, step := range []string{
		"qemu-img convert -f qcow2 -O vmdk -o subformat=streamOptimized " + layer + " box-disk001.vmdk",
		"tar -czf by-hand.box box-disk001.vmdk",
	} {
		took, err := b.peer(ctx, "sh", "-c", "cd "+b.dir+" && "+step)
		if err != nil {
			return row{}, err
		}
		peer += took
	}
	return row{what: "vagrant box for VirtualBox", ours: ours, peer: peer, peerName: "qemu-img convert, tar -z", most: 0.7}, err
}

func boxMemory(ctx context.Context, b *bench) (row, error) {
	if err := os.RemoveAll(filepath.Join(b.dir, "dist")); err != nil {
		return row{}, err
	}
	parts, err := filepath.Glob(filepath.Join(b.dir, "store", "layers", "*", "part-*"))
	for _, part := range parts {
		err = errors.Join(err, os.Remove(part))
	}
	if err != nil {
		return row{}, fmt.Errorf("begin anew: %w", err)
	}
	r, err := b.run(ctx, "export", "box", "vagrant")
	return memory("vagrant box: memory of herdbook", r, 512), err
}
