package guest

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"herdbook/internal/op"
)

// duplicate copies a file or a tree with all that it has.
func (g *Guest) duplicate(o *op.Duplicate) error {
	to, err := g.Root.into(o.Source, o.Destination)
	if err == nil {
		err = g.Root.Duplicate(o.Source, to)
	}
	if err != nil {
		return fmt.Errorf("copy %s to %s: %w", o.Source, o.Destination, err)
	}
	return nil
}

// into is the path that a source gets at a destination: below it if that is a
// directory, as it must be if the destination ends in a slash. The result must not be the source nor lie in it, by whatever links.
func (r *Root) into(source, destination string) (string, error) {
	from, err := r.Lstat(source)
	if err != nil {
		return "", err
	}
	to := path.Clean(destination)
	if st, err := r.Stat(to); err == nil && isDir(st) {
		to = path.Join(to, path.Base(path.Clean(source)))
	} else if strings.HasSuffix(destination, "/") {
		return "", errors.New("the guest has no such directory; make it with mkdir")
	}
	for above := to; above != "/"; above = path.Dir(above) {
		st, err := r.Lstat(above)
		if above != to {
			st, err = r.Stat(above)
		}
		if err == nil && st.Dev == from.Dev && st.Ino == from.Ino {
			return "", errors.New("the destination is the source, or lies in it")
		}
	}
	return to, nil
}

// inode is what a hard link is known by.
type inode struct{ dev, ino uint64 }

// duplicator copies one tree.
type duplicator struct {
	root  *Root
	links map[inode]string // where the first of several hard links was copied to
}

// Duplicate copies what source is, not what it means, to a path that is a
// directory only if the source is one: then their contents are put together.
// Other file systems below the source are not entered.
func (r *Root) Duplicate(source, destination string) error {
	st, err := r.Lstat(source)
	if err != nil {
		return err
	}
	d := &duplicator{r, map[inode]string{}}
	return d.copy(source, destination, st, 0)
}

func (d *duplicator) copy(from, to string, st unix.Stat_t, depth int) error {
	if depth > 1000 {
		return errors.New("directories nest too deep")
	}
	if isDir(st) {
		return d.directory(from, to, st, depth)
	}
	if old, err := d.root.Lstat(to); err == nil && isDir(old) {
		return fmt.Errorf("%s is a directory", to)
	}
	id := inode{st.Dev, st.Ino}
	if first, ok := d.links[id]; ok {
		return d.root.link(first, to)
	}
	if st.Nlink > 1 {
		d.links[id] = to
	}
	if isFile(st) {
		return d.file(from, to, st)
	}
	return d.special(from, to, st)
}

func (d *duplicator) file(from, to string, st unix.Stat_t) error {
	source, err := d.root.openat(from, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer source.Close()
	return d.root.place(to, nil, func(f *os.File) error {
		if err := copySparse(f, source, st.Size); err != nil {
			return err
		}
		if err := takeOver(int(f.Fd()), int(source.Fd()), st); err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, descriptor(int(f.Fd())), []unix.Timespec{st.Atim, st.Mtim}, 0)
	})
}

func (d *duplicator) directory(from, to string, st unix.Stat_t, depth int) error {
	if err := d.root.MkdirAll(to, 0o700); err != nil {
		return err
	}
	names, err := d.root.ReadDir(from)
	if err != nil {
		return err
	}
	for _, base := range names {
		name := path.Join(from, base)
		below, err := d.root.Lstat(name)
		if err != nil {
			return err
		}
		if below.Dev != st.Dev {
			continue // a mount point
		}
		if err := d.copy(name, path.Join(to, base), below, depth+1); err != nil {
			return err
		}
	}
	source, err := d.root.openat(from, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := d.root.openat(to, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer target.Close()
	if err := takeOver(int(target.Fd()), int(source.Fd()), st); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, descriptor(int(target.Fd())), []unix.Timespec{st.Atim, st.Mtim}, 0)
}

// special copies a link, a pipe, a socket or a device.
func (d *duplicator) special(from, to string, st unix.Stat_t) error {
	target := ""
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		var err error
		if target, err = d.root.ReadLink(from); err != nil {
			return err
		}
	}
	if err := d.root.make(to, target, st.Mode, st.Rdev); err != nil {
		return err
	}
	return d.root.at("copy", from, func(fromDir int, fromBase string) error {
		return d.root.at("copy", to, func(dir int, base string) error {
			if err := unix.Fchownat(dir, base, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			}
			if err := copyLinkAttributes(path.Join(descriptor(dir), base), path.Join(descriptor(fromDir), fromBase)); err != nil {
				return err
			}
			if target == "" {
				if err := unix.Fchmodat(dir, base, st.Mode&0o7777, 0); err != nil {
					return err
				}
			}
			return unix.UtimesNanoAt(dir, base, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
		})
	})
}

// make makes a symbolic link, if it has a target, else a pipe, a socket or a
// device, in place of any file of that name.
func (r *Root) make(name, target string, mode uint32, device uint64) error {
	if target != "" {
		return r.Symlink(target, name)
	}
	return r.at("make", name, func(dir int, base string) error {
		if err := unix.Unlinkat(dir, base, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		return unix.Mknodat(dir, base, mode&unix.S_IFMT|0o600, int(device))
	})
}

// link makes a hard link in place of any file of that name.
func (r *Root) link(old, name string) error {
	return r.at("link", old, func(oldDir int, oldBase string) error {
		return r.at("link", name, func(dir int, base string) error {
			if err := unix.Unlinkat(dir, base, 0); err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
			return unix.Linkat(oldDir, oldBase, dir, base, 0)
		})
	})
}
