package btrfs

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"herdbook/internal/filesystem"
)

const (
	inodeSize = 160 // bytes
	nameSize  = 30  // bytes before a name
	maxName   = 255
)

// inode is a parsed inode. It is immutable and shared.
type inode struct {
	t      *tree
	object uint64 // its number in the subvolume
	summed bool   // its data have checksums
	filesystem.Stat
}

func (v *volume) inode(number uint64) (*inode, error) {
	if n, ok := v.inodes.Get(number); ok {
		return n, nil
	}
	t, object, err := v.split(number)
	if err != nil {
		return nil, err
	}
	if t.empty {
		stat := filesystem.Stat{Ino: number, Nlink: 1, Mode: filesystem.ModeDir | 0o755}
		return &inode{t: t, object: object, Stat: stat}, nil
	}
	p, err := v.get(t.root, key{object, inodeItem, 0})
	if err == nil && len(p) < inodeSize {
		err = corrupt("it has %d bytes", len(p))
	}
	if err != nil {
		return nil, fmt.Errorf("read inode %d of subvolume %d: %w", object, t.id, err)
	}
	n := parseInode(p)
	n.t, n.object, n.Ino = t, object, number
	if n.Size < 0 {
		return nil, corrupt("inode %d of subvolume %d has %d bytes", object, t.id, uint64(n.Size))
	}
	v.inodes.Put(number, n)
	return n, nil
}

func parseInode(p []byte) *inode {
	le := binary.LittleEndian
	at := func(off int) time.Time {
		return time.Unix(int64(le.Uint64(p[off:])), int64(le.Uint32(p[off+8:]))).UTC()
	}
	n := &inode{summed: !noSums(p), Stat: filesystem.Stat{
		Size: int64(le.Uint64(p[16:])), Nlink: le.Uint32(p[40:]), UID: le.Uint32(p[44:]), GID: le.Uint32(p[48:]),
		Mode: uint16(le.Uint32(p[52:])), Atime: at(112), Ctime: at(124), Mtime: at(136), Crtime: at(148),
	}}
	if k := n.kind(); k == filesystem.ModeBlock || k == filesystem.ModeChar {
		device := le.Uint64(p[56:]) // as the kernel has it in memory
		n.Major, n.Minor = uint32(device>>20), uint32(device&(1<<20-1))
	}
	return n
}

func (n *inode) kind() uint16 { return n.Mode & filesystem.ModeType }

// name is one entry of a directory, or one extended attribute.
type name struct {
	location key
	name     string
	value    []byte
}

// eachName calls fn for the entries of an item: there are several where names have
// the same hash.
func eachName(p []byte, fn func(name) error) error {
	le := binary.LittleEndian
	for len(p) > 0 {
		if len(p) < nameSize {
			return corrupt("a piece of a name")
		}
		valueLen, nameLen := int(le.Uint16(p[25:])), int(le.Uint16(p[27:]))
		if nameLen == 0 || nameLen > maxName || nameSize+nameLen+valueLen > len(p) {
			return corrupt("a name of %d bytes with %d", nameLen, valueLen)
		}
		e := name{parseKey(p), string(p[nameSize:][:nameLen]), p[nameSize+nameLen:][:valueLen]}
		if err := fn(e); err != nil {
			return err
		}
		p = p[nameSize+nameLen+valueLen:]
	}
	return nil
}

// names lists a directory.
func (n *inode) names() (list []filesystem.Name, err error) {
	if n.t.empty {
		return nil, nil
	}
	err = n.t.v.each(n.t.root, key{n.object, dirIndex, 0}, func(_ uint64, p []byte) error {
		return eachName(p, func(e name) error {
			if e.name == "." || e.name == ".." || strings.ContainsAny(e.name, "/\x00") {
				return corrupt("the name %q in a directory", e.name)
			}
			number, err := n.t.target(e.location)
			list = append(list, filesystem.Name{Name: e.name, Inode: number})
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read directory inode %d of subvolume %d: %w", n.object, n.t.id, err)
	}
	return list, nil
}

// lookup finds one name in a directory.
func (n *inode) lookup(want string) (number uint64, err error) {
	if n.t.empty {
		return 0, fs.ErrNotExist
	}
	p, err := n.t.v.get(n.t.root, key{n.object, dirItem, nameHash(want)})
	found := false
	if err == nil {
		err = eachName(p, func(e name) (err error) {
			if e.name == want && !found {
				found = true
				number, err = n.t.target(e.location)
			}
			return err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("read directory inode %d of subvolume %d: %w", n.object, n.t.id, err)
	}
	if !found {
		return 0, fs.ErrNotExist
	}
	return number, nil
}

// target is the number of the inode to which a name leads.
func (t *tree) target(location key) (uint64, error) {
	switch location.kind {
	case inodeItem:
		return t.number(location.object)
	case rootItem:
		return t.nested(location.object)
	}
	return 0, corrupt("a name leads to an item of kind %d", location.kind)
}

// xattrs are kept by their full names and in the form in which the kernel shows
// them.
func (n *inode) xattrs() (map[string][]byte, error) {
	attrs := map[string][]byte{}
	if n.t.empty {
		return attrs, nil
	}
	err := n.t.v.each(n.t.root, key{n.object, xattrItem, 0}, func(_ uint64, p []byte) error {
		return eachName(p, func(e name) error {
			attrs[e.name] = append([]byte(nil), e.value...)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read extended attributes of inode %d of subvolume %d: %w", n.object, n.t.id, err)
	}
	return attrs, nil
}
