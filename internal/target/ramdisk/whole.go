package ramdisk

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math"

	"github.com/u-root/u-root/pkg/cpio"

	"herdbook/internal/event"
	"herdbook/internal/filesystem"
	"herdbook/internal/ramroot"
)

// writeWhole writes an initrd that is the root itself.
func (w *work) writeWhole(ctx context.Context) error {
	w.sink.Emit(event.Event{Kind: event.Phase, Text: "write the initrd"})
	err := w.gatherAttributes(ctx)
	if err != nil {
		return err
	}
	return writeFile(w.path("initrd"), func(out io.Writer) error {
		return compressed(ctx, w.Compression, out, func(out io.Writer) error { return w.writeTree(ctx, out) })
	})
}

// gatherAttributes notes the extended attributes, which the format has no room for.
func (w *work) gatherAttributes(ctx context.Context) error {
	return w.walk(ctx, func(name string, e *filesystem.Entry, _ []byte) error {
		values, err := e.Xattrs()
		if err == nil && len(values) > 0 {
			w.config.Attributes = append(w.config.Attributes, ramroot.AttributeSet{Path: name, Values: values})
		}
		return err
	})
}

// walk is walkRoot without what the first process stands in the place of.
func (w *work) walk(ctx context.Context, add func(string, *filesystem.Entry, []byte) error) error {
	return walkRoot(ctx, w.image.System.Tree(), w.kernel.Version, func(name string, e *filesystem.Entry, content []byte) error {
		switch {
		case name == "init" && e.IsDir():
			return fs.SkipDir
		case name == "init":
			return nil
		}
		return add(name, e, content)
	})
}

// treeWriter writes a tree as an archive.
type treeWriter struct {
	out     cpio.RecordWriter
	numbers map[uint64]uint64 // inode of a file with several names → its number here
	next    uint64
	size    int64
}

// writeTree writes the root with the first process in it.
func (w *work) writeTree(ctx context.Context, out io.Writer) error {
	buffered := &counter{Writer: bufio.NewWriterSize(out, 1<<20)}
	t := &treeWriter{out: cpio.Newc.Writer(buffered), numbers: map[uint64]uint64{}, next: 1}
	if err := w.walk(ctx, t.add); err != nil {
		return err
	}
	own, err := w.begin()
	if err != nil {
		return err
	}
	for _, r := range own.records {
		if r.Name == "dev" || r.Name == "etc" { // they are there
			continue
		}
		r = cpio.MakeReproducible(r)
		r.Ino = t.number()
		if err := t.out.WriteRecord(r); err != nil {
			return err
		}
	}
	w.unpacked = t.size + own.size
	return buffered.end(t.out)
}

func (t *treeWriter) number() uint64 {
	t.next++
	return t.next
}

// add writes one file.
func (t *treeWriter) add(name string, e *filesystem.Entry, content []byte) error {
	stat, err := e.Stat()
	if err != nil {
		return err
	}
	r := cpio.Record{Info: cpio.Info{
		Name: name, Mode: uint64(stat.Mode), UID: uint64(stat.UID), GID: uint64(stat.GID), NLink: 1,
		MTime: uint64(min(max(stat.Mtime.Unix(), 0), math.MaxUint32)), Ino: t.number(),
	}}
	r.Rmajor, r.Rminor = uint64(stat.Major), uint64(stat.Minor)
	switch stat.Mode & filesystem.ModeType {
	case filesystem.ModeSocket:
		return nil // it is nothing without who listens
	case filesystem.ModeSymlink:
		target, err := e.ReadLink()
		if err != nil {
			return err
		}
		content = []byte(target)
		fallthrough
	case filesystem.ModeRegular:
		if err := t.fill(&r, e, stat, content); err != nil {
			return err
		}
	}
	t.size += int64(r.FileSize)
	return t.out.WriteRecord(r)
}

// fill gives a record its content. A file with several names has it under the first of
// them, and is known by its number under the others.
func (t *treeWriter) fill(r *cpio.Record, e *filesystem.Entry, stat *filesystem.Stat, content []byte) error {
	if content != nil {
		*r = cpio.StaticRecord(content, r.Info)
		return nil
	}
	if stat.Size > math.MaxUint32 {
		return fmt.Errorf("it has %d MiB, and an initrd can hold files of less than 4096: say layout = \"squashfs\"", stat.Size>>20)
	}
	if stat.Nlink > 1 {
		r.NLink = uint64(stat.Nlink)
		if first, ok := t.numbers[stat.Ino]; ok {
			r.Ino = first
			return nil
		}
		t.numbers[stat.Ino] = r.Ino
	}
	f, err := e.Open()
	if err != nil {
		return err
	}
	r.ReaderAt, r.FileSize = f, uint64(stat.Size)
	return nil
}
