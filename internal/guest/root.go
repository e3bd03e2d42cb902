// Package guest carries out operations on a mounted guest root: one file for
// each operation, all of them standing on the file primitives of root.go. A
// path is always resolved inside the root by the kernel (openat2 with
// RESOLVE_IN_ROOT), so that no link of a hostile image leads out of it.
// Mounting the root and talking to the host are left to the agent.
package guest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFile bounds a configuration file that is read whole, in bytes.
const maxFile = 16 << 20

// Root is a guest's root directory. Paths are absolute in the guest.
type Root struct {
	dir string
	fd  int
}

// OpenRoot opens the directory that a guest is mounted on.
func OpenRoot(dir string) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open guest root %s: %w", dir, err)
	}
	return &Root{dir, fd}, nil
}

// Close frees the directory.
func (r *Root) Close() error { return unix.Close(r.fd) }

// Dir is the directory on which the guest is mounted.
func (r *Root) Dir() string { return r.dir }

// openat opens a path inside the root.
func (r *Root) openat(name string, flags int, mode uint32) (*os.File, error) {
	how := unix.OpenHow{
		Flags: uint64(flags | unix.O_CLOEXEC), Mode: uint64(mode),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	relative := strings.TrimPrefix(path.Clean("/"+name), "/")
	if relative == "" {
		relative = "."
	}
	for {
		fd, err := unix.Openat2(r.fd, relative, &how)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue // the tree moved while it was being resolved
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// parent opens the directory of name and returns it with the last part of name.
func (r *Root) parent(name string) (*os.File, string, error) {
	name = path.Clean("/" + name)
	if name == "/" {
		return nil, "", &fs.PathError{Op: "open", Path: name, Err: errors.New("the root has no parent")}
	}
	dir, err := r.openat(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	return dir, path.Base(name), err
}

// at calls fn with the directory of name and its last part.
func (r *Root) at(op, name string, fn func(dir int, base string) error) error {
	dir, base, err := r.parent(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := fn(int(dir.Fd()), base); err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// errSpecial is the answer to a pipe or a device where a file should be.
var errSpecial = errors.New("it is no regular file")

// Open opens a file or a directory for reading; links are followed inside the
// root. What else has the name is not even opened: a device may act on that, and
// a terminal or a pipe would make the reader wait.
func (r *Root) Open(name string) (*os.File, error) {
	st, err := r.Stat(name)
	if err != nil {
		return nil, err
	}
	if !isFile(st) && !isDir(st) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errSpecial}
	}
	return r.openat(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
}

// ReadFile reads a file of at most 16 MiB.
func (r *Root) ReadFile(name string) ([]byte, error) {
	f, err := r.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(p) > maxFile {
		err = fmt.Errorf("it has more than %d bytes", maxFile)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return p, nil
}

// Lstat looks at name itself.
func (r *Root) Lstat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	if path.Clean("/"+name) == "/" {
		return st, unix.Fstat(r.fd, &st)
	}
	err := r.at("lstat", name, func(dir int, base string) error {
		return unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return st, err
}

// Stat follows links.
func (r *Root) Stat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := r.openat(name, unix.O_PATH, 0)
	if err != nil {
		return st, err
	}
	defer f.Close()
	return st, unix.Fstat(int(f.Fd()), &st)
}

// Exists tells whether something has the name, be it a broken link.
func (r *Root) Exists(name string) bool {
	_, err := r.Lstat(name)
	return err == nil
}

func isDir(st unix.Stat_t) bool  { return st.Mode&unix.S_IFMT == unix.S_IFDIR }
func isFile(st unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFREG }

// ReadLink returns a link's target.
func (r *Root) ReadLink(name string) (string, error) {
	var link string
	err := r.at("readlink", name, func(dir int, base string) error {
		p := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dir, base, p)
		if err == nil {
			link = string(p[:n])
		}
		return err
	})
	return link, err
}

// ReadDir lists the names in a directory, sorted; one that is not there has none.
func (r *Root) ReadDir(name string) ([]string, error) {
	f, err := r.openat(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// Attributes are those of a file to be written.
type Attributes struct {
	Mode     uint32 // permissions
	UID, GID int
}

// WriteFile writes a file whole or not at all: beside its name first, then
// renamed. With keep, an existing file leaves its owner, its mode and its extended
// attributes to the new one and a link is followed to the file that it means.
func (r *Root) WriteFile(name string, content []byte, a Attributes, keep bool) error {
	if keep {
		name = r.target(name)
		if st, err := r.Lstat(name); err == nil && isFile(st) {
			return r.Rewrite(name, content)
		}
	}
	return r.WriteFrom(name, strings.NewReader(string(content)), a)
}

// WriteFrom is WriteFile for any reader and with the attributes as given.
func (r *Root) WriteFrom(name string, content io.Reader, a Attributes) error {
	return r.place(name, content, func(f *os.File) error {
		// The mode comes last: a change of owner takes set-user-id bits away.
		return errors.Join(f.Chown(a.UID, a.GID), unix.Fchmod(int(f.Fd()), a.Mode))
	})
}

// place makes a file beside its name, writes what content holds, if it is not
// nil, lets finish do the rest and renames it.
func (r *Root) place(name string, content io.Reader, finish func(f *os.File) error) error {
	return r.at("write", name, func(dir int, base string) (err error) {
		temporary := ".herdbook-" + base
		if len(temporary) > 255 {
			temporary = temporary[:255]
		}
		if err := unix.Unlinkat(dir, temporary, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		fd, err := unix.Openat(dir, temporary, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), name)
		defer func() {
			if err != nil {
				err = errors.Join(err, unix.Unlinkat(dir, temporary, 0))
			}
		}()
		if content != nil {
			_, err = io.Copy(f, content)
		}
		if err == nil {
			err = finish(f)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		return unix.Renameat(dir, temporary, dir, base)
	})
}

// target is the path without links that name means, be there something or not.
// It goes part by part, as .. in a link climbs from where the link really lies.
// A path whose links never end is returned as it is.
func (r *Root) target(name string) string {
	at := "/"
	parts := strings.Split(name, "/")
	for links := 0; len(parts) > 0; {
		next := path.Join(at, parts[0])
		parts = parts[1:]
		link, err := r.ReadLink(next)
		if err != nil {
			at = next
			continue
		}
		if links++; links > 40 {
			return name
		}
		if path.IsAbs(link) {
			at = "/"
		}
		parts = append(strings.Split(link, "/"), parts...)
	}
	return at
}

// MkdirAll makes a directory and its parents; those that are made belong to
// root with the mode given. A link to a directory counts as one.
func (r *Root) MkdirAll(name string, mode uint32) error {
	name = path.Clean("/" + name)
	if st, err := r.Stat(name); err == nil {
		if !isDir(st) {
			return &fs.PathError{Op: "mkdir", Path: name, Err: unix.ENOTDIR}
		}
		return nil
	}
	if err := r.MkdirAll(path.Dir(name), mode); err != nil {
		return err
	}
	return r.at("mkdir", name, func(dir int, base string) error {
		if err := unix.Mkdirat(dir, base, 0o700); err != nil {
			return err
		}
		return unix.Fchmodat(dir, base, mode, 0)
	})
}

// Symlink makes or replaces a symbolic link.
func (r *Root) Symlink(target, name string) error {
	return r.at("symlink", name, func(dir int, base string) error {
		if err := unix.Unlinkat(dir, base, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		return unix.Symlinkat(target, dir, base)
	})
}

// Chown changes the owner of name itself.
func (r *Root) Chown(name string, uid, gid int) error {
	return r.at("chown", name, func(dir int, base string) error {
		return unix.Fchownat(dir, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Chmod changes the mode of what name means, if that lies in the root.
func (r *Root) Chmod(name string, mode uint32) error {
	f, err := r.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Fchmod(int(f.Fd()), mode)
}

// Truncate empties a regular file and leaves links alone.
func (r *Root) Truncate(name string) error {
	return r.at("truncate", name, func(dir int, base string) error {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if !isFile(st) {
			return errSpecial
		}
		fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	})
}

// Rename moves a file within the root.
func (r *Root) Rename(from, to string) error {
	return r.at("rename", from, func(dir int, base string) error {
		return r.at("rename", to, func(toDir int, toBase string) error {
			return unix.Renameat(dir, base, toDir, toBase)
		})
	})
}
