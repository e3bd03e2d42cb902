package filesystem

import (
	"errors"
	"io/fs"
	"iter"
	"strings"
)

// node is one step of a walk.
type node struct {
	name  string
	entry *Entry
}

// errEnough ends a walk of which no more is wanted.
var errEnough = errors.New("enough")

// nodes is a walk of which one node after another can be taken. An error is the
// last that comes.
func nodes(tree *FS) iter.Seq2[node, error] {
	return func(yield func(node, error) bool) {
		if tree == nil {
			return
		}
		err := tree.Walk(func(name string, e *Entry) error {
			if !yield(node{name, e}, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(node{}, err)
		}
	}
}

// Merge walks two trees at once, in the order of Walk, and calls fn once for every name
// that is in either: a or b is nil where that tree lacks it. A tree that is nil has
// nothing. An error of fn ends it; fs.SkipDir leaves out what is below the name, in both.
func Merge(before, after *FS, fn func(name string, a, b *Entry) error) error {
	nextA, stopA := iter.Pull2(nodes(before))
	defer stopA()
	nextB, stopB := iter.Pull2(nodes(after))
	defer stopB()
	a, errA, okA := nextA()
	b, errB, okB := nextB()
	skipped := ""
	for okA || okB {
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		order := 0
		switch {
		case !okB:
			order = -1
		case !okA:
			order = 1
		default:
			order = comparePaths(a.name, b.name)
		}
		var name string
		var entries [2]*Entry
		if order <= 0 {
			name, entries[0] = a.name, a.entry
			a, errA, okA = nextA()
		}
		if order >= 0 {
			name, entries[1] = b.name, b.entry
			b, errB, okB = nextB()
		}
		if skipped != "" && strings.HasPrefix(name, skipped) {
			continue
		}
		if err := fn(name, entries[0], entries[1]); errors.Is(err, fs.SkipDir) {
			skipped = name + "/"
		} else if err != nil {
			return err
		}
	}
	return nil
}

// comparePaths orders as walks do: the root first; what is in a directory follows it,
// before names that only begin like it.
func comparePaths(a, b string) int {
	if a == "." || b == "." {
		return len(strings.TrimPrefix(a, ".")) - len(strings.TrimPrefix(b, "."))
	}
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
