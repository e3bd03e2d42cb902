package build

import (
	"context"
	"errors"
	"fmt"
	"os"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/plan"
	"herdbook/internal/unpack"
)

// instantiate makes the disk of an image of a repository: fetched, verified,
// unpacked up to the size that the index tells, its format proved, and copied.
func (r *run) instantiate(ctx context.Context, step plan.Step, scratch, path string, sink event.Sink) error {
	pinned := step.Template.Pin
	sink.Emit(event.Event{Kind: event.Phase, Text: "fetch and verify"})
	file, err := r.Template(ctx, *step.Template, sink)
	if err != nil {
		return err
	}
	sink.Emit(event.Event{Kind: event.Phase, Text: "unpack"})
	image, err := unpack.Disk(ctx, file, scratch, unpack.Options{Limit: unpackedLimit(pinned.Size), Sink: sink})
	if err != nil {
		return err
	}
	sink.Emit(event.Event{Kind: event.Phase, Text: "copy the disk"})
	err = disk.Import(ctx, image.Path, disk.Format(pinned.Format), path)
	if image.Path != file {
		err = errors.Join(err, os.Remove(image.Path)) // large, and of no use any more
	}
	if err == nil {
		err = asTold(path, pinned.Size)
	}
	return err
}

// unpackedLimit is the size that the file of a disk of so many bytes has at most: a
// qcow2 image has tables beside it. 0 is that of any disk.
func unpackedLimit(size int64) int64 {
	if size == 0 {
		return 0
	}
	return min(size+size/64+1<<20, unpack.DefaultLimit)
}

// asTold refuses a disk that is larger than its index tells; 0 tells nothing.
func asTold(path string, size int64) (err error) {
	image, err := disk.Open(path, disk.QCOW2)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, image.Close()) }()
	if size != 0 && image.Size() > size {
		return fmt.Errorf("the disk has %d bytes, more than the %d that the index of its repository tells", image.Size(), size)
	}
	return nil
}
