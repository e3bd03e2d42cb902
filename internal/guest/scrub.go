package guest

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"herdbook/internal/op"
)

// scrub overwrites regular files and deletes them. One pass of zeros: a disk
// image has no traces beside its bytes, and a layer should come out the same
// every time.
func (g *Guest) scrub(o *op.Scrub) error {
	for _, name := range o.Paths {
		if err := g.Root.scrub(name); err != nil {
			return fmt.Errorf("scrub %s: %w", name, err)
		}
	}
	return nil
}

func (r *Root) scrub(name string) error {
	return r.at("scrub", name, func(dir int, base string) (err error) {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if !isFile(st) {
			return errSpecial
		}
		fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), name)
		_, err = io.CopyN(f, zeros{}, st.Size)
		// The zeros must be on the disk before the file system forgets which they were.
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
		return unix.Unlinkat(dir, base, 0)
	})
}

// zeros is a reader of as many as are wanted.
type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
