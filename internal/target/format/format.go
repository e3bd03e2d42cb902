// Package format exports an image as its disk, in the formats of the places that take
// one: raw, qcow2, a streamOptimized VMDK, a fixed VHD for Azure, a packed raw disk for Google's cloud, and a raw
// disk with the commands that register it for Amazon's. The disk is read as it is; nothing
// is started.
//
// Equal layers and options give equal bytes.
package format

import (
	"archive/tar"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/klauspost/pgzip"

	"herdbook/internal/artefact"
	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/target"
)

// Exporter writes the disk: IMAGE.raw, IMAGE.qcow2, IMAGE.vmdk, IMAGE.vhd, IMAGE.gce.tar.gz, or
// IMAGE.ami.raw and IMAGE.ami.sh.
type Exporter struct{ target.Format }

// The units that clouds count in.
const (
	mib = 1 << 20
	gib = 1 << 30
)

// Fits implements artefact.Exporter: every disk has these formats. Whether its size has
// them is known when it is read.
func (*Exporter) Fits(*inspection.System) error { return nil }

// Write implements artefact.Exporter.
func (e *Exporter) Write(ctx context.Context, image *artefact.Image, dir string, sink event.Sink) (artefact.Made, error) {
	sink.Emit(event.Event{Kind: event.Phase, Text: "write the disk"})
	if err := context.Cause(ctx); err != nil {
		return artefact.Made{}, err
	}
	made := artefact.Made{Facts: map[string]any{"virtual_size": image.Disk.Size()}}
	in := func(suffix string) string {
		made.Main = image.Name + suffix
		return filepath.Join(dir, made.Main)
	}
	copying := &copying{ctx: ctx, sink: sink, disk: image.Disk}
	switch e.Kind() {
	case "raw":
		path := in(".raw")
		made.Use = []string{"qemu-system-x86_64 -m 1G -snapshot -drive file=" + made.Main + ",format=raw,if=virtio"}
		return made, copying.toFile(path, nil)
	case "qcow2":
		path := in(".qcow2")
		made.Use = []string{"qemu-system-x86_64 -m 1G -snapshot -drive file=" + made.Main + ",format=qcow2,if=virtio"}
		if e.Compression != "zstd" {
			return made, disk.Flatten(ctx, image.Path(), path, disk.FlattenOptions{Compress: e.Compression == "zlib", Zlib: true, Ordered: true})
		}
		part, err := image.QCOW2(ctx, sink)
		if err != nil {
			return made, err
		}
		return made, artefact.Place(part, path)
	case "vmdk":
		path := in(".vmdk")
		made.Use = []string{"qemu-img convert -f vmdk -O raw " + made.Main + " " + image.Name + ".raw"}
		return made, image.WriteVMDK(ctx, path, sink)
	case "vhd":
		path := in(".vhd")
		made.Use = azureCommands(image.Name, image.System)
		if image.Disk.Size()%mib != 0 {
			return made, wholeUnits(image.Disk.Size(), "MiB", "Azure")
		}
		return made, copying.toFile(path, vhdFooter(image))
	case "gce":
		path := in(".gce.tar.gz")
		made.Use = googleCommands(image.Name)
		if image.Disk.Size()%gib != 0 {
			return made, wholeUnits(image.Disk.Size(), "GiB", "Google's cloud")
		}
		return made, copying.toArchive(path)
	}
	path := in(".ami.raw")
	made.Use = []string{"BUCKET=… sh " + image.Name + ".ami.sh"}
	script := filepath.Join(dir, image.Name+".ami.sh")
	return made, errors.Join(copying.toFile(path, nil), os.WriteFile(script, []byte(amazonScript(image)), 0o755))
}

// wholeUnits refuses a disk of a size that a place does not take.
func wholeUnits(size int64, unit, place string) error {
	return fmt.Errorf("the disk has %d bytes, and %s takes whole %s only; give it another size, by herdbook resize or the disk block of the image", size, place, unit)
}

// copying copies a disk, whose zeros become holes where there can be some.
type copying struct {
	ctx  context.Context
	sink event.Sink
	disk *disk.Image
	told int64 // percent
}

// done tells how far it is, and whether to go on.
func (c *copying) done(bytes int64) error {
	if percent := bytes * 100 / max(1, c.disk.Size()); percent != c.told {
		c.told = percent
		c.sink.Emit(event.Event{Kind: event.Progress, Done: bytes, Total: c.disk.Size()})
	}
	return context.Cause(c.ctx)
}

// toFile writes the disk, and what is to follow it, to a file.
func (c *copying) toFile(path string, behind []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(c.disk.Size()); err != nil {
		return err
	}
	buffer := make([]byte, mib)
	err = disk.Data(c.disk, func(r disk.Range) error {
		for at, end := r.Start, r.Start+r.Size; at < end; {
			p := buffer[:min(int64(len(buffer)), end-at)]
			if _, err := io.ReadFull(io.NewSectionReader(c.disk, at, int64(len(p))), p); err != nil {
				return err
			}
			if !zero(p) {
				if _, err := f.WriteAt(p, at); err != nil {
					return err
				}
			}
			if at += int64(len(p)); c.done(at) != nil {
				return c.done(at)
			}
		}
		return nil
	})
	if err != nil || behind == nil {
		return err
	}
	_, err = f.WriteAt(behind, c.disk.Size())
	return err
}

// toArchive writes the disk as Google's cloud takes it: disk.raw in a tar of GNU's old
// format, compressed by gzip.
// https://cloud.google.com/compute/docs/import/import-existing-image
func (c *copying) toArchive(path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z := pgzip.NewWriter(f)
	if err := z.SetConcurrency(mib, runtime.GOMAXPROCS(0)); err != nil {
		return err
	}
	out := tar.NewWriter(z)
	if err := out.WriteHeader(&tar.Header{Name: "disk.raw", Size: c.disk.Size(), Mode: 0o644, Format: tar.FormatGNU, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	in := io.NewSectionReader(c.disk, 0, c.disk.Size())
	for at := int64(0); at < c.disk.Size(); {
		n, err := io.CopyN(out, in, min(mib, c.disk.Size()-at))
		if at += n; err != nil {
			return err
		}
		if err := c.done(at); err != nil {
			return err
		}
	}
	return errors.Join(out.Close(), z.Close())
}

// zero tells whether all bytes are zero.
func zero(p []byte) bool {
	for ; len(p) >= 8; p = p[8:] {
		if binary.NativeEndian.Uint64(p) != 0 {
			return false
		}
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
