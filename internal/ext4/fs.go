package ext4

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

const maxLinks = 40 // symbolic links followed on one path, as the kernel's

// Open implements fs.FS. Symbolic links are followed within the file system;
// absolute targets start at its root. Directories, devices and the like open,
// but have no content to read.
func (f *FS) Open(name string) (fs.File, error) {
	n, err := f.resolve(name, true)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	switch n.kind() {
	case modeRegular:
		file, err := f.openFile(n, name)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return file, nil
	case modeDir:
		return &openDir{f: f, n: n, name: name}, nil
	}
	return &openNode{info{path.Base(name), n}}, nil
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
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	n, err := f.resolve(name, true)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return info{path.Base(name), n}, nil
}

// Lstat implements fs.ReadLinkFS: a symbolic link at the end is not followed.
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	n, err := f.resolve(name, false)
	if err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	return info{path.Base(name), n}, nil
}

// ReadLink implements fs.ReadLinkFS.
func (f *FS) ReadLink(name string) (string, error) {
	n, err := f.resolve(name, false)
	if err == nil {
		var target string
		if target, err = f.readLink(n); err == nil {
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
	if file.n.Size > f.Size() { // a sparse giant is no file to hold in memory
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("%d bytes are too many to read at once", file.n.Size)}
	}
	p := make([]byte, file.n.Size)
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

func (f *FS) dirEntries(n *inode) ([]fs.DirEntry, error) {
	if n.kind() != modeDir {
		return nil, errors.New("not a directory")
	}
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

// Xattrs returns the extended attributes of name itself, by their full names.
func (f *FS) Xattrs(name string) (map[string][]byte, error) {
	n, err := f.resolve(name, false)
	if err == nil {
		var attrs map[string][]byte
		if attrs, err = f.xattrs(n); err == nil {
			return attrs, nil
		}
	}
	return nil, &fs.PathError{Op: "getxattr", Path: name, Err: err}
}

// Walk calls fn for the root (".") and everything below it, parents first and
// each directory in the order of its names. It does not follow links. An error
// of fn ends it; fs.SkipDir leaves a directory out.
func (f *FS) Walk(fn func(name string, e *Entry) error) error {
	w := walk{f: f, fn: fn, above: map[uint32]bool{}}
	return w.visit(".", &Entry{f: f, name: ".", ino: rootInode, dir: rootInode}, 0)
}

// walk remembers the directories that it has been in: one that is met twice is a
// cycle or a hard link to a directory, neither of which a sound file system has.
type walk struct {
	f     *FS
	fn    func(string, *Entry) error
	above map[uint32]bool
}

func (w *walk) visit(name string, e *Entry, depth int) error {
	n, err := w.f.inode(e.ino)
	if err != nil {
		return fmt.Errorf("walk to %q: %w", name, err)
	}
	if err := w.fn(name, e); err != nil {
		if errors.Is(err, fs.SkipDir) && n.kind() == modeDir {
			return nil
		}
		return err
	}
	if n.kind() != modeDir {
		return nil
	}
	if w.above[e.ino] || depth > 4096 {
		return fmt.Errorf("walk to %q: %w", name, corrupt("directory inode %d is met twice or too deep", e.ino))
	}
	w.above[e.ino] = true
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

// resolve finds the inode of a path.
func (f *FS) resolve(name string, follow bool) (*inode, error) {
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	root, err := f.inode(rootInode)
	if err != nil {
		return nil, err
	}
	if root.kind() != modeDir {
		return nil, corrupt("the root is no directory")
	}
	r := resolver{f: f, stack: []*inode{root}}
	if name == "." {
		return root, nil
	}
	return r.walk(strings.Split(name, "/"), follow)
}

// resolver walks a path; its stack holds the directories from the root down, so
// that .. in a link's target never climbs above it.
type resolver struct {
	f     *FS
	stack []*inode
	links int
}

func (r *resolver) walk(parts []string, follow bool) (*inode, error) {
	for i := 0; i < len(parts); i++ {
		part, last := parts[i], i == len(parts)-1
		top := r.stack[len(r.stack)-1]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(r.stack) > 1 {
				r.stack = r.stack[:len(r.stack)-1]
			}
			continue
		}
		if top.kind() != modeDir {
			return nil, fmt.Errorf("%w: %q stands below what is no directory", fs.ErrNotExist, part)
		}
		ino, err := r.f.lookup(top, part)
		if err != nil {
			return nil, err
		}
		n, err := r.f.inode(ino)
		if err != nil {
			return nil, err
		}
		if n.kind() != modeSymlink || last && !follow {
			r.stack = append(r.stack, n)
			continue
		}
		target, err := r.link(n)
		if err != nil {
			return nil, err
		}
		parts, i = append(target, parts[i+1:]...), -1
	}
	return r.stack[len(r.stack)-1], nil
}

func (r *resolver) link(n *inode) ([]string, error) {
	if r.links++; r.links > maxLinks {
		return nil, errors.New("too many symbolic links")
	}
	target, err := r.f.readLink(n)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(target, "/") {
		r.stack = r.stack[:1]
	}
	return strings.Split(target, "/"), nil
}

// readLink reads a link's target, which short ones keep in the inode.
func (f *FS) readLink(n *inode) (string, error) {
	switch {
	case n.kind() != modeSymlink:
		return "", errors.New("not a symbolic link")
	case n.flags&flagEncrypt != 0:
		return "", errors.New("the link is encrypted")
	case n.Size == 0 || n.Size >= f.block && n.Size > 4096:
		return "", corrupt("a symbolic link of %d bytes", n.Size)
	case n.Size < 60 && n.flags&(flagExtents|flagInline) == 0:
		return string(n.block[:n.Size]), nil
	}
	file, err := f.openFile(n, "link")
	if err != nil {
		return "", err
	}
	p := make([]byte, n.Size)
	if _, err := file.ReadAt(p, 0); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(p), nil
}

// openDir is an open directory.
type openDir struct {
	f    *FS
	n    *inode
	name string
	list []fs.DirEntry
	read bool
}

func (d *openDir) Stat() (fs.FileInfo, error) { return info{path.Base(d.name), d.n}, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: errors.New("is a directory")}
}

// ReadDir implements fs.ReadDirFile.
func (d *openDir) ReadDir(count int) ([]fs.DirEntry, error) {
	if !d.read {
		list, err := d.f.dirEntries(d.n)
		if err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: d.name, Err: err}
		}
		d.list, d.read = list, true
	}
	if count <= 0 {
		list := d.list
		d.list = nil
		return list, nil
	}
	if len(d.list) == 0 {
		return nil, io.EOF
	}
	count = min(count, len(d.list))
	list := d.list[:count]
	d.list = d.list[count:]
	return list, nil
}

// openNode is an open device, pipe or socket: it can be looked at only.
type openNode struct{ info }

func (o *openNode) Stat() (fs.FileInfo, error) { return o.info, nil }
func (o *openNode) Close() error               { return nil }

func (o *openNode) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: o.name, Err: errNotRegular}
}
