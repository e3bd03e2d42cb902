package ext4

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"time"
)

// File is an open regular file. Reads of any size go straight into the
// caller's buffer; holes read as zeros. It is safe for concurrent ReadAt.
type File struct {
	f       *FS
	n       *inode
	name    string
	extents []extent
	inline  []byte // the content, if the inode holds it
	offset  int64
	closed  bool
}

func (f *FS) openFile(n *inode, name string) (*File, error) {
	if n.flags&flagEncrypt != 0 {
		return nil, errors.New("the file is encrypted")
	}
	file := &File{f: f, n: n, name: name}
	var err error
	if n.flags&flagInline != 0 {
		file.inline, err = f.inlineData(n)
	} else {
		file.extents, err = f.extents(n)
	}
	if err != nil {
		return nil, err
	}
	return file, nil
}

// Stat implements fs.File.
func (o *File) Stat() (fs.FileInfo, error) { return info{path.Base(o.name), o.n}, nil }

// Close implements fs.File.
func (o *File) Close() error {
	if o.closed {
		return fs.ErrClosed
	}
	o.closed = true
	return nil
}

// Read implements io.Reader.
func (o *File) Read(p []byte) (int, error) {
	if o.closed {
		return 0, fs.ErrClosed
	}
	n, err := o.ReadAt(p, o.offset)
	o.offset += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Seek implements io.Seeker.
func (o *File) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += o.offset
	case io.SeekEnd:
		offset += o.n.Size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek %s to %d: before its start", o.name, offset)
	}
	o.offset = offset
	return offset, nil
}

// ReadAt implements io.ReaderAt.
func (o *File) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s at %d: before its start", o.name, off)
	}
	if off >= o.n.Size {
		return 0, io.EOF
	}
	end := io.EOF
	if int64(len(p)) <= o.n.Size-off {
		end = nil
	} else {
		p = p[:o.n.Size-off]
	}
	if o.inline != nil {
		n := 0
		if off < int64(len(o.inline)) {
			n = copy(p, o.inline[off:])
		}
		clear(p[n:])
		return len(p), end
	}
	if n, err := o.read(p, off); err != nil {
		return n, fmt.Errorf("read %s at %d: %w", o.name, off, err)
	}
	return len(p), end
}

// read fills p, which lies wholly within the file.
func (o *File) read(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		e, start, ok := o.extentAt(off)
		if !ok { // a hole up to start
			n := min(int64(len(p)-done), start-off)
			clear(p[done:][:n])
			done, off = done+int(n), off+n
			continue
		}
		n := min(int64(len(p)-done), start-off)
		at := int64(e.physical)*o.f.block + off - int64(e.logical)*o.f.block
		if err := o.f.readBytes(p[done:][:n], at); err != nil {
			return done, err
		}
		done, off = done+int(n), off+n
	}
	return done, nil
}

// extentAt finds the extent that holds the byte off, and where it ends. If off
// lies in a hole, ok is false and the second result is where the hole ends.
func (o *File) extentAt(off int64) (e extent, end int64, ok bool) {
	block := uint64(off / o.f.block)
	i := sort.Search(len(o.extents), func(i int) bool { return o.extents[i].logical+o.extents[i].count > block })
	if i == len(o.extents) {
		return extent{}, 1<<63 - 1, false
	}
	e = o.extents[i]
	if e.logical > block {
		return extent{}, int64(e.logical) * o.f.block, false
	}
	return e, int64(e.logical+e.count) * o.f.block, true
}

// readBytes reads bytes of the file system at any offset.
func (f *FS) readBytes(p []byte, at int64) error {
	if len(f.replayed) == 0 {
		return readFull(f.r, p, at)
	}
	for len(p) > 0 {
		number, skip := uint64(at/f.block), at%f.block
		n := min(int64(len(p)), f.block-skip)
		if over, ok := f.replayed[number]; ok {
			copy(p[:n], over[skip:])
		} else if err := readFull(f.r, p[:n], at); err != nil {
			return err
		}
		p, at = p[n:], at+n
	}
	return nil
}

// WriteTo implements io.WriterTo with reads of a MiB.
func (o *File) WriteTo(w io.Writer) (int64, error) {
	buffer := make([]byte, min(1<<20, max(1, o.n.Size-o.offset)))
	total := int64(0)
	for {
		n, err := o.Read(buffer)
		if n > 0 {
			written, werr := w.Write(buffer[:n])
			total += int64(written)
			if werr != nil {
				return total, werr
			}
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// Data calls fn for every run of bytes of the file that is not a hole.
func (o *File) Data(fn func(start, length int64) error) error {
	if o.inline != nil {
		return fn(0, o.n.Size)
	}
	for _, e := range o.extents {
		start := int64(e.logical) * o.f.block
		length := min(int64(e.count)*o.f.block, o.n.Size-start)
		if length <= 0 {
			return nil
		}
		if err := fn(start, length); err != nil {
			return err
		}
	}
	return nil
}

// info is an fs.FileInfo.
type info struct {
	name string
	n    *inode
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.n.Size }
func (i info) Mode() fs.FileMode  { return i.n.FileMode() }
func (i info) ModTime() time.Time { return i.n.Mtime }
func (i info) IsDir() bool        { return i.n.kind() == modeDir }
func (i info) Sys() any           { s := i.n.Stat; return &s }
