package pack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"

	"herdbook/internal/disk"
	"herdbook/internal/event"
)

// QCOW2 writes the disk of a qcow2 chain as one qcow2 at dst, its clusters compressed
// with zstd.
func QCOW2(ctx context.Context, src, dst string, sink event.Sink) (File, error) {
	f, err := qcow2(ctx, src, dst, sink)
	if err != nil {
		return File{}, fmt.Errorf("pack %s as qcow2: %w", src, err)
	}
	return f, nil
}

func qcow2(ctx context.Context, src, dst string, sink event.Sink) (File, error) {
	sink.Emit(event.Event{Kind: event.Phase, Text: "compress"})
	if err := Disk(ctx, src, dst, disk.FlattenOptions{Compress: true}, sink); err != nil {
		return File{}, err
	}
	sink.Emit(event.Event{Kind: event.Phase, Text: "checksum"})
	f, err := Look(ctx, dst, nil)
	if err == nil {
		err = os.Chmod(dst, 0o644)
	}
	if err != nil {
		return File{}, errors.Join(err, os.Remove(dst))
	}
	return f, nil
}

// Disk writes the disk of a qcow2 chain anew at dst, and reports how far it is.
func Disk(ctx context.Context, src, dst string, o disk.FlattenOptions, sink event.Sink) error {
	size, err := disk.VirtualSize(src)
	if err != nil {
		return err
	}
	o.Progress = &percentages{progress: progress{sink: sink, total: size}}
	if err := disk.Flatten(ctx, src, dst, o); err != nil {
		return explain(ctx, dst, err)
	}
	return nil
}

// percentages is a writer for qemu-img's progress.
type percentages struct {
	progress
	rest []byte // of what was said, not whole
}

var percentage = regexp.MustCompile(`\((\d+)\.\d+/100%\)`)

// Write implements io.Writer.
func (p *percentages) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	for _, m := range percentage.FindAllSubmatch(p.rest, -1) {
		if n, err := strconv.ParseInt(string(m[1]), 10, 64); err == nil {
			p.add(p.total*min(n, 100)/100 - p.done)
		}
	}
	p.rest = p.rest[max(0, len(p.rest)-16):]
	return len(b), nil
}
