// Package iso reads the file system of a disc, ISO 9660 with Rock Ridge's or
// Joliet's names, and writes small ones. What lies on a disc is left to others.
//
// Sources: ECMA-119 (the numbers in brackets are its sections), the System Use
// Sharing Protocol 1.12 and the Rock Ridge Interchange Protocol 1.12, and the Joliet
// specification.
package iso

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
)

// ErrCorrupt is wrapped by every error that says that a disc contradicts itself.
var ErrCorrupt = errors.New("disc is corrupt")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

const (
	sector         = 2048
	firstSector    = 16       // of the volume descriptors [8.1]
	maxDescriptors = 64       // a disc has a handful
	maxDirectory   = 16 << 20 // bytes of one directory
	maxEntries     = 100_000  // of one directory
	maxAreas       = 8        // where the fields of one record go on
	maxParts       = 256      // of a path, with those of all links on the way
	maxExtents     = 1 << 12  // of one file; each but the last has almost 4 GiB
	maxName        = 4096     // bytes of a name or of a link's target
)

// FS is a disc. It is an fs.FS, an fs.StatFS and an fs.ReadDirFS; links are
// followed within the disc. It may be used by several goroutines.
type FS struct {
	r      io.ReaderAt
	size   int64
	volume string
	names  naming
	skip   int // bytes before the system use fields of a record (SUSP's SP)
	root   entry
}

// naming is whose names a disc's files have.
type naming int

const (
	plain naming = iota
	joliet
	rockRidge
)

// entry is a directory record, or several of one file.
type entry struct {
	name    string
	mode    fs.FileMode
	link    string
	extents []extent
}

// extent is a run of bytes on the disc.
type extent struct{ offset, length int64 }

func (e entry) size() int64 {
	var n int64
	for _, x := range e.extents {
		n += x.length
	}
	return n
}

// Open reads the volume descriptors of a disc of size bytes.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	f := &FS{r: r, size: size}
	if err := f.descriptors(); err != nil {
		return nil, fmt.Errorf("open disc: %w", err)
	}
	return f, nil
}

// Volume is the disc's name.
func (f *FS) Volume() string { return f.volume }

// descriptors finds the primary volume and, where its root has no Rock Ridge, a
// Joliet one.
func (f *FS) descriptors() error {
	var primary, unicode []byte
	for n := range maxDescriptors {
		d, err := f.read(extent{int64(firstSector+n) * sector, sector})
		if err != nil {
			return err
		}
		if string(d[1:6]) != "CD001" {
			return corrupt("no volume descriptor in sector %d", firstSector+n)
		}
		switch {
		case d[0] == 1 && primary == nil:
			primary = d
		case d[0] == 2 && slices.Contains([]string{"%/@", "%/C", "%/E"}, string(d[88:91])):
			unicode = d
		}
		if d[0] == 255 {
			break
		}
	}
	if primary == nil {
		return corrupt("it has no primary volume")
	}
	f.volume = strings.TrimRight(string(primary[40:72]), " \x00")
	root, err := f.rootOf(primary)
	if err != nil {
		return err
	}
	f.root = root
	if err := f.detectRockRidge(); err != nil {
		return err
	}
	if f.names == plain && unicode != nil {
		f.names = joliet
		f.root, err = f.rootOf(unicode)
	}
	return err
}

// rootOf is the root directory of a volume [8.4.18].
func (f *FS) rootOf(descriptor []byte) (entry, error) {
	if size := binary.LittleEndian.Uint16(descriptor[128:]); size != sector {
		return entry{}, corrupt("its blocks have %d bytes, not %d", size, sector)
	}
	r := record(descriptor[156:190])
	return entry{name: ".", mode: fs.ModeDir | 0o555, extents: []extent{r.extent()}}, f.inside(r.extent())
}

// inside checks that an extent lies on the disc.
func (f *FS) inside(x extent) error {
	if x.offset < 0 || x.length < 0 || x.offset > f.size || x.length > f.size-x.offset {
		return corrupt("bytes %d to %d are behind its end at %d", x.offset, x.offset+x.length, f.size)
	}
	return nil
}

// read reads a small extent.
func (f *FS) read(x extent) ([]byte, error) {
	if err := f.inside(x); err != nil {
		return nil, err
	}
	p := make([]byte, x.length)
	if _, err := io.ReadFull(io.NewSectionReader(f.r, x.offset, x.length), p); err != nil {
		return nil, fmt.Errorf("read the disc: %w", err)
	}
	return p, nil
}

// Open implements fs.FS.
func (f *FS) Open(name string) (fs.File, error) {
	e, err := f.lookup("open", name)
	if err != nil {
		return nil, err
	}
	file := &file{fs: f, entry: e}
	if !e.mode.IsDir() {
		file.content = io.NewSectionReader(content{f.r, e.extents}, 0, e.size())
	}
	return file, nil
}

// Stat implements fs.StatFS.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	e, err := f.lookup("stat", name)
	if err != nil {
		return nil, err
	}
	e.name = path.Base(name)
	return info{e}, nil
}

// ReadDir implements fs.ReadDirFS.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := f.lookup("readdir", name)
	if err != nil {
		return nil, err
	}
	list, err := f.list(e)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	var entries []fs.DirEntry
	for _, e := range list {
		entries = append(entries, fs.FileInfoToDirEntry(info{e}))
	}
	return entries, nil
}

// lookup walks to a file and follows links on the way, which lead nowhere outside.
func (f *FS) lookup(op, name string) (entry, error) {
	if !fs.ValidPath(name) {
		return entry{}, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	at := []entry{f.root}
	todo := strings.Split(name, "/")
	for parts := 0; len(todo) > 0; parts++ {
		if parts >= maxParts {
			return entry{}, &fs.PathError{Op: op, Path: name, Err: corrupt("too many directories or links")}
		}
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = at[:max(1, len(at)-1)]
			continue
		}
		e, err := f.child(at[len(at)-1], part)
		if err != nil {
			return entry{}, &fs.PathError{Op: op, Path: name, Err: err}
		}
		if e.mode&fs.ModeSymlink == 0 {
			at = append(at, e)
			continue
		}
		if strings.HasPrefix(e.link, "/") {
			at = at[:1]
		}
		todo = append(strings.Split(e.link, "/"), todo...)
	}
	return at[len(at)-1], nil
}

// child finds a name in a directory.
func (f *FS) child(dir entry, name string) (entry, error) {
	if !dir.mode.IsDir() {
		return entry{}, fs.ErrNotExist
	}
	list, err := f.list(dir)
	if err != nil {
		return entry{}, err
	}
	for _, e := range list {
		if e.name == name || f.names == plain && strings.EqualFold(e.name, name) {
			return e, nil
		}
	}
	return entry{}, fs.ErrNotExist
}

// file is an open file or directory.
type file struct {
	fs      *FS
	entry   entry
	content *io.SectionReader
	rest    []fs.DirEntry
	listed  bool
}

// Stat implements fs.File.
func (f *file) Stat() (fs.FileInfo, error) { return info{f.entry}, nil }

// Close implements fs.File.
func (f *file) Close() error { return nil }

// Read implements fs.File.
func (f *file) Read(p []byte) (int, error) {
	if f.content == nil {
		return 0, &fs.PathError{Op: "read", Path: f.entry.name, Err: errors.New("it is a directory")}
	}
	return f.content.Read(p)
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if f.content == nil {
		return 0, &fs.PathError{Op: "read", Path: f.entry.name, Err: errors.New("it is a directory")}
	}
	return f.content.ReadAt(p, off)
}

// ReadDir implements fs.ReadDirFile.
func (f *file) ReadDir(n int) ([]fs.DirEntry, error) {
	if !f.listed {
		list, err := f.fs.list(f.entry)
		if err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: f.entry.name, Err: err}
		}
		f.listed = true
		for _, e := range list {
			f.rest = append(f.rest, fs.FileInfoToDirEntry(info{e}))
		}
	}
	if n > 0 && len(f.rest) == 0 {
		return nil, io.EOF
	}
	if n <= 0 {
		n = len(f.rest)
	}
	n = min(n, len(f.rest))
	list := f.rest[:n]
	f.rest = f.rest[n:]
	return list, nil
}

// content is the bytes of a file over its extents.
type content struct {
	r       io.ReaderAt
	extents []extent
}

// ReadAt implements io.ReaderAt.
func (c content) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for _, x := range c.extents {
		if off >= x.length {
			off -= x.length
			continue
		}
		n := int(min(int64(len(p)-done), x.length-off))
		got, err := c.r.ReadAt(p[done:done+n], x.offset+off)
		done += got
		if got < n {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return done, err
		}
		off = 0
		if done == len(p) {
			return done, nil
		}
	}
	return done, io.EOF
}

// info is what is known of a file.
type info struct{ e entry }

func (i info) Name() string       { return i.e.name }
func (i info) Size() int64        { return i.e.size() }
func (i info) Mode() fs.FileMode  { return i.e.mode }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.e.mode.IsDir() }
func (i info) Sys() any           { return nil }

// unicodeName reads a Joliet name: big-endian UTF-16.
func unicodeName(p []byte) string {
	var units []uint16
	for ; len(p) >= 2; p = p[2:] {
		units = append(units, binary.BigEndian.Uint16(p))
	}
	return string(utf16.Decode(units))
}

// withoutVersion takes ";1" and a trailing dot from a name [7.5.1].
func withoutVersion(name string) string {
	name, _, _ = strings.Cut(name, ";")
	return strings.TrimSuffix(name, ".")
}
