package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"herdbook/internal/build"
	"herdbook/internal/comparison"
	"herdbook/internal/disk"
	"herdbook/internal/workpiece"
	"herdbook/internal/workshop"
)

// changeFlags are those of every command that changes a disk image in place.
type changeFlags struct {
	pieceFlags
	networkFlags
	dryRun  bool
	memory  int // MiB
	timeout time.Duration
}

func (f *changeFlags) add(a *app, c *cobra.Command) {
	f.pieceFlags.add(a, c)
	flags := c.Flags()
	flags.BoolVarP(&f.dryRun, "dry-run", "n", false, "change nothing, and list every file that would change")
	f.networkFlags.add(c)
	flags.IntVar(&f.memory, "memory", 1024, "memory of the machine in MiB")
	flags.DurationVar(&f.timeout, "timeout", 0, "give up after this time (default 30m)")
}

// change works on the quiet disk of an image, whole or not at all.
func (a *app) change(ctx context.Context, path string, f changeFlags, work build.Alteration) error {
	if err := errors.Join(enoughMemory(f.memory), f.networkFlags.check()); err != nil {
		return err
	}
	work.Network = f.rules()
	piece, err := f.find(path)
	if err != nil {
		return err
	}
	if work.Keys, err = f.readKeys(); err != nil {
		return err
	}
	work.Name, work.Timeout = filepath.Base(path), f.timeout
	changes, err := a.alter(ctx, piece, f, work)
	if err != nil || !f.dryRun {
		return err
	}
	return changes.WriteText(a.Stdout)
}

// alter does the work and shows its progress. A dry run returns what it would
// change.
func (a *app) alter(ctx context.Context, piece workpiece.Piece, f changeFlags, work build.Alteration) (changes *comparison.Comparison, err error) {
	err = a.onOverlay(ctx, piece, f, func(b *build.Builder, overlay, scratch string) (bool, error) {
		work.Disk, work.Scratch = overlay, scratch
		if _, err := b.Alter(ctx, work); err != nil || !f.dryRun {
			return err == nil, err
		}
		changes, err = f.compare(ctx, piece, overlay)
		return false, err
	})
	return changes, err
}

// onOverlay calls work with an overlay on an image, a directory for what machines
// boot, and who starts them; progress is shown meanwhile.
func (a *app) onOverlay(ctx context.Context, piece workpiece.Piece, f changeFlags, work func(b *build.Builder, overlay, scratch string) (keep bool, err error)) (err error) {
	s, err := a.openStore() // which remembers what became of the probe of KVM
	if err != nil {
		return err
	}
	show, err := a.newProgress()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, show.close()) }()
	b := &build.Builder{
		Sink: show.sink, Now: a.Now, Accelerator: a.accelerator(s, show.sink), Agent: workshop.Agent,
		Memory: f.memory, CPUs: min(runtime.NumCPU(), 4),
	}
	scratch, err := os.MkdirTemp("", "herdbook-change-")
	if err != nil {
		return fmt.Errorf("make scratch directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	return piece.Change(ctx, func(overlay string) (bool, error) { return work(b, overlay, scratch) })
}

// compare tells what differs between an image and an overlay on it.
func (f *changeFlags) compare(ctx context.Context, piece workpiece.Piece, overlay string) (c *comparison.Comparison, err error) {
	err = onImage(piece.Path, piece.Format, func(before *disk.Image) error {
		return onImage(overlay, disk.QCOW2, func(after *disk.Image) error {
			was, err := f.system(before)
			if err != nil {
				return err
			}
			is, err := f.system(after)
			if err == nil {
				c, err = comparison.Compare(ctx, was, is)
			}
			return err
		})
	})
	return c, err
}

// onImage calls fn with an image that is open for reading.
func onImage(path string, format disk.Format, fn func(*disk.Image) error) error {
	image, err := disk.Open(path, format)
	if err != nil {
		return err
	}
	return errors.Join(fn(image), image.Close())
}
