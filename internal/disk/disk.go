// Package disk knows what a disk image is: raw, qcow2 with its chain of backing
// files, VMDK, VHDX and VDI as an io.ReaderAt, partition tables and how disks grow and are cut,
// an empty FAT, and what qemu-img does with images. What lies on the partitions is
// left to others.
//
// A format is always told, never guessed: a guest that can write the first
// bytes of a raw disk could otherwise make it a qcow2 with any file behind it.
package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Format is the format of a disk image, as qemu-img names it.
type Format string

// The formats that are read here, all that Import knows.
const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
	VMDK  Format = "vmdk"
	VHDX  Format = "vhdx"
	VDI   Format = "vdi"
)

// ErrCorrupt is wrapped by every error that says that an image or a partition
// table contradicts itself.
var ErrCorrupt = errors.New("disk image is corrupt")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// maxChain is the number of images that may stand behind one another.
const maxChain = 128

// Range is a range of bytes.
type Range struct {
	Start, Size int64
}

// Image is an open disk image. ReadAt is safe for concurrent use; it reads
// zeros where nothing was written.
type Image struct {
	io.ReaderAt
	size   int64
	closer []io.Closer
}

// Size is what the guest sees, in bytes.
func (i *Image) Size() int64 { return i.size }

// Close closes the image and all behind it.
func (i *Image) Close() error {
	var errs []error
	for _, c := range i.closer {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Open opens an image of a known format with its whole chain. The formats of
// backing files must be recorded in the images that name them.
func Open(path string, format Format) (*Image, error) {
	i := &Image{}
	r, size, err := i.open(path, format, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open disk image %s: %w", path, err), i.Close())
	}
	i.ReaderAt, i.size = r, size
	return i, nil
}

// open opens one image of the chain; above are those that stand on it.
func (i *Image) open(path string, format Format, above []string) (io.ReaderAt, int64, error) {
	if len(above) >= maxChain {
		return nil, 0, corrupt("more than %d images in a chain", maxChain)
	}
	for _, other := range above {
		if other == path {
			return nil, 0, corrupt("%s stands behind itself", path)
		}
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	i.closer = append(i.closer, file)
	stat, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !stat.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is no regular file", path)
	}
	if format == Raw {
		return file, stat.Size(), nil
	}
	b, backing, err := newImage(file, stat.Size(), format)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	if backing.name == "" {
		return b, b.size, nil
	}
	if backing.format == "" {
		return nil, 0, fmt.Errorf("%s: the format of its backing file %s is not recorded; record it with qemu-img rebase -u -F", path, backing.name)
	}
	behind := backing.name
	if !filepath.IsAbs(behind) {
		behind = filepath.Join(filepath.Dir(path), behind)
	}
	b.behind, b.behindSize, err = i.open(behind, backing.format, append(above, path))
	if err != nil {
		return nil, 0, fmt.Errorf("behind %s: %w", path, err)
	}
	return b, b.size, nil
}

// backingFile is what an image stands on.
type backingFile struct {
	name   string // "" for nothing
	format Format // "" if it is not recorded
}

// newImage reads the header of an image that is not raw.
func newImage(r io.ReaderAt, size int64, format Format) (*blocks, backingFile, error) {
	var b *blocks
	var err error
	switch format {
	case QCOW2:
		q, err := newQCOW2(r, size)
		if err != nil {
			return nil, backingFile{}, err
		}
		return &q.blocks, q.backing, nil
	case VMDK:
		b, err = newVMDK(r, size)
	case VHDX:
		b, err = newVHDX(r, size)
	case VDI:
		b, err = newVDI(r, size)
	default:
		err = fmt.Errorf("format %q is none that herdbook reads: raw, qcow2, vmdk, vhdx, vdi", format)
	}
	return b, backingFile{}, err
}

// readFull reads all of p; the end of r in between is an unexpected one.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
