// Package unpack takes the one disk image out of what it is packed in: gzip, xz,
// zstd, bzip2 and tar, in one another, told by their magic and not by a name.
// What format the disk has and whether it may be trusted is left to package disk.
package unpack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"herdbook/internal/disk"
	"herdbook/internal/event"
)

const (
	// DefaultLimit is the size that an unpacked disk has at most, if Options name
	// none: the largest disk that is imported, and some for the image's tables.
	DefaultLimit = disk.MaxImport + disk.MaxImport/64

	maxDepth   = 4        // what is packed in one another
	maxMembers = 1000     // of an archive; one of a disk has few
	maxNames   = 8        // in an error
	maxName    = 80       // characters of each
	slack      = 16 << 20 // that an archive may have beside the disk
)

// ErrNotOne is wrapped by the errors that say that an archive holds no disk, or
// more than one.
var ErrNotOne = errors.New("not one disk image")

// ErrTooLarge is wrapped by the errors that say that what is unpacked goes beyond
// the limit.
var ErrTooLarge = errors.New("more than the limit")

// Options say how much may be unpacked and who hears of it.
type Options struct {
	Limit int64      // bytes of the disk, and with 16 MiB more of an archive around it; 0 is DefaultLimit
	Sink  event.Sink // Progress in bytes of the packed file; a Notice of what was ignored
}

// Image is a disk image that stands in a file of its own.
type Image struct {
	Path   string   // the file that was asked for, if it is not packed; else a new one
	Packed []string // what it was packed in, the outermost first; nil if it is not packed
	Name   string   // of the archive's member; empty if there is no archive
}

// Disk unpacks src, a regular file that nobody changes meanwhile, into a new file
// in dir, in which zeros are holes. If src is not packed it is the image itself,
// and dir stays as it is. The new file is the caller's to remove; if there is an
// error, or ctx ends, there is none. Of an archive no name is ever used.
func Disk(ctx context.Context, src, dir string, o Options) (_ *Image, err error) {
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("unpack %s: %w", src, err)
		}
	}()
	file, err := os.Open(src)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	stat, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !stat.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	head := make([]byte, min(stat.Size(), disk.SniffSize))
	if _, err := file.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, err
	}
	if packing(head) == "" {
		return &Image{Path: src}, nil
	}
	u := &unpacking{Options: o, dir: dir}
	from := &counted{alive: ctx.Err, r: file, total: stat.Size(), sink: o.Sink}
	if err = u.open(ctx, from, "", nil); err == nil {
		err = u.finish()
	}
	if err != nil {
		return nil, errors.Join(u.explain(ctx, err), u.discard())
	}
	return &u.found, nil
}

// unpacking is the work of one call of Disk.
type unpacking struct {
	Options
	dir    string
	out    *os.File // the candidate's
	found  Image    // the candidate
	isDisk bool     // the candidate is a disk by its magic
	disks  names    // all that are disks by their magic
	others names    // all other files
}

// open looks into a stream that may be packed. name is that of the archive's
// member that it comes from.
func (u *unpacking) open(ctx context.Context, r io.Reader, name string, packed []string) error {
	b := bufio.NewReaderSize(r, disk.SniffSize)
	head, err := b.Peek(disk.SniffSize)
	if err != nil && err != io.EOF {
		return err
	}
	kind := packing(head)
	switch {
	case kind == "":
		return u.leaf(ctx, b, name, packed)
	case len(packed) >= maxDepth:
		return fmt.Errorf("more than %d things packed in one another: %s", maxDepth, strings.Join(append(packed, kind), ", "))
	}
	packed = append(packed[:len(packed):len(packed)], kind)
	if kind == "tar" {
		return u.archive(ctx, b, packed)
	}
	d, err := u.decoder(ctx, b, kind)
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	limited := &limited{alive: ctx.Err, r: d, left: u.Limit + slack, what: kind}
	err = u.open(ctx, limited, name, packed)
	if err == nil {
		_, err = io.Copy(io.Discard, limited) // its checksum stands at the end
	}
	if closed := d.Close(); err == nil {
		err = closed
	}
	return err
}

// leaf takes what is packed no more. The candidate is the first disk by its
// magic or, as long as there is none, the only file.
func (u *unpacking) leaf(ctx context.Context, r *bufio.Reader, name string, packed []string) error {
	head, err := r.Peek(disk.SniffSize)
	if err != nil && err != io.EOF {
		return err
	}
	_, isDisk := disk.Sniff(head)
	if isDisk {
		u.disks.add(name)
	} else {
		u.others.add(name)
	}
	first := isDisk && u.disks.count == 1 || u.disks.count == 0 && u.others.count == 1
	if !first {
		if u.isDisk || u.out == nil {
			return nil
		}
		return u.discard() // no longer the only file
	}
	if err := u.discard(); err != nil {
		return err
	}
	out, err := os.CreateTemp(u.dir, "unpacked-*.disk")
	if err != nil {
		return err
	}
	u.out, u.isDisk, u.found = out, isDisk, Image{Path: out.Name(), Packed: packed, Name: name}
	return writeSparse(out, &limited{alive: ctx.Err, r: r, left: u.Limit, what: "disk"})
}

// finish closes the one disk, when everything is read.
func (u *unpacking) finish() error {
	switch {
	case u.disks.count > 1:
		return fmt.Errorf("%w: it holds %d: %s; pack the one that is meant alone", ErrNotOne, u.disks.count, u.disks)
	case u.disks.count+u.others.count == 0:
		return fmt.Errorf("%w: the archive holds no files", ErrNotOne)
	case u.out == nil:
		return fmt.Errorf("%w: none of its %d files is known for one: %s", ErrNotOne, u.others.count, u.others)
	}
	return u.out.Close()
}

// discard removes the candidate.
func (u *unpacking) discard() error {
	if u.out == nil {
		return nil
	}
	out := u.out
	u.out = nil
	err := out.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	return errors.Join(err, os.Remove(out.Name()))
}

// explain says what a reader of the error cannot know.
func (u *unpacking) explain(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("no space is left for the disk in %s; free some there: %w", filepath.Clean(u.dir), err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: is it cut short?", err)
	}
	return err
}

// names is a list for an error, which may be long.
type names struct {
	count int
	kept  []string
}

func (n *names) add(name string) {
	n.count++
	if len(n.kept) < maxNames {
		n.kept = append(n.kept, fmt.Sprintf("%.*q", maxName, name))
	}
}

// String lists the names.
func (n names) String() string {
	text := strings.Join(n.kept, ", ")
	if n.count > len(n.kept) {
		text += ", …"
	}
	return text
}
