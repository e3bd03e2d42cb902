package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"herdbook/internal/archive"
	"herdbook/internal/container"
	"herdbook/internal/filesystem"
)

// difference writes what a tree has other than the one that it stands on: files that are
// new or not the same, whole, and the names of those that are gone.
type difference struct {
	ctx   context.Context
	out   *archive.Writer
	above []directory // those that the walk is in, from the root down
	any   bool        // something was written
	a, b  []byte      // for contents
}

// directory is one on the way to a file. Who unpacks a layer makes those that it lacks
// with any owner and mode, so that they are written before what is in them.
type directory struct {
	name    string
	entry   *filesystem.Entry
	written bool
}

// file is one name in a tree.
type file struct {
	entry *filesystem.Entry
	stat  *filesystem.Stat
}

// writeDifference writes the tar of a layer and tells whether anything is in it. A tree
// that stands on nil is written whole.
func writeDifference(ctx context.Context, w io.Writer, below, tree *filesystem.FS) (any bool, err error) {
	d := difference{ctx: ctx, out: archive.NewWriter(w, container.Attribute)}
	err = filesystem.Merge(below, tree, func(name string, a, b *filesystem.Entry) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		err := d.visit(name, a, b)
		if err != nil && !errors.Is(err, fs.SkipDir) {
			err = fmt.Errorf("%s: %w", name, err)
		}
		return err
	})
	return d.any, errors.Join(err, d.out.Close())
}

func (d *difference) visit(name string, a, b *filesystem.Entry) error {
	before, errA := look(name, a)
	after, errB := look(name, b)
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	switch {
	case name == ".":
		return nil
	case before == nil && after == nil:
		return fs.SkipDir
	case after == nil:
		if err := errors.Join(d.reach(name), d.out.Remove(name)); err != nil {
			return err
		}
		return fs.SkipDir
	case strings.HasPrefix(path.Base(name), archive.Whiteout):
		return fmt.Errorf("container images mean a file that is gone by a name that begins with %s; delete it from the image", archive.Whiteout)
	}
	changed, err := d.changed(name, before, after)
	if err != nil {
		return err
	}
	if changed {
		if err := errors.Join(d.reach(name), d.out.Add(name, after.entry)); err != nil {
			return err
		}
	}
	if !after.stat.FileMode().IsDir() || container.Empties(name) {
		return fs.SkipDir // what was in a directory of the name is gone with it
	}
	d.above = append(d.ancestors(name), directory{name, after.entry, changed})
	return nil
}

// look returns what a container has by a name; nil for nothing.
func look(name string, e *filesystem.Entry) (*file, error) {
	if e == nil {
		return nil, nil
	}
	stat, err := e.Stat()
	if err != nil || name != "." && !container.Has(name, stat) {
		return nil, err
	}
	return &file{e, stat}, nil
}

// ancestors are the directories above a name.
func (d *difference) ancestors(name string) []directory {
	for n := len(d.above); n > 0; n-- {
		if strings.HasPrefix(name, d.above[n-1].name+"/") {
			return d.above[:n]
		}
	}
	return d.above[:0]
}

// reach writes the directories above a name that are not written yet.
func (d *difference) reach(name string) error {
	d.any = true
	above := d.ancestors(name)
	for i := range above {
		if above[i].written {
			continue
		}
		if err := d.out.Add(above[i].name, above[i].entry); err != nil {
			return err
		}
		above[i].written = true
	}
	return nil
}

// changed tells whether a file is not what it was. One that nobody has touched is told by
// its inode, whose time of change only the kernel sets; of others, contents are compared.
func (d *difference) changed(name string, before, after *file) (bool, error) {
	if before == nil {
		return true, nil
	}
	a, b := *before.stat, *after.stat
	a.Atime, b.Atime = time.Time{}, time.Time{}
	if a == b && !a.Ctime.IsZero() {
		return false, nil
	}
	if a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID || !a.Mtime.Equal(b.Mtime) && !container.Empties(name) {
		return true, nil
	}
	mode := b.FileMode()
	// A link in a layer can only lead to a file of that layer: all names of a file go together.
	if !mode.IsDir() && (a.Nlink > 1 || b.Nlink > 1) || mode.IsRegular() && a.Size != b.Size {
		return true, nil
	}
	if same, err := sameAttributes(before.entry, after.entry); err != nil || !same {
		return true, err
	}
	switch {
	case mode.IsRegular():
		same, err := d.sameContent(before, after)
		return !same, err
	case mode&fs.ModeSymlink != 0:
		from, errA := before.entry.ReadLink()
		to, errB := after.entry.ReadLink()
		return from != to, errors.Join(errA, errB)
	}
	return false, nil
}

func sameAttributes(a, b *filesystem.Entry) (bool, error) {
	before, errA := a.Xattrs()
	after, errB := b.Xattrs()
	if err := errors.Join(errA, errB); err != nil {
		return false, err
	}
	kept := 0
	for name, value := range after {
		if !container.Attribute(name) {
			continue
		}
		old, ok := before[name]
		if !ok || !bytes.Equal(old, value) {
			return false, nil
		}
		kept++
	}
	for name := range before {
		if container.Attribute(name) {
			kept--
		}
	}
	return kept == 0, nil
}

// sameContent compares two files of one size.
func (d *difference) sameContent(before, after *file) (same bool, err error) {
	a, err := before.entry.Open()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	b, err := after.entry.Open()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if d.a == nil {
		d.a, d.b = make([]byte, 256<<10), make([]byte, 256<<10)
	}
	for left := after.stat.Size; left > 0; {
		if err := context.Cause(d.ctx); err != nil {
			return false, err
		}
		n := min(left, int64(len(d.a)))
		_, errA := io.ReadFull(a, d.a[:n])
		_, errB := io.ReadFull(b, d.b[:n])
		if err := errors.Join(errA, errB); err != nil {
			return false, err
		}
		if !bytes.Equal(d.a[:n], d.b[:n]) {
			return false, nil
		}
		left -= n
	}
	return true, nil
}
