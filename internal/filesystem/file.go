package filesystem

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// File is an open regular file. Reads of any size go straight into the
// caller's buffer; holes read as zeros. It is safe for concurrent ReadAt.
type File struct {
	info    info
	content Content
	offset  int64
	closed  bool
}

// Stat implements fs.File.
func (o *File) Stat() (fs.FileInfo, error) { return o.info, nil }

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
		offset += o.info.stat.Size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek %s to %d: before its start", o.info.name, offset)
	}
	o.offset = offset
	return offset, nil
}

// ReadAt implements io.ReaderAt.
func (o *File) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.content.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read %s at %d: %w", o.info.name, off, err)
	}
	return n, err
}

// WriteTo implements io.WriterTo with reads of a MiB.
func (o *File) WriteTo(w io.Writer) (int64, error) {
	buffer := make([]byte, min(1<<20, max(1, o.info.stat.Size-o.offset)))
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
func (o *File) Data(fn func(start, length int64) error) error { return o.content.Data(fn) }

// openDir is an open directory.
type openDir struct {
	info
	f    *FS
	n    Inode
	list []fs.DirEntry
	read bool
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
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
