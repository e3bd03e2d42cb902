package comparison

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"

	"herdbook/internal/filesystem"
)

// node is a file in one of the trees.
type node struct {
	entry *filesystem.Entry
	stat  *filesystem.Stat
}

// files compares what both trees have, name by name.
func files(ctx context.Context, before, after *filesystem.FS) ([]Difference, error) {
	list := []Difference{}
	r := reader{ctx: ctx, linked: map[[2]uint64]bool{}}
	err := filesystem.Merge(before, after, func(name string, a, b *filesystem.Entry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		d, err := r.difference(path.Join("/", name), a, b)
		if err == nil && d.Change != "" {
			list = append(list, d)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// difference is what happened to one name, its Change "" if nothing did.
func (r *reader) difference(name string, before, after *filesystem.Entry) (Difference, error) {
	a, errA := look(before)
	b, errB := look(after)
	if err := errors.Join(errA, errB); err != nil {
		return Difference{}, err
	}
	switch {
	case before == nil:
		return Difference{Change: Added, Name: name, Kind: kind(b.stat)}, nil
	case after == nil:
		return Difference{Change: Removed, Name: name, Kind: kind(a.stat)}, nil
	}
	details, err := r.details(a, b)
	if err != nil {
		return Difference{}, fmt.Errorf("%s: %w", name, err)
	}
	if len(details) == 0 {
		return Difference{}, nil
	}
	return Difference{Changed, name, kind(b.stat), details}, nil
}

// look reads what there is of a file; nil is none.
func look(e *filesystem.Entry) (node, error) {
	if e == nil {
		return node{}, nil
	}
	stat, err := e.Stat()
	return node{e, stat}, err
}

// kind names what a file is.
func kind(s *filesystem.Stat) string {
	names := map[uint16]string{
		filesystem.ModeRegular: "file", filesystem.ModeDir: "directory", filesystem.ModeSymlink: "link", filesystem.ModeBlock: "device",
		filesystem.ModeChar: "device", filesystem.ModeFIFO: "fifo", filesystem.ModeSocket: "socket",
	}
	return names[s.Mode&filesystem.ModeType]
}

// details is what differs in two files of one name, the cheap first.
func (r *reader) details(a, b node) ([]Detail, error) {
	var list []Detail
	tell := func(what, from, to string) {
		if from != to {
			list = append(list, Detail{what, from, to})
		}
	}
	alike := a.stat.Mode&filesystem.ModeType == b.stat.Mode&filesystem.ModeType
	if !alike {
		list = append(list, Detail{"kind", kindText(a.stat), kindText(b.stat)})
	}
	if alike {
		if err := r.substance(a, b, tell); err != nil {
			return nil, err
		}
	}
	if link := uint16(filesystem.ModeSymlink); a.stat.Mode&filesystem.ModeType != link && b.stat.Mode&filesystem.ModeType != link { // theirs means nothing
		tell("mode", fmt.Sprintf("%04o", a.stat.Mode&0o7777), fmt.Sprintf("%04o", b.stat.Mode&0o7777))
	}
	tell("owner", fmt.Sprintf("%d:%d", a.stat.UID, a.stat.GID), fmt.Sprintf("%d:%d", b.stat.UID, b.stat.GID))
	attributes, err := attributes(a.entry, b.entry)
	for _, name := range attributes {
		list = append(list, Detail{What: "attribute " + name})
	}
	return list, err
}

// kindText is the kind, and of devices which.
func kindText(s *filesystem.Stat) string {
	switch s.Mode & filesystem.ModeType {
	case filesystem.ModeBlock:
		return fmt.Sprintf("block %d:%d", s.Major, s.Minor)
	case filesystem.ModeChar:
		return fmt.Sprintf("char %d:%d", s.Major, s.Minor)
	}
	return kind(s)
}

// substance compares what files of one kind hold.
func (r *reader) substance(a, b node, tell func(what, from, to string)) error {
	switch a.stat.Mode & filesystem.ModeType {
	case filesystem.ModeRegular:
		if a.stat.Size != b.stat.Size {
			tell("content", strconv.FormatInt(a.stat.Size, 10), strconv.FormatInt(b.stat.Size, 10))
			return nil
		}
		same, err := r.same(a, b)
		if err == nil && !same {
			tell("content", strconv.FormatInt(a.stat.Size, 10), "")
		}
		return err
	case filesystem.ModeSymlink:
		from, err := a.entry.ReadLink()
		if err != nil {
			return err
		}
		to, err := b.entry.ReadLink()
		tell("target", from, to)
		return err
	case filesystem.ModeBlock, filesystem.ModeChar:
		tell("device", kindText(a.stat), kindText(b.stat))
	}
	return nil
}

// attributes are the names of those that one lacks or that differ.
func attributes(a, b *filesystem.Entry) ([]string, error) {
	before, err := a.Xattrs()
	if err != nil {
		return nil, err
	}
	after, err := b.Xattrs()
	if err != nil {
		return nil, err
	}
	all := maps.Clone(before)
	if all == nil {
		all = map[string][]byte{}
	}
	maps.Copy(all, after)
	var list []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		x, okA := before[name]
		y, okB := after[name]
		if okA != okB || !bytes.Equal(x, y) {
			list = append(list, name)
		}
	}
	return list, nil
}
