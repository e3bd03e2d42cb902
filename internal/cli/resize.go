package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"herdbook/internal/build"
	"herdbook/internal/disk"
	"herdbook/internal/growth"
	"herdbook/internal/inspection"
	"herdbook/internal/survey"
	"herdbook/internal/workpiece"
)

// resizeFlags are those of resize.
type resizeFlags struct {
	changeFlags // but for those of network
	size        string
	expand      string
}

func (a *app) resizeCommand() *cobra.Command {
	var f resizeFlags
	c := &cobra.Command{
		Use:   "resize DISK --size SIZE|+SIZE",
		Short: "Make a disk image larger in place, with the partition, the volume and the file system of the root",
		Long: "Make a disk image larger in place, and with it the partition, the logical volume and the file system that hold the root, or\n" +
			"another that the system mounts. No partition is moved or renumbered: behind the one that grows there must be nothing.",
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error { return a.resize(c.Context(), args[0], f) },
	}
	f.pieceFlags.add(a, c)
	flags := c.Flags()
	flags.StringVar(&f.size, "size", "", "size that the disk shall have, such as 10G, or with + how much is added")
	flags.StringVar(&f.expand, "expand", "", "what grows with it: a mount point, partition or logical volume (default /)")
	flags.BoolVarP(&f.dryRun, "dry-run", "n", false, "change nothing, and tell what would be done")
	flags.IntVar(&f.memory, "memory", 1024, "memory of the machine in MiB")
	flags.DurationVar(&f.timeout, "timeout", 0, "give up after this time (default 30m)")
	return c
}

// resize grows an image and tells what of it.
func (a *app) resize(ctx context.Context, path string, f resizeFlags) error {
	p, err := a.grown(ctx, path, f)
	if err != nil || f.dryRun {
		return err
	}
	_, err = fmt.Fprintf(a.Stdout, "%s: %s\n", path, strings.Join(told(p), ", "))
	return err
}

// grown grows an image, whole or not at all, or in a dry run tells what would be done.
func (a *app) grown(ctx context.Context, path string, f resizeFlags) (p *growth.Plan, err error) {
	if err := enoughMemory(f.memory); err != nil {
		return nil, err
	}
	if _, err := f.wanted(0); err != nil {
		return nil, err
	}
	piece, err := f.find(path)
	if err != nil {
		return nil, err
	}
	if err := disk.Growable(piece.Path, piece.Format); err != nil {
		return nil, err
	}
	keys, err := f.readKeys()
	if err != nil {
		return nil, err
	}
	find := func(r io.ReaderAt, size int64) (*inspection.System, error) { return inspection.Disk(r, size, keys...) }
	if f.dryRun {
		return nil, f.rehearse(path, piece, find, a.Stdout)
	}
	err = a.onOverlay(ctx, piece, f.changeFlags, func(b *build.Builder, overlay, scratch string) (keep bool, err error) {
		if err := onImage(overlay, disk.QCOW2, func(image *disk.Image) error {
			p, err = f.plan(image, find)
			return err
		}); err != nil {
			return false, err
		}
		work := build.Alteration{Disk: overlay, Scratch: scratch, Name: filepath.Base(path), What: "resize", Keys: keys, Timeout: f.timeout}
		err = b.Grow(ctx, work, p)
		return err == nil, err
	})
	return p, err
}

// finder finds the system on a disk.
type finder func(r io.ReaderAt, size int64) (*inspection.System, error)

// rehearse tells what would be done.
func (f *resizeFlags) rehearse(path string, piece workpiece.Piece, find finder, out io.Writer) (err error) {
	r, err := piece.Read()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	p, err := f.plan(r.Image, find)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, line := range told(p) {
		fmt.Fprintln(out, line)
	}
	return nil
}

func (f *resizeFlags) plan(image *disk.Image, find finder) (*growth.Plan, error) {
	size, err := f.wanted(image.Size())
	if err != nil {
		return nil, err
	}
	system, err := find(image, image.Size())
	if err != nil {
		return nil, err
	}
	return growth.Make(image, image.Size(), system, growth.Request{Size: size, Expand: f.expand}, find)
}

// wanted is the size that a disk of so many bytes shall have, in whole sectors.
func (f *resizeFlags) wanted(now int64) (int64, error) {
	if f.size == "" {
		return 0, usageError{"--size is missing: the size that the disk shall have, such as 10G, or with + how much is added"}
	}
	text, add := strings.CutPrefix(f.size, "+")
	n, err := parseSize("size", text)
	if err != nil || !add {
		now = 0
	}
	if err == nil && n > math.MaxInt64-now-511 {
		err = usageError{fmt.Sprintf("--size=%s: there is no such disk", f.size)}
	}
	return (now + n + 511) &^ 511, err
}

// told tells of everything that grows how large it was and will be.
func told(p *growth.Plan) []string {
	change := func(what string, before, after int64) string {
		if after == 0 {
			return fmt.Sprintf("%s %s → all that it can have", what, survey.Bytes(before))
		}
		return fmt.Sprintf("%s %s → %s", what, survey.Bytes(before), survey.Bytes(after))
	}
	lines := []string{change("image", p.Before, p.After)}
	if g := p.Partition; g != nil {
		lines = append(lines, change(fmt.Sprint("partition ", g.Before.Number), g.Before.Size, g.After.Size))
	}
	if l := p.Logical; l != nil {
		lines = append(lines, change("logical volume "+l.Volume, l.Size, p.NewLogical))
	}
	return append(lines, change(fmt.Sprintf("%s on %s", p.Mount.Type, p.Mount.Dir), p.FileSystem, p.NewFileSystem))
}
