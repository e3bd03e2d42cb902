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
	idle, err := f.idle(piece)
	if errors.Is(err, filesystem.ErrDirty) && !f.dryRun {
		a.notices().Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("%v; mounting it once in a machine", err)})
		if err := a.change(ctx, path, f, build.Alteration{What: "mount"}); err != nil {
			return err
		}
		idle, err = f.idle(piece)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, reason := range idle.Other {
		a.notices().Emit(event.Event{Kind: event.Notice, Text: reason})
	}
	before := allocated(path)
	if !f.dryRun {
		if err := discard(ctx, piece, idle.Ranges); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(a.Stdout, "%s: %s are free; its file takes %s of the host's disk, before %s\n",
		path, survey.Bytes(idle.Free), survey.Bytes(allocated(path)), survey.Bytes(before))
	return err
}

// idle finds what of an image means nothing.
func (f *pieceFlags) idle(piece workpiece.Piece) (idle inspection.Idle, err error) {
	r, err := piece.Read()
	if err != nil {
		return idle, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	keys, err := readKeys(f.selectors, f.lookupEnv)
	if err != nil {
		return idle, err
	}
	return inspection.FindIdle(r, r.Size(), keys...)
}

// discard zeroes ranges of an image, and proves it. At every moment the image is
// right, as nothing is in them; formats that are not discarded in are made anew.
func discard(ctx context.Context, piece workpiece.Piece, ranges []disk.Range) error {
	if piece.Format != disk.Raw && piece.Format != disk.QCOW2 {
		return piece.Change(ctx, func(overlay string) (bool, error) {
			return true, disk.Discard(ctx, overlay, disk.QCOW2, ranges)
		})
	}
	return piece.Alone(ctx, func() error {
		if err := disk.Discard(ctx, piece.Path, piece.Format, ranges); err != nil {
			return err
		}
		image, err := disk.Open(piece.Path, piece.Format)
		if err != nil {
			return err
		}
		return errors.Join(disk.ReadsZero(image, ranges), image.Close())
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
