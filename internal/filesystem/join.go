package filesystem

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Mounted is a file system in its place.
type Mounted struct {
	Dir string // as fs.FS names it: "." for the root
	FS  *FS
}

// mountShift is where the place of a file system stands in the numbers of
// joined inodes. No format here has numbers that reach so far.
const (
	mountShift = 60
	maxMounts  = 1 << (64 - mountShift)
)

// Join makes one tree of file systems, the root first, so that links lead from
// one into another. A mount hides what lay below its place before. A place that
// is no directory is an error.
func Join(mounts []Mounted) (*FS, error) {
	if len(mounts) > maxMounts {
		return nil, fmt.Errorf("join file systems: %d of them are too many", len(mounts))
	}
	j := &joined{mounts: slices.Clone(mounts), over: map[uint64]uint64{}}
	tree := New(j)
	for i, m := range mounts[1:] {
		at, err := tree.resolve(strings.TrimPrefix(path.Clean("/"+m.Dir), "/"), true)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && !at.Stat().FileMode().IsDir() {
			err = errNotDir
		}
		if err != nil {
			return nil, fmt.Errorf("mount a file system on /%s: %w", m.Dir, err)
		}
		number, err := joinedNumber(i+1, m.FS.driver.Root())
		if err != nil {
			return nil, err
		}
		j.over[at.Stat().Ino] = number
	}
	return tree, nil
}

// joined reads several file systems as one.
type joined struct {
	mounts []Mounted
	over   map[uint64]uint64 // directory → the root that is mounted over it
}

func joinedNumber(mount int, number uint64) (uint64, error) {
	if number>>mountShift != 0 {
		return 0, fmt.Errorf("%w: inode %d", ErrCorrupt, number)
	}
	return uint64(mount)<<mountShift | number, nil
}

// About implements Driver: it is that of the root.
func (j *joined) About() About { return j.mounts[0].FS.About }

// Root implements Driver.
func (j *joined) Root() uint64 { return j.mounts[0].FS.driver.Root() }

// Inode implements Driver.
func (j *joined) Inode(number uint64) (Inode, error) {
	for seen := 0; seen < maxMounts; seen++ {
		over, ok := j.over[number]
		if !ok {
			break
		}
		number = over
	}
	mount := int(number >> mountShift)
	if mount >= len(j.mounts) {
		return nil, fmt.Errorf("%w: inode %d", ErrCorrupt, number)
	}
	n, err := j.mounts[mount].FS.driver.Inode(number & (1<<mountShift - 1))
	if err != nil {
		return nil, err
	}
	stat := *n.Stat()
	stat.Ino = number
	return &joinedInode{n, mount, stat}, nil
}

// joinedInode is an inode of one of them. What holds no names is as it was.
type joinedInode struct {
	Inode
	mount int
	stat  Stat
}

func (n *joinedInode) Stat() *Stat { return &n.stat }

func (n *joinedInode) Names() ([]Name, error) {
	names, err := n.Inode.Names()
	if err != nil {
		return nil, err
	}
	for i := range names {
		if names[i].Inode, err = joinedNumber(n.mount, names[i].Inode); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func (n *joinedInode) Lookup(name string) (uint64, error) {
	number, err := n.Inode.Lookup(name)
	if err != nil {
		return 0, err
	}
	return joinedNumber(n.mount, number)
}
