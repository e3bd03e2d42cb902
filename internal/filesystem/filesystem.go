// Package filesystem is what the readers of file systems have in common: paths
// with their symbolic links, walking, open files, and what stat(2) says. A
// reader of one format knows inodes by number; this package makes an fs.FS of
// them. It reads nothing of a disk itself.
package filesystem

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// ErrCorrupt is wrapped by every error that says that a file system contradicts
// itself or its format.
var ErrCorrupt = errors.New("file system is corrupt")

// Driver reads one file system of one format. It must be safe for concurrent use.
type Driver interface {
	// About says what file system it is.
	About() About
	// Root is the number of the root directory's inode.
	Root() uint64
	// Inode reads one inode. Numbers come from Root, Names and Lookup; a format
	// that has none makes them up.
	Inode(number uint64) (Inode, error)
}

// About is what a file system says of itself.
type About struct {
	Kind  string // as for mount(8): ext4, xfs, btrfs, vfat
	UUID  string // as blkid(8) writes it; often in lower case with dashes
	Label string // often empty
	Size  int64  // bytes that it spans
	Used  int64  // bytes of those that it has in use, for itself too; 0 where it does not say
}

// Inode is one file, under whatever names. It is immutable.
type Inode interface {
	// Stat is what it says beside name and content, with the number by which the
	// driver knows it. Nobody changes it.
	Stat() *Stat
	// Names lists a directory without . and .., in any order.
	Names() ([]Name, error)
	// Lookup finds a name in a directory, or fs.ErrNotExist.
	Lookup(name string) (uint64, error)
	// Link is the target of a symbolic link.
	Link() (string, error)
	// Content opens a regular file. Size is that of Stat.
	Content() (Content, error)
	// Xattrs are the extended attributes by their full names, as the kernel
	// shows them.
	Xattrs() (map[string][]byte, error)
}

// Name is one name in a directory.
type Name struct {
	Name  string
	Inode uint64
}

// Content is what a regular file holds.
type Content interface {
	// ReadAt reads as io.ReaderAt wants it. Holes read as zeros.
	io.ReaderAt
	// Data calls fn for every run of bytes that is not a hole, in order. One that
	// was allocated and never written may count as either.
	Data(fn func(start, length int64) error) error
}

// FS is a file system as an fs.FS. Symbolic links are followed within it;
// absolute targets start at its root. It implements fs.StatFS, fs.ReadDirFS,
// fs.ReadFileFS and fs.ReadLinkFS, and is safe for concurrent use.
type FS struct {
	About
	driver Driver
}

// New makes a file system of what a driver reads.
func New(d Driver) *FS { return &FS{d.About(), d} }

var (
	errNotRegular = errors.New("not a regular file")
	errNotDir     = errors.New("not a directory")
)

// Open implements fs.FS. Directories, devices and the like open, but have no
// content to read.
func (f *FS) Open(name string) (fs.File, error) {
	n, err := f.resolve(name, true)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	switch mode := n.Stat().FileMode(); {
	case mode.IsRegular():
		content, err := n.Content()
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return &File{content: content, info: info{path.Base(name), n.Stat()}}, nil
	case mode.IsDir():
		return &openDir{f: f, n: n, info: info{path.Base(name), n.Stat()}}, nil
	}
	return &openNode{info{path.Base(name), n.Stat()}}, nil
}

// OpenFile opens a regular file.
func (f *FS) OpenFile(name string) (*File, error) {
	opened, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	file, ok := opened.(*File)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	return file, nil
}

// Stat implements fs.StatFS.
func (f *FS) Stat(name string) (fs.FileInfo, error) { return f.stat("stat", name, true) }

// Lstat implements fs.ReadLinkFS: a symbolic link at the end is not followed.
func (f *FS) Lstat(name string) (fs.FileInfo, error) { return f.stat("lstat", name, false) }

func (f *FS) stat(op, name string, follow bool) (fs.FileInfo, error) {
	n, err := f.resolve(name, follow)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return info{path.Base(name), n.Stat()}, nil
}

// ReadLink implements fs.ReadLinkFS.
func (f *FS) ReadLink(name string) (string, error) {
	e, err := f.Entry(name)
	if err == nil {
		var target string
		if target, err = e.ReadLink(); err == nil {
			return target, nil
		}
	}
	return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
}

// ReadFile implements fs.ReadFileFS.
func (f *FS) ReadFile(name string) ([]byte, error) {
	file, err := f.OpenFile(name)
	if err != nil {
		return nil, err
	}
	if file.info.stat.Size > f.Size { // a sparse giant is no file to hold in memory
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("%d bytes are too many to read at once", file.info.stat.Size)}
	}
	p := make([]byte, file.info.stat.Size)
	if _, err := file.ReadAt(p, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return p, nil
}

// ReadDir implements fs.ReadDirFS. Its entries are *Entry.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := f.resolve(name, true)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	list, err := f.dirEntries(n)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	return list, nil
}

// Xattrs returns the extended attributes of name itself, by their full names.
func (f *FS) Xattrs(name string) (map[string][]byte, error) {
	e, err := f.Entry(name)
	if err == nil {
		var attrs map[string][]byte
		if attrs, err = e.Xattrs(); err == nil {
			return attrs, nil
		}
	}
	return nil, &fs.PathError{Op: "getxattr", Path: name, Err: err}
}

// Entry finds name itself: a symbolic link at the end is not followed.
func (f *FS) Entry(name string) (*Entry, error) {
	n, err := f.resolve(name, false)
	if err != nil {
		return nil, err
	}
	return &Entry{f: f, name: path.Base(name), number: n.Stat().Ino}, nil
}

func (f *FS) dirEntries(n Inode) ([]fs.DirEntry, error) {
	entries, err := f.entries(n)
	if err != nil {
		return nil, err
	}
	list := make([]fs.DirEntry, len(entries))
	for i, e := range entries {
		list[i] = e
	}
	return list, nil
}

// entries lists a directory, each name once, sorted.
func (f *FS) entries(n Inode) ([]*Entry, error) {
	if !n.Stat().FileMode().IsDir() {
		return nil, errNotDir
	}
	names, err := n.Names()
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(names, func(a, b Name) int { return strings.Compare(a.Name, b.Name) })
	list := make([]*Entry, 0, len(names))
	for i, name := range names {
		if i > 0 && names[i-1].Name == name.Name {
			continue
		}
		list = append(list, &Entry{f, name.Name, name.Inode})
	}
	return list, nil
}

// Sub is the file system with a directory for its root. Links that lead out of
// it end at it.
func (f *FS) Sub(dir string) (*FS, error) {
	n, err := f.resolve(dir, true)
	if err == nil && !n.Stat().FileMode().IsDir() {
		err = errNotDir
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return &FS{f.About, below{f.driver, n.Stat().Ino}}, nil
}

// below is a driver with another root.
type below struct {
	Driver
	root uint64
}

func (b below) Root() uint64 { return b.root }

// ReadFull reads all of p; the end of r in between is an unexpected one.
func ReadFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ReadFile reads a file of an image, which may claim any size: more than limit bytes are
// an error. What it says names the file; that there is none is fs.ErrNotExist.
func ReadFile(tree fs.FS, name string, limit int64) ([]byte, error) {
	f, err := tree.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return content, nil
}
