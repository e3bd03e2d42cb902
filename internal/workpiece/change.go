package workpiece

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"herdbook/internal/disk"
)

// ErrKept is wrapped by the errors of a change that is made, but not yet written
// into the image. The next command on the image writes it.
var ErrKept = errors.New("the change is kept beside the image, and the next herdbook command that changes it goes on there")

// settle takes the piece for a change, with no redo file waiting.
func (p Piece) settle(ctx context.Context) (*lock, error) {
	for {
		l, err := p.lock(exclusive)
		if err != nil {
			return nil, err
		}
		if _, err := os.Lstat(p.redo()); errors.Is(err, os.ErrNotExist) {
			return l, nil
		}
		// To finish lets machines write, and may put another file in this one's place:
		// what was locked for that is no lock for anything behind it.
		if err := errors.Join(p.finish(ctx, l), l.release()); err != nil {
			return nil, err
		}
	}
}

// Change calls work with an overlay on the piece, a qcow2 image that work may
// change and grow, and then makes that change the piece's own. If work fails, or
// says that nothing shall be kept, the piece is what it was, byte for byte.
func (p Piece) Change(ctx context.Context, work func(overlay string) (keep bool, err error)) (err error) {
	l, err := p.settle(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.release()) }()
	// One that a killed herdbook left was never made the image's.
	if err := removeIfThere(p.overlay()); err != nil {
		return fmt.Errorf("change disk image %s: %w", p.Path, err)
	}
	defer func() { err = errors.Join(err, removeIfThere(p.overlay())) }()
	if err := disk.CreateOverlay(ctx, p.overlay(), p.Path, p.Format, 0); err != nil {
		return err
	}
	keep, err := work(p.overlay())
	if err != nil || !keep {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := publish(p.overlay(), p.redo()); err != nil {
		return fmt.Errorf("change disk image %s: %w", p.Path, err)
	}
	// An interruption comes too late for this, and would only put it off.
	return p.finish(context.WithoutCancel(ctx), l)
}

// Alone calls look with the disk while nobody else uses the piece, and right behind
// it write, for what may be done to the file itself: what look found out still holds.
func (p Piece) Alone(ctx context.Context, look func(*disk.Image) error, write func() error) (err error) {
	l, err := p.settle(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.release()) }()
	image, err := disk.Open(p.Path, p.Format)
	if err != nil {
		return err
	}
	if err := errors.Join(look(image), image.Close()); err != nil {
		return err
	}
	if err := l.allowWriting(); err != nil {
		return fmt.Errorf("lock disk image %s: %w", p.Path, err)
	}
	return write()
}

// finish writes into the piece what waits for it.
func (p Piece) finish(ctx context.Context, l *lock) error {
	if err := p.write(ctx, l); err != nil {
		return fmt.Errorf("write the change into %s: %w; %w", p.Path, err, ErrKept)
	}
	if err := errors.Join(os.Remove(p.redo()), syncDir(filepath.Dir(p.Path))); err != nil {
		return fmt.Errorf("change disk image %s: %w", p.Path, err)
	}
	return nil
}

// write puts the redo file's clusters into the image; doing so twice is no
// harm. Formats that QEMU would write to badly are made anew.
func (p Piece) write(ctx context.Context, l *lock) error {
	if p.Format != disk.Raw && p.Format != disk.QCOW2 {
		return p.replace(ctx)
	}
	if err := l.allowWriting(); err != nil {
		return err
	}
	if err := disk.Commit(ctx, p.redo()); err != nil {
		return err
	}
	return syncFile(p.Path)
}

// replace makes a new image of what is seen through the redo file, and gives it
// the old one's name. The redo file still names the image, whose bytes it now
// repeats.
func (p Piece) replace(ctx context.Context) error {
	subformat, err := disk.Subformat(ctx, p.Path, p.Format)
	if err != nil {
		return err
	}
	stat, err := os.Stat(p.Path)
	if err != nil {
		return err
	}
	fresh := p.beside("new")
	if err := disk.Flatten(ctx, p.redo(), fresh, disk.FlattenOptions{Format: p.Format, Subformat: subformat}); err != nil {
		return err
	}
	if err := os.Chmod(fresh, stat.Mode().Perm()); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	return publish(fresh, p.Path)
}

// publish gives a file another name in its directory, both on the disk.
func publish(from, to string) error {
	if err := syncFile(from); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
