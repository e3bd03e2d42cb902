package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// RemoveAll removes name and, if it is a directory, everything below it. Links
// are removed, not followed, and other file systems are left alone. What is
// not there is no error.
func (r *Root) RemoveAll(name string) error {
	st, err := r.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.at("remove", name, func(dir int, base string) error {
		return removeAll(dir, base, st.Dev, 0)
	})
}

func removeAll(dir int, base string, dev uint64, depth int) error {
	err := unix.Unlinkat(dir, base, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) {
		return err
	}
	if depth > 1000 {
		return errors.New("directories nest too deep")
	}
	fd, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Dev != dev {
		return nil // a mount point
	}
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := removeAll(fd, name, dev, depth+1); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
}

// Walk calls fn for everything below dir, parents first, without following
// links or entering other file systems.
func (r *Root) Walk(dir string, fn func(name string, st unix.Stat_t) error) error {
	top, err := r.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.walk(dir, top.Dev, fn, 0)
}

func (r *Root) walk(dir string, dev uint64, fn func(string, unix.Stat_t) error, depth int) error {
	names, err := r.ReadDir(dir)
	if err != nil || depth > 1000 {
		return err
	}
	for _, base := range names {
		name := path.Join(dir, base)
		st, err := r.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := fn(name, st); err != nil {
			return err
		}
		if isDir(st) && st.Dev == dev {
			if err := r.walk(name, dev, fn, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}
