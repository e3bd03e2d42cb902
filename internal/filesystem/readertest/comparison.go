package readertest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/filesystem"
	"herdbook/internal/peer"
)

// Comparison is how a file system is held against a directory. The zero value is for
// a mount of itself by the kernel, which is right in everything.
type Comparison struct {
	// Fields leaves out or changes what stat(2) is compared of a file.
	Fields func(name string, fields Fields)
	// Attributes leaves out extended attributes.
	Attributes func(got, want map[string][]byte)
	// Own is a directory that only the file system has, if it is not a mount of it.
	Own string
	// Runs: data must lie where the kernel says, and nowhere else. Without it, more
	// or less may be data, as long as that is zeros.
	Runs bool
}

// Fields is what stat(2) says of a file: mode, owner, group, number, links, size,
// major, minor, and the times (in nanoseconds since 1970, of which 64 bits) read,
// modified, changed and, where the kernel knows it, made.
type Fields map[string]Field

// Field is what a reader says and what the kernel says.
type Field struct{ Got, Want int64 }

// Delete leaves out fields.
func (f Fields) Delete(names ...string) {
	for _, name := range names {
		delete(f, name)
	}
}

// Tree compares every file of a file system and a directory: names, what stat(2)
// says, content, links and extended attributes.
func (c Comparison) Tree(t testing.TB, f *filesystem.FS, dir string) {
	t.Helper()
	found := map[string]bool{}
	peer.Must(t, f.Walk(func(name string, e *filesystem.Entry) error {
		found[name] = true
		if c.Own != "" && name == c.Own {
			return fs.SkipDir
		}
		c.file(t, e, name, filepath.Join(dir, name))
		again, err := f.Lstat(name)
		if err != nil {
			t.Errorf("%s is not found by its name: %v", name, err)
			return nil
		}
		if stat, err := e.Stat(); err != nil || *again.Sys().(*filesystem.Stat) != *stat {
			t.Errorf("%s is found as another by its name: %v", name, err)
		}
		return nil
	}))
	peer.Must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(dir, path); !found[name] {
			t.Errorf("%s is not found", name)
		}
		return err
	}))
}

func (c Comparison) file(t testing.TB, e *filesystem.Entry, name, path string) {
	t.Helper()
	var want unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &want); err != nil {
		t.Errorf("%s should not be there: %v", name, err)
		return
	}
	got, err := e.Stat()
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	fields := fieldsOf(got, &want)
	if c.Fields != nil {
		c.Fields(name, fields)
	}
	for what, f := range fields {
		if f.Got != f.Want {
			t.Errorf("%s: %s %d, the kernel says %d", name, what, f.Got, f.Want)
		}
	}
	switch mode := got.FileMode(); {
	case mode&fs.ModeSymlink != 0:
		a, err1 := e.ReadLink()
		b, err2 := os.Readlink(path)
		if a != b || err1 != nil || err2 != nil {
			t.Errorf("%s: link to %q, want %q (%v)", name, a, b, err1)
		}
	case mode.IsRegular():
		c.content(t, e, name, path)
	}
	c.attributes(t, e, name, path)
}

func fieldsOf(got *filesystem.Stat, want *unix.Statx_t) Fields {
	when := func(got time.Time, want unix.StatxTimestamp) Field {
		return Field{got.Unix()*1e9 + int64(got.Nanosecond()), want.Sec*1e9 + int64(want.Nsec)}
	}
	fields := Fields{
		"mode": {int64(got.Mode), int64(want.Mode)}, "owner": {int64(got.UID), int64(want.Uid)}, "group": {int64(got.GID), int64(want.Gid)},
		"number": {int64(got.Ino), int64(want.Ino)}, "links": {int64(got.Nlink), int64(want.Nlink)}, "size": {got.Size, int64(want.Size)},
		"major": {int64(got.Major), int64(want.Rdev_major)}, "minor": {int64(got.Minor), int64(want.Rdev_minor)},
		"read": when(got.Atime, want.Atime), "modified": when(got.Mtime, want.Mtime), "changed": when(got.Ctime, want.Ctime),
	}
	if want.Mask&unix.STATX_BTIME != 0 {
		fields["made"] = when(got.Crtime, want.Btime)
	}
	return fields
}

func (c Comparison) attributes(t testing.TB, e *filesystem.Entry, name, path string) {
	t.Helper()
	got, err := e.Xattrs()
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	want := map[string][]byte{}
	list, value := make([]byte, 64<<10), make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, list)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		peer.Must(t, err)
	}
	for attr := range strings.SplitSeq(strings.TrimRight(string(list[:max(n, 0)]), "\x00"), "\x00") {
		if attr != "" {
			n, err := unix.Lgetxattr(path, attr, value)
			peer.Must(t, err)
			want[attr] = bytes.Clone(value[:n])
		}
	}
	if c.Attributes != nil {
		c.Attributes(got, want)
	}
	for attr, value := range want {
		if mine, ok := got[attr]; !ok || !bytes.Equal(mine, value) {
			t.Errorf("%s: attribute %s = %x, want %x", name, attr, mine, value)
		}
	}
	if len(want) != len(got) {
		t.Errorf("%s: %d attributes, the kernel has %d", name, len(got), len(want))
	}
}

// piece is how much is compared at once, and maxWhole up to what size a file is read
// whole, with its holes.
const (
	piece    = 1 << 20
	maxWhole = 64 << 20
)

// content compares where a file has data, and the data.
func (c Comparison) content(t testing.TB, e *filesystem.Entry, name, path string) {
	t.Helper()
	ours, err := e.Open()
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	defer ours.Close()
	file, size := File(t, path)
	defer file.Close()
	p := &pair{t: t, name: name, ours: ours, kernel: file, runs: runsOf(t, ours, name, size)}
	spans := []Run{{0, size + 1}} // the end is read, too
	if c.Runs || size > maxWhole {
		want := kernelRuns(t, file)
		if c.Runs && fmt.Sprint(p.runs) != fmt.Sprint(want) {
			t.Errorf("%s: data at %d, the kernel says %d", name, p.runs, want)
			return
		}
		if size > maxWhole {
			spans = want
		}
	}
	for _, r := range spans {
		for off := max(0, r.Start-5000); off < r.End; off += piece { // from the hole in front of it on
			if !p.same(off, min(piece, r.End-off)) {
				return
			}
		}
		for off := r.Start + 123457; off < r.End; off += 123457 { // and what begins and ends anywhere
			if !p.same(off, min(9999, r.End-off)) {
				return
			}
		}
	}
}

// runsOf is where a reader says that a file has data.
func runsOf(t testing.TB, f *filesystem.File, name string, size int64) (list []Run) {
	t.Helper()
	peer.Must(t, f.Data(func(start, length int64) error {
		k := len(list) - 1
		switch {
		case start < 0 || length <= 0 || start+length > size || k >= 0 && start < list[k].End:
			t.Errorf("%s: a run %d+%d behind %d of %d", name, start, length, list, size)
		case k >= 0 && list[k].End == start:
			list[k].End += length
		default:
			list = append(list, Run{start, start + length})
		}
		return nil
	}))
	return list
}

// kernelRuns is where the kernel says that a file has data.
func kernelRuns(t testing.TB, file *os.File) (list []Run) {
	t.Helper()
	for off := int64(0); ; {
		start, err := unix.Seek(int(file.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return list
		}
		peer.Must(t, err)
		off, err = unix.Seek(int(file.Fd()), start, unix.SEEK_HOLE)
		peer.Must(t, err)
		list = append(list, Run{start, off})
	}
}

// pair is a file as a reader reads it, and as the kernel does.
type pair struct {
	t            testing.TB
	name         string
	ours, kernel io.ReaderAt
	runs         []Run // where ours has data
	a, b         []byte
}

var zeros [piece]byte

// same compares some bytes, and makes sure that what ours takes for holes is zeros.
func (p *pair) same(off, length int64) bool {
	p.t.Helper()
	if int64(len(p.a)) < length {
		p.a, p.b = make([]byte, length), make([]byte, length)
	}
	n, err := p.ours.ReadAt(p.a[:length], off)
	m, _ := p.kernel.ReadAt(p.b[:length], off)
	if n != m || !bytes.Equal(p.a[:n], p.b[:n]) || err != nil && !errors.Is(err, io.EOF) {
		p.t.Errorf("%s: %d bytes from %d on are not the kernel's %d (%v)", p.name, n, off, m, err)
		return false
	}
	for _, r := range p.runs {
		if start, end := max(r.Start, off), min(r.End, off+int64(n)); start < end {
			clear(p.b[start-off : end-off])
		}
	}
	if !bytes.Equal(p.b[:n], zeros[:n]) {
		p.t.Errorf("%s: there are data in a hole of %d+%d", p.name, off, n)
		return false
	}
	return true
}
