package build

import (
	"context"
	"errors"
	"os"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/plan"
	"herdbook/internal/source"
	"herdbook/internal/unpack"
)

// take makes the disk of an imported image: fetched, verified, unpacked, its
// format proved, and copied.
func (r *run) take(ctx context.Context, step plan.Step, scratch, path string, sink event.Sink) error {
	media := source.Media{Dir: r.Store.MediaDir(), Fetcher: source.Fetcher{Sink: sink}, Now: r.Now()}
	sink.Emit(event.Event{Kind: event.Phase, Text: "fetch and verify"})
	file, err := media.File(ctx, step.Import.URL, step.Import.Checksum)
	if err != nil {
		return err
	}
	sink.Emit(event.Event{Kind: event.Phase, Text: "unpack"})
	image, err := unpack.Disk(ctx, file, scratch, unpack.Options{Sink: sink})
	if err != nil {
		return err
	}
	sink.Emit(event.Event{Kind: event.Phase, Text: "copy the disk"})
	err = disk.Import(ctx, image.Path, disk.Format(step.Import.Format), path)
	if image.Path != file {
		err = errors.Join(err, os.Remove(image.Path)) // large, and of no use any more
	}
	return err
}
