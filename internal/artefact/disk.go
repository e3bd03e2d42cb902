package artefact

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"

	"herdbook/internal/disk"
	"herdbook/internal/event"
)

// ID is an identifier of the image's disk, for those that must have one: a UUID of
// version 8, made of the layer and nothing else.
func (i *Image) ID() (id [16]byte) {
	sum := sha256.Sum256([]byte("herdbook disk " + i.Layer))
	copy(id[:], sum[:])
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return id
}

// VMDK is the disk as a streamOptimized VMDK, a part.
func (i *Image) VMDK(ctx context.Context, sink event.Sink) (string, error) {
	return i.Part(ctx, "disk 1, vmdk streamOptimized", func(path string) error { return i.WriteVMDK(ctx, path, sink) })
}

// WriteVMDK writes the disk as a streamOptimized VMDK to path.
func (i *Image) WriteVMDK(ctx context.Context, path string, sink event.Sink) error {
	sink.Emit(event.Event{Kind: event.Phase, Text: "compress the disk"})
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	told := int64(0) // percent
	return errors.Join(disk.WriteStream(ctx, out, i.Disk, disk.Stream{ID: i.ID(), Progress: func(done int64) {
		if percent := done * 100 / i.Disk.Size(); percent != told {
			told = percent
			sink.Emit(event.Event{Kind: event.Progress, Done: done, Total: i.Disk.Size()})
		}
	}}), out.Close())
}

// QCOW2 is the disk as one qcow2, its clusters compressed with zstd, a part.
func (i *Image) QCOW2(ctx context.Context, sink event.Sink) (string, error) {
	return i.Part(ctx, "disk 1, qcow2 zstd", func(path string) error {
		sink.Emit(event.Event{Kind: event.Phase, Text: "compress the disk"})
		return disk.Flatten(ctx, i.Path(), path, disk.FlattenOptions{Compress: true, Ordered: true})
	})
}
