// Package archive writes what is read of a file system as a tar: owners, modes,
// times, extended attributes, links of both kinds, device nodes. What goes into
// the tar, and under which name, is the caller's to say.
package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"herdbook/internal/filesystem"
)

// Whiteout begins the names of files in OCI image layers that say what is gone.
const Whiteout = ".wh."

// Writer writes one tar of what is on one file system, or on several that were
// joined.
type Writer struct {
	tar      *tar.Writer
	buffered *bufio.Writer
	first    map[uint64]string // inode → the name that it was written under
	buffer   []byte
	keep     func(attribute string) bool
}

// NewWriter begins a tar. Keep says which extended attributes go into it, by
// their full names; nil is all of them.
func NewWriter(w io.Writer, keep func(attribute string) bool) *Writer {
	buffered := bufio.NewWriterSize(w, 1<<20)
	return &Writer{tar.NewWriter(buffered), buffered, map[uint64]string{}, make([]byte, 1<<20), keep}
}

// Close ends the tar. What lies beneath stays open.
func (w *Writer) Close() error {
	if err := w.tar.Close(); err != nil {
		return fmt.Errorf("end tar: %w", err)
	}
	return w.buffered.Flush()
}

// Add writes one entry. Of a file with several names the first is written with
// its content, and the others as links to that. Sockets are left out: they are
// nothing without who listens.
func (w *Writer) Add(name string, e *filesystem.Entry) error {
	h, err := w.header(name, e)
	if err != nil || h == nil {
		return err
	}
	if err := w.tar.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg || h.Size == 0 {
		return err
	}
	f, err := e.Open()
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{w.tar}, struct{ io.Reader }{f}, w.buffer)
	return errors.Join(err, f.Close())
}

// AddAs is Add of a regular file with another content than it has.
func (w *Writer) AddAs(name string, e *filesystem.Entry, content []byte) error {
	h, err := w.header(name, e)
	if err != nil {
		return err
	}
	h.Typeflag, h.Linkname, h.Size = tar.TypeReg, "", int64(len(content))
	if err := w.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err = w.tar.Write(content)
	return err
}

// header is what stands before an entry's content; nil for what is left out.
func (w *Writer) header(name string, e *filesystem.Entry) (*tar.Header, error) {
	stat, err := e.Stat()
	if err != nil {
		return nil, err
	}
	h := &tar.Header{
		Name: name, Mode: int64(stat.Mode & 0o7777), Uid: int(stat.UID), Gid: int(stat.GID),
		ModTime: stat.Mtime, Format: tar.FormatPAX,
	}
	if h.PAXRecords, err = w.records(e); err != nil {
		return nil, err
	}
	mode := stat.FileMode()
	switch {
	case mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		return h, nil
	case mode&fs.ModeSocket != 0, mode&fs.ModeIrregular != 0:
		return nil, nil
	case w.first[stat.Ino] != "":
		h.Typeflag, h.Linkname, h.PAXRecords = tar.TypeLink, w.first[stat.Ino], nil
		return h, nil
	case stat.Nlink > 1:
		w.first[stat.Ino] = name
	}
	switch {
	case mode&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		h.Linkname, err = e.ReadLink()
	case mode&fs.ModeNamedPipe != 0:
		h.Typeflag = tar.TypeFifo
	case mode&fs.ModeDevice != 0:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, int64(stat.Major), int64(stat.Minor)
		if mode&fs.ModeCharDevice != 0 {
			h.Typeflag = tar.TypeChar
		}
	default:
		h.Typeflag, h.Size = tar.TypeReg, stat.Size
	}
	return h, err
}

// records are the extended attributes, as GNU tar and bsdtar have them.
func (w *Writer) records(e *filesystem.Entry) (map[string]string, error) {
	attributes, err := e.Xattrs()
	if err != nil || len(attributes) == 0 {
		return nil, err
	}
	pax := map[string]string{}
	for name, value := range attributes {
		if w.keep == nil || w.keep(name) {
			pax["SCHILY.xattr."+name] = string(value)
		}
	}
	return pax, nil
}

// Remove writes that a name of a layer below is not in this one, in the way of OCI image
// layers.
func (w *Writer) Remove(name string) error {
	dir, base := path.Split(name)
	return w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + Whiteout + base, Mode: 0o600, Format: tar.FormatPAX})
}

// Tree writes a whole tree, its names behind ./ as tar writes those below a directory.
func (w *Writer) Tree(ctx context.Context, tree *filesystem.FS) error {
	return tree.Walk(func(name string, e *filesystem.Entry) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if name != "." {
			name = "./" + name
		}
		if err := w.Add(name, e); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// File writes a file of root's that is in no tree.
func (w *Writer) File(name string, content []byte, modified time.Time) error {
	err := w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644, ModTime: modified, Format: tar.FormatPAX})
	if err != nil {
		return err
	}
	_, err = w.tar.Write(content)
	return err
}
