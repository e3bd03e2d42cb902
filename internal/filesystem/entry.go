package filesystem

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// Entry is one name in a directory. It is an fs.DirEntry.
type Entry struct {
	f      *FS
	name   string
	number uint64
}

// Name implements fs.DirEntry.
func (e *Entry) Name() string { return e.name }

// IsDir implements fs.DirEntry. An unreadable inode is no directory.
func (e *Entry) IsDir() bool { return e.Type().IsDir() }

// Type implements fs.DirEntry.
func (e *Entry) Type() fs.FileMode {
	n, err := e.inode()
	if err != nil {
		return fs.ModeIrregular
	}
	return n.Stat().FileMode().Type()
}

// Info implements fs.DirEntry.
func (e *Entry) Info() (fs.FileInfo, error) {
	stat, err := e.Stat()
	if err != nil {
		return nil, err
	}
	return info{e.name, stat}, nil
}

// Stat is Info without the wrapping.
func (e *Entry) Stat() (*Stat, error) {
	n, err := e.inode()
	if err != nil {
		return nil, err
	}
	return n.Stat(), nil
}

// Open opens a regular file.
func (e *Entry) Open() (*File, error) {
	n, err := e.inode()
	if err != nil {
		return nil, err
	}
	if !n.Stat().FileMode().IsRegular() {
		return nil, fmt.Errorf("open %q: %w", e.name, errNotRegular)
	}
	content, err := n.Content()
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", e.name, err)
	}
	return &File{content: content, info: info{e.name, n.Stat()}}, nil
}

// ReadLink returns the target of a symbolic link.
func (e *Entry) ReadLink() (string, error) {
	n, err := e.inode()
	if err != nil {
		return "", err
	}
	if n.Stat().FileMode()&fs.ModeSymlink == 0 {
		return "", errors.New("not a symbolic link")
	}
	return n.Link()
}

// Xattrs returns the extended attributes, by their full names.
func (e *Entry) Xattrs() (map[string][]byte, error) {
	n, err := e.inode()
	if err != nil {
		return nil, err
	}
	return n.Xattrs()
}

func (e *Entry) inode() (Inode, error) {
	n, err := e.f.driver.Inode(e.number)
	if err != nil {
		return nil, fmt.Errorf("stat %q: %w", e.name, err)
	}
	return n, nil
}

// maxDepth bounds the directories within one another.
const maxDepth = 4096

// Walk calls fn for the root (".") and everything below it, parents first and
// each directory in the order of its names. It does not follow links. An error
// of fn ends it; fs.SkipDir leaves a directory out.
func (f *FS) Walk(fn func(name string, e *Entry) error) error {
	w := walk{f: f, fn: fn, seen: map[uint64]bool{}}
	return w.visit(".", &Entry{f, ".", f.driver.Root()}, 0)
}

// walk remembers the directories that it has been in: one that is met twice is a
// cycle or a hard link to a directory, neither of which a sound file system has.
type walk struct {
	f    *FS
	fn   func(string, *Entry) error
	seen map[uint64]bool
}

func (w *walk) visit(name string, e *Entry, depth int) error {
	n, err := w.f.driver.Inode(e.number)
	if err != nil {
		return fmt.Errorf("walk to %q: %w", name, err)
	}
	isDir := n.Stat().FileMode().IsDir()
	if err := w.fn(name, e); err != nil {
		if errors.Is(err, fs.SkipDir) && isDir {
			return nil
		}
		return err
	}
	if !isDir {
		return nil
	}
	if w.seen[e.number] || depth > maxDepth {
		return fmt.Errorf("walk to %q: %w: directory inode %d is met twice or too deep", name, ErrCorrupt, e.number)
	}
	w.seen[e.number] = true
	entries, err := w.f.entries(n)
	if err != nil {
		return fmt.Errorf("walk to %q: %w", name, err)
	}
	for _, child := range entries {
		if err := w.visit(path.Join(name, child.name), child, depth+1); err != nil {
			return err
		}
	}
	return nil
}
