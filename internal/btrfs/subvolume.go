package btrfs

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"herdbook/internal/filesystem"
)

// An inode's number is the place of its subvolume in the table of those that were
// met, and behind that its own number in it. Its uppermost bits are free for those
// who join file systems.
const (
	numberBits = 44
	maxTrees   = 1 << 16
)

// tree is one subvolume.
type tree struct {
	v     *volume
	index uint64 // in the table
	id    uint64
	root  treeRoot
	// A snapshot has no subvolumes in it, but empty directories in their places.
	empty bool
}

// treeKey is by what the table is searched: an empty directory is one of its own
// for every snapshot in which it is.
type treeKey struct{ id, in uint64 }

func (t *tree) number(object uint64) (uint64, error) {
	if object >= 1<<numberBits {
		return 0, corrupt("the inode number %d", object)
	}
	return t.index<<numberBits | object, nil
}

// open makes a file system of a subvolume.
func (v *volume) open(id uint64) (*FS, error) {
	t, err := v.tree(id)
	if err != nil {
		return nil, fmt.Errorf("open subvolume %d: %w", id, err)
	}
	return &FS{filesystem.New(driver{v, t.index<<numberBits | firstObject}), id, v}, nil
}

// Subvolume opens another subvolume by its path from the top level, as the mount
// option subvol= names it, or fs.ErrNotExist.
func (f *FS) Subvolume(name string) (*FS, error) {
	id, err := f.v.subvolumeAt(name)
	if err != nil {
		return nil, fmt.Errorf("open subvolume %q: %w", name, err)
	}
	return f.v.open(id)
}

// SubvolumeID opens another subvolume by its number, as the mount option subvolid=
// does; 0 is the top level. An unknown one is fs.ErrNotExist.
func (f *FS) SubvolumeID(id uint64) (*FS, error) {
	if id == 0 {
		id = topLevel
	}
	return f.v.open(id)
}

func (v *volume) subvolumeAt(name string) (uint64, error) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		return topLevel, nil
	}
	top, err := v.open(topLevel)
	if err != nil {
		return 0, err
	}
	e, err := top.Entry(name)
	if err != nil {
		return 0, err
	}
	stat, err := e.Stat()
	if err != nil {
		return 0, err
	}
	t, object, err := v.split(stat.Ino)
	if err != nil {
		return 0, err
	}
	if object != firstObject || t.empty {
		return 0, fmt.Errorf("%w: it is a directory, no subvolume", fs.ErrNotExist)
	}
	return t.id, nil
}

// defaultSubvolume is the one that is mounted if none is named: the one that the
// tree of roots has a name for, or the top level.
func (v *volume) defaultSubvolume() (uint64, error) {
	p, err := v.get(v.roots, key{v.rootDir, dirItem, nameHash("default")})
	if err != nil || p == nil {
		return topLevel, err
	}
	id := uint64(topLevel)
	err = eachName(p, func(e name) error {
		if e.name == "default" && e.location.kind == rootItem {
			id = e.location.object
		}
		return nil
	})
	return id, err
}

// treeRoot finds the root of a tree; the last of its items counts.
func (v *volume) treeRoot(id uint64) (treeRoot, error) {
	var p []byte
	if err := v.each(v.roots, key{id, rootItem, 0}, func(_ uint64, data []byte) error { p = data; return nil }); err != nil {
		return treeRoot{}, err
	}
	le := binary.LittleEndian
	switch {
	case p == nil:
		return treeRoot{}, fs.ErrNotExist
	case len(p) < 239:
		return treeRoot{}, corrupt("a root of %d bytes", len(p))
	case le.Uint32(p[216:]) == 0: // it is being deleted
		return treeRoot{}, fs.ErrNotExist
	}
	return treeRoot{le.Uint64(p[176:]), p[238], le.Uint64(p[160:])}, nil
}

// tree finds a subvolume and gives it a place in the table.
func (v *volume) tree(id uint64) (*tree, error) {
	if id != topLevel && (id < firstObject || id > lastObject) {
		return nil, fmt.Errorf("%w: the tree %d is no subvolume", fs.ErrNotExist, id)
	}
	return v.enter(treeKey{id: id}, func() (*tree, error) {
		root, err := v.treeRoot(id)
		return &tree{v: v, id: id, root: root}, err
	})
}

// enter returns what is in the table, or enters what is made.
func (v *volume) enter(k treeKey, make func() (*tree, error)) (*tree, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t, ok := v.known[k]; ok {
		return t, nil
	}
	t, err := make()
	if err != nil {
		return nil, err
	}
	if len(v.trees) >= maxTrees {
		return nil, fmt.Errorf("more than %d subvolumes", maxTrees)
	}
	t.index = uint64(len(v.trees))
	v.trees = append(v.trees, t)
	v.known[k] = t
	return t, nil
}

// nested finds what a directory of t shows for the subvolume id: itself, or an
// empty directory where t was copied and the subvolume was not.
func (t *tree) nested(id uint64) (uint64, error) {
	ref, err := t.v.get(t.v.roots, key{t.id, rootRef, id})
	if err != nil {
		return 0, err
	}
	var child *tree
	if ref != nil {
		child, err = t.v.tree(id)
	} else {
		child, err = t.v.enter(treeKey{id, t.id}, func() (*tree, error) { return &tree{v: t.v, id: id, empty: true}, nil })
	}
	if err != nil {
		return 0, err
	}
	return child.number(firstObject)
}

// split finds the subvolume of an inode's number.
func (v *volume) split(number uint64) (*tree, uint64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := number >> numberBits
	if i >= uint64(len(v.trees)) {
		return nil, 0, corrupt("the inode number %d", number)
	}
	return v.trees[i], number & (1<<numberBits - 1), nil
}
