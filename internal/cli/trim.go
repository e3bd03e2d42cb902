package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"herdbook/internal/build"
	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/filesystem"
	"herdbook/internal/inspection"
	"herdbook/internal/survey"
	"herdbook/internal/workpiece"
)

func (a *app) trimCommand() *cobra.Command {
	var f changeFlags
	c := &cobra.Command{
		Use:   "trim DISK",
		Short: "Give back what is free in a disk image, and leave nothing of what was deleted",
		Long: "Zero what the file systems of a disk image have free, what is left in their journals, and swap, and give it back to the host.\n" +
			"Afterwards it is proved that all of it reads as zeros. No machine is started, unless a file system was not unmounted\n" +
			"cleanly and is to be mounted once.",
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error { return a.trim(c.Context(), args[0], f) },
	}
	f.add(a, c)
	return c
}

func (a *app) trim(ctx context.Context, path string, f changeFlags) error {
	piece, err := f.find(path)
	if err != nil {
		return err
	}
	before := allocated(path)
	idle, err := f.discard(ctx, piece)
	if errors.Is(err, filesystem.ErrDirty) && !f.dryRun {
		a.notices().Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("%v; mounting it once in a machine", err)})
		if err := a.change(ctx, path, f, build.Alteration{What: "mount"}); err != nil {
			return err
		}
		idle, err = f.discard(ctx, piece)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, reason := range idle.Other {
		a.notices().Emit(event.Event{Kind: event.Notice, Text: reason})
	}
	_, err = fmt.Fprintf(a.Stdout, "%s: %s are free; its file takes %s of the host's disk, before %s\n",
		path, survey.Bytes(idle.Free), survey.Bytes(allocated(path)), survey.Bytes(before))
	return err
}

// discard finds what of an image means nothing, zeroes it, and proves that. Nobody
// else uses the image from the one to the other, and at every moment it is right.
// Formats that are not discarded in are made anew.
func (f *changeFlags) discard(ctx context.Context, piece workpiece.Piece) (idle inspection.Idle, err error) {
	keys, err := f.readKeys()
	if err != nil {
		return idle, err
	}
	look := func(image *disk.Image) (err error) {
		idle, err = inspection.FindIdle(image, image.Size(), keys...)
		return err
	}
	write := func(path string, format disk.Format) error {
		if err := disk.Discard(ctx, path, format, idle.Ranges); err != nil {
			return err
		}
		return onImage(path, format, func(image *disk.Image) error { return disk.ReadsZero(image, idle.Ranges) })
	}
	switch {
	case f.dryRun:
		r, err := piece.Read()
		if err != nil {
			return idle, err
		}
		return idle, errors.Join(look(r.Image), r.Close())
	case piece.Format == disk.Raw || piece.Format == disk.QCOW2:
		return idle, piece.Alone(ctx, look, func() error { return write(piece.Path, piece.Format) })
	}
	return idle, piece.Change(ctx, func(overlay string) (bool, error) {
		if err := onImage(overlay, disk.QCOW2, look); err != nil {
			return false, err
		}
		return true, write(overlay, disk.QCOW2)
	})
}

// allocated is how many bytes a file takes of the disk that it lies on.
func allocated(path string) int64 {
	stat, err := os.Stat(path)
	if err != nil {
		return 0
	}
	if s, ok := stat.Sys().(*syscall.Stat_t); ok {
		return s.Blocks * 512
	}
	return stat.Size()
}
