// Package workpiece is a disk image that is worked on in place: what format it
// has, that nobody else uses it, and changes that are made whole or not at all.
// What is changed is left to others.
//
// A change goes like this, and each point is on the disk before the next:
//
//  1. The work is done on an overlay beside the image. Until 2 the image is what
//     it was, byte for byte.
//  2. The overlay gets the name of a redo file. From here on the change is made,
//     whatever happens.
//  3. What the redo file holds is written into the image.
//  4. The redo file is removed.
//
// Whoever finds a redo file does 3 and 4; who only reads looks through it.
package workpiece

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"herdbook/internal/disk"
)

// ErrInUse is wrapped by the errors that say that somebody else uses an image.
var ErrInUse = errors.New("the image is in use")

// Piece is a disk image by its name.
type Piece struct {
	Path   string      // absolute, without symbolic links
	Format disk.Format // told or proved
}

// Options say what is known of an image.
type Options struct {
	Format disk.Format // "" to find out by its first bytes

	// Backing lets a qcow2 image stand on other files. Without it such an image is
	// refused: one from elsewhere could name any file of this machine.
	Backing bool
}

// Find finds out what an image is. Nothing is locked yet.
func Find(path string, o Options) (Piece, error) {
	real, err := filepath.Abs(path)
	if err == nil {
		real, err = filepath.EvalSymlinks(real)
	}
	if err != nil {
		return Piece{}, fmt.Errorf("open disk image: %w", err)
	}
	f, err := os.Open(real)
	if err != nil {
		return Piece{}, fmt.Errorf("open disk image: %w", err)
	}
	format, err := prove(f, o)
	if err = errors.Join(err, f.Close()); err != nil {
		return Piece{}, fmt.Errorf("open disk image %s: %w", path, err)
	}
	return Piece{real, format}, nil
}

func prove(f *os.File, o Options) (disk.Format, error) {
	stat, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !stat.Mode().IsRegular() {
		return "", errors.New("it is no regular file; herdbook works on disk images, not on devices or directories")
	}
	if o.Backing && (o.Format == "" || o.Format == disk.QCOW2) {
		head := make([]byte, min(stat.Size(), disk.SniffSize))
		if _, err := f.ReadAt(head, 0); err != nil {
			return "", err
		}
		if what, _ := disk.Sniff(head); what == string(disk.QCOW2) {
			return disk.QCOW2, nil
		}
	}
	return disk.Prove(f, stat.Size(), o.Format)
}

// overlay is where a change is worked on, redo where it waits.
func (p Piece) overlay() string { return p.beside("work") }
func (p Piece) redo() string    { return p.beside("redo") }

// beside names a file in the image's directory, so that it is on the same file
// system, and a name in an image of images counts from the same place.
func (p Piece) beside(what string) string {
	return filepath.Join(filepath.Dir(p.Path), "."+filepath.Base(p.Path)+".herdbook-"+what)
}

// Reader is a piece that is read. Nobody changes it meanwhile.
type Reader struct {
	*disk.Image
	lock *lock
}

// Read opens the piece for reading.
func (p Piece) Read() (*Reader, error) {
	l, err := p.lock(shared)
	if err != nil {
		return nil, err
	}
	path, format := p.Path, p.Format
	if _, err := os.Lstat(p.redo()); err == nil {
		path, format = p.redo(), disk.QCOW2 // a change that is made, but not yet written
	}
	image, err := disk.Open(path, format)
	if err != nil {
		return nil, errors.Join(err, l.release())
	}
	return &Reader{image, l}, nil
}

// Close ends the reading.
func (r *Reader) Close() error { return errors.Join(r.Image.Close(), r.lock.release()) }
