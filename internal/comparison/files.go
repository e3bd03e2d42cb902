package comparison

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path"
	"slices"
	"strconv"

	"herdbook/internal/filesystem"
)

// node is a file in one of the trees.
type node struct {
	name  string
	entry *filesystem.Entry
	stat  *filesystem.Stat
}

// errEnough ends a walk of which no more is wanted.
var errEnough = errors.New("enough")

// nodes is a walk of which one node after another can be taken. An error is the
// last that comes.
func nodes(tree *filesystem.FS) iter.Seq2[node, error] {
	return func(yield func(node, error) bool) {
		err := tree.Walk(func(name string, e *filesystem.Entry) error {
			stat, err := e.Stat()
			if err != nil {
				return err
			}
			if name == "." {
				name = ""
			}
			if !yield(node{name, e, stat}, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(node{}, err)
		}
	}
}

// comparePaths orders as walks do: what is in a directory follows it, before names
// that only begin like it.
func comparePaths(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return place(a, n) - place(b, n)
}

// place is where the byte of a path stands: its end, a slash, all others.
func place(name string, n int) int {
	switch {
	case n == len(name):
		return -1
	case name[n] == '/':
		return 0
	}
	return 1 + int(name[n])
}

// files merges the walks through both trees.
func files(ctx context.Context, before, after *filesystem.FS) ([]Difference, error) {
	list := []Difference{}
	nextA, stopA := iter.Pull2(nodes(before))
	defer stopA()
	nextB, stopB := iter.Pull2(nodes(after))
	defer stopB()
	r := reader{ctx: ctx, linked: map[[2]uint64]bool{}}
	a, errA, okA := nextA()
	b, errB, okB := nextB()
	for okA || okB {
		if err := errors.Join(errA, errB, ctx.Err()); err != nil {
			return nil, err
		}
		order := comparePaths(a.name, b.name)
		switch {
		case !okB || okA && order < 0:
			list = append(list, Difference{Change: Removed, Name: path.Join("/", a.name), Kind: kind(a.stat)})
			a, errA, okA = nextA()
		case !okA || order > 0:
			list = append(list, Difference{Change: Added, Name: path.Join("/", b.name), Kind: kind(b.stat)})
			b, errB, okB = nextB()
		default:
			details, err := r.details(a, b)
			if err != nil {
				return nil, fmt.Errorf("/%s: %w", a.name, err)
			}
			if len(details) > 0 {
				list = append(list, Difference{Changed, path.Join("/", b.name), kind(b.stat), details})
			}
			a, errA, okA = nextA()
			b, errB, okB = nextB()
		}
	}
	return list, nil
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
