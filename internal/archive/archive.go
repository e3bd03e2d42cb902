// Package archive writes what is read of a file system as a tar: owners, modes,
// times, extended attributes, links of both kinds, device nodes. What goes into
// the tar, and under which name, is the caller's to say.
package archive

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"herdbook/internal/filesystem"
)

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
