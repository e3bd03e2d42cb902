package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"herdbook/internal/disk"
	"herdbook/internal/event"
)

// publishRows are those of publishing: the starter's web, whose disk has 2 GiB, against
// what packs images for virt-builder's repositories.
var publishRows = []func(context.Context, *bench) (row, error){publishQCOW2, publishXZ, publishXZSize, publishAgain}

// published is what one publish of web in two formats took, and the peer.
type published struct {
	qcow2, xz, peer time.Duration
	size, peerSize  int64 // bytes of the xz files
}

const packer = "xz --best --block-size=16777216"

// publish publishes web into two new repositories, and lets the peer pack its disk.
func (b *bench) publish(ctx context.Context) (*published, error) {
	if b.published != nil {
		return b.published, nil
	}
	if err := b.publishTo("qcow2", "xz"); err != nil {
		return nil, err
	}
	r, err := b.run(ctx, "publish", "web")
	if err != nil {
		return nil, err
	}
	p := &published{}
	var err1, err2 error
	p.qcow2, err1 = r.between(`publish "as-qcow2"`, kind(event.StepStarted), kind(event.StepDone))
	p.xz, err2 = r.between(`publish "as-xz"`, kind(event.StepStarted), kind(event.StepDone))
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if p.size, err = sizeOf(filepath.Join(b.dir, "as-xz", "images", "*.xz")); err != nil {
		return nil, err
	}
	raw, packed := filepath.Join(b.dir, "publish.raw"), filepath.Join(b.dir, "publish.xz")
	if err := os.RemoveAll(raw); err != nil {
		return nil, err
	}
	if err := disk.Flatten(ctx, b.layers["web sysprep"], raw, disk.FlattenOptions{Format: disk.Raw}); err != nil {
		return nil, err
	}
	if p.peer, err = b.peer(ctx, "sh", "-c", packer+` --stdout "$0" > "$1"`, raw, packed); err != nil {
		return nil, err
	}
	if p.peerSize, err = sizeOf(packed); err != nil {
		return nil, err
	}
	b.published = p
	return p, nil
}

// publishTo lets web go into a new repository for each format.
func (b *bench) publishTo(formats ...string) error {
	path := filepath.Join(b.dir, "herdbook.hcl")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	definition, head := string(text), "image \"web\" {\n"
	if !strings.Contains(definition, head) {
		return errors.New("the starter has no image web")
	}
	for _, format := range formats {
		definition = strings.Replace(definition, head, fmt.Sprintf("%s  publish \"as-%s\" {}\n", head, format), 1)
		definition += fmt.Sprintf("\nrepository \"as-%s\" {\n  path        = \"as-%[1]s\"\n  signing_key = \"keys/images.asc\"\n  formats     = [%[1]q]\n}\n", format)
	}
	return os.WriteFile(path, []byte(definition), 0o644)
}

// sizeOf is the size of the one file that a pattern matches, in bytes.
func sizeOf(pattern string) (int64, error) {
	files, err := filepath.Glob(pattern)
	if err == nil && len(files) != 1 {
		err = fmt.Errorf("%s matches %d files", pattern, len(files))
	}
	if err != nil {
		return 0, err
	}
	stat, err := os.Stat(files[0])
	if err != nil {
		return 0, err
	}
	return stat.Size(), nil
}

func publishQCOW2(ctx context.Context, b *bench) (row, error) {
	p, err := b.publish(ctx)
	if err != nil {
		return row{}, err
	}
	return row{what: "publish as qcow2", ours: p.qcow2, peer: p.peer, peerName: packer, most: 0.1}, nil
}

func publishXZ(ctx context.Context, b *bench) (row, error) {
	p, err := b.publish(ctx)
	if err != nil {
		return row{}, err
	}
	return row{what: "publish as xz", ours: p.xz, peer: p.peer, peerName: packer, most: 0.6}, nil
}

func publishXZSize(ctx context.Context, b *bench) (row, error) {
	p, err := b.publish(ctx)
	if err != nil {
		return row{}, err
	}
	ratio := float64(p.size) / float64(p.peerSize)
	return row{what: "its size", text: fmt.Sprintf("%d MiB\t%d MiB %s\t%.3f\t≤ 1.02\t%s", p.size>>20, p.peerSize>>20, packer, ratio, verdict(ratio <= 1.02))}, nil
}

// publishAgain publishes what is there in all formats already, from the start of the
// program to its end.
func publishAgain(ctx context.Context, b *bench) (row, error) {
	if _, err := b.publish(ctx); err != nil {
		return row{}, err
	}
	took, err := median(5, func(int) (time.Duration, error) {
		r, err := b.run(ctx, "publish", "web")
		return r.elapsed, err
	})
	return limit("publish what is there, in three repositories", fmt.Sprintf("%d ms", took.Milliseconds()), "< 150 ms", took < 150*time.Millisecond), err
}
