package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Clone copies an image that is one file, as it is, to dst, whole or not at all. Where
// the file system knows how, both share their blocks until one is written to, which
// costs nothing; elsewhere holes stay holes.
func Clone(src, dst string) (err error) {
	from, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("copy disk image: %w", err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := os.CreateTemp(filepath.Dir(dst), "."+filepath.Base(dst)+".*.tmp")
	if err != nil {
		return fmt.Errorf("copy disk image: %w", err)
	}
	err = unix.IoctlFileClone(int(to.Fd()), int(from.Fd()))
	if err != nil {
		err = copySparse(to, from)
	}
	if err == nil {
		err = to.Chmod(0o644)
	}
	if err = errors.Join(err, to.Close()); err == nil {
		err = os.Rename(to.Name(), dst)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("copy disk image %s: %w", src, err), removeIfThere(to.Name()))
	}
	return nil
}

// copySparse copies what is data of a file to an empty one.
func copySparse(to, from *os.File) error {
	size, err := from.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	for at := int64(0); at < size; {
		start, err := unix.Seek(int(from.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // only a hole is left
			break
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(from.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		for _, f := range []*os.File{from, to} {
			if _, err := f.Seek(start, io.SeekStart); err != nil {
				return err
			}
		}
		if _, err := io.CopyN(to, from, end-start); err != nil { // by copy_file_range
			return err
		}
		at = end
	}
	return to.Truncate(size)
}
