package btrfs

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"sort"
)

// Kinds of items, and the numbers of trees and objects with a meaning.
const (
	inodeItem    = 1
	xattrItem    = 24
	dirItem      = 84
	dirIndex     = 96
	extentData   = 108
	extentSum    = 128
	rootItem     = 132
	rootRef      = 156
	extentItem   = 168
	metadataItem = 169
	chunkItem    = 228

	extentTree  = 2
	sumTree     = 7
	topLevel    = 5   // the subvolume in which all others are
	firstObject = 256 // the root directory of a subvolume
	lastObject  = 1<<64 - 256
	sumObject   = 1<<64 - 10
	chunkObject = 256
)

const (
	keySize     = 17
	headerSize  = 101
	itemSize    = 25
	pointerSize = 33
	maxLevel    = 7
)

// key is by what items are sorted.
type key struct {
	object uint64
	kind   uint8
	offset uint64
}

func parseKey(p []byte) key {
	le := binary.LittleEndian
	return key{le.Uint64(p), p[8], le.Uint64(p[9:])}
}

func (k key) compare(other key) int {
	return cmp.Or(cmp.Compare(k.object, other.object), cmp.Compare(k.kind, other.kind), cmp.Compare(k.offset, other.offset))
}

// treeRoot points to a node and says what it must be.
type treeRoot struct {
	at         uint64 // logical
	level      uint8
	generation uint64
}

// node is a verified node of a tree. It is immutable and shared.
type node struct {
	raw        []byte
	level      uint8
	count      int
	generation uint64
}

func (n *node) entrySize() int {
	if n.level > 0 {
		return pointerSize
	}
	return itemSize
}

func (n *node) entry(i int) []byte { return n.raw[headerSize+i*n.entrySize():][:n.entrySize()] }

func (n *node) key(i int) key { return parseKey(n.entry(i)) }

func (n *node) child(i int) treeRoot {
	p, le := n.entry(i), binary.LittleEndian
	return treeRoot{le.Uint64(p[keySize:]), n.level - 1, le.Uint64(p[keySize+8:])}
}

// search finds the first entry that is not before a key.
func (n *node) search(k key) int {
	return sort.Search(n.count, func(i int) bool { return n.key(i).compare(k) >= 0 })
}

// data is where an item of a leaf is.
func (n *node) data(i int) (offset, size uint32) {
	p, le := n.entry(i), binary.LittleEndian
	return le.Uint32(p[keySize:]), le.Uint32(p[keySize+4:])
}

func (n *node) item(i int) []byte {
	offset, size := n.data(i)
	return n.raw[headerSize+offset:][:size]
}

// node reads and verifies a node, from its second copy if the first is bad.
func (v *volume) node(want treeRoot) (*node, error) {
	n, ok := v.nodes.Get(want.at)
	if !ok {
		c, err := v.chunkAt(want.at, v.nodeSize)
		if err != nil {
			return nil, err
		}
		for _, at := range c.copies {
			if n, err = v.readNode(at+int64(want.at)-c.logical, want.at); err == nil {
				break
			}
		}
		if err != nil {
			return nil, fmt.Errorf("read node at %d: %w", want.at, err)
		}
		v.nodes.Put(want.at, n)
	}
	if n.level != want.level || n.generation != want.generation {
		return nil, corrupt("the node at %d is of level %d and generation %d, want %d and %d", want.at, n.level, n.generation, want.level, want.generation)
	}
	return n, nil
}

func (v *volume) readNode(at int64, logical uint64) (*node, error) {
	p := make([]byte, v.nodeSize)
	if err := v.readAt(p, at); err != nil {
		return nil, err
	}
	if got := v.sum(p[32:]); !bytes.Equal(got, p[:len(got)]) {
		return nil, corrupt("its checksum is %x, want %x", got, p[:len(got)])
	}
	le := binary.LittleEndian
	n := &node{raw: p, level: p[0x64], generation: le.Uint64(p[0x50:])}
	count := le.Uint32(p[0x60:])
	switch {
	case !bytes.Equal(p[0x20:0x30], v.nodeID[:]):
		return nil, corrupt("it belongs to another file system")
	case le.Uint64(p[0x30:]) != logical:
		return nil, corrupt("it is the node of %d", le.Uint64(p[0x30:]))
	case n.level > maxLevel:
		return nil, corrupt("it is of level %d", n.level)
	case int64(count) > (v.nodeSize-headerSize)/int64(n.entrySize()):
		return nil, corrupt("it has %d entries", count)
	case count == 0 && n.level > 0:
		return nil, corrupt("it has no entries")
	}
	n.count = int(count)
	return n, n.check()
}

// check makes sure that keys ascend and that items are inside.
func (n *node) check() error {
	items := headerSize + n.count*n.entrySize()
	for i := range n.count {
		if i > 0 && n.key(i-1).compare(n.key(i)) >= 0 {
			return corrupt("its keys %v and %v are out of order", n.key(i-1), n.key(i))
		}
		if n.level > 0 {
			continue
		}
		offset, size := n.data(i)
		if int64(headerSize)+int64(offset)+int64(size) > int64(len(n.raw)) || int64(headerSize)+int64(offset) < int64(items) {
			return corrupt("an item of %d bytes at %d", size, offset)
		}
	}
	return nil
}

// scan calls fn for the items of a tree from a key on, in order, until it returns
// false. What it gets is shared and must not be changed.
func (v *volume) scan(root treeRoot, from key, fn func(k key, data []byte) (bool, error)) error {
	s := scan{v: v, from: from, fn: fn}
	_, err := s.visit(root, nil)
	return err
}

// scan goes through a tree. That keys ascend from leaf to leaf makes sure of its
// end, too: no node can be met twice.
type scan struct {
	v    *volume
	from key
	fn   func(key, []byte) (bool, error)
	last *key
}

func (s *scan) visit(at treeRoot, first *key) (more bool, err error) {
	n, err := s.v.node(at)
	if err != nil {
		return false, err
	}
	if first != nil && (n.count == 0 || n.key(0) != *first) {
		return false, corrupt("the node at %d does not begin with the key %v", at.at, *first)
	}
	i := n.search(s.from)
	if n.level > 0 && i > 0 && (i == n.count || n.key(i) != s.from) {
		i-- // what is looked for may be below the one before
	}
	for ; i < n.count; i++ {
		k := n.key(i)
		if n.level > 0 {
			more, err = s.visit(n.child(i), &k)
		} else {
			if s.last != nil && s.last.compare(k) >= 0 {
				return false, corrupt("the key %v follows %v", k, *s.last)
			}
			s.last = &k
			more, err = s.fn(k, n.item(i))
		}
		if err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// get finds one item; nil if there is none.
func (v *volume) get(root treeRoot, want key) (data []byte, err error) {
	err = v.scan(root, want, func(k key, p []byte) (bool, error) {
		if k == want {
			data = p
		}
		return false, nil
	})
	return data, err
}

// each calls fn for the items of one object and one kind, from an offset on.
func (v *volume) each(root treeRoot, from key, fn func(offset uint64, data []byte) error) error {
	return v.scan(root, from, func(k key, p []byte) (bool, error) {
		if k.object != from.object || k.kind != from.kind {
			return false, nil
		}
		return true, fn(k.offset, p)
	})
}
