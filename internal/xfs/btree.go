package xfs

import (
	"encoding/binary"
	"fmt"
)

// btree is the shape of one kind of B+tree on the disk. A node holds a count of
// keys, then, behind room for all of them, as many pointers; a leaf holds
// records. Nothing here is deeper than maxLevel.
type btree struct {
	magic   [2]string // of versions 4 and 5
	header  [2]int    // bytes, of versions 4 and 5
	seal    seal
	record  int // bytes
	pointer int // bytes; of a key always 8
}

const maxLevel = 16

var (
	freeTree = btree{[2]string{"ABTB", "AB3B"}, [2]int{16, 56}, seal{52, 16, 32, 48}, 8, 4}
	mapTree  = btree{[2]string{"BMAP", "BMA3"}, [2]int{24, 72}, seal{64, 24, 40, 56}, 16, 8}
)

// treeWalk visits the records of one tree in their order. That fn refuses
// records that go back is what bounds it: each leaf has one at least.
type treeWalk struct {
	f     *FS
	tree  btree
	owner []byte                               // as blocks of version 5 say it
	place func(pointer uint64) (uint64, error) // the block on the disk that a pointer means
	fn    func(record []byte) error
}

// block visits what hangs below a block that must be on a level.
func (w *treeWalk) block(pointer uint64, level int, root bool) error {
	number, err := w.place(pointer)
	if err != nil {
		return err
	}
	p, err := w.f.metadata(number)
	if err != nil {
		return err
	}
	be, v := binary.BigEndian, int(w.f.version-4)
	if string(p[:4]) != w.tree.magic[v] {
		return corrupt("block %d is no node of the tree", number)
	}
	if w.f.version == 5 {
		if err := w.f.check(p, w.tree.seal, number, w.owner); err != nil {
			return fmt.Errorf("block %d: %w", number, err)
		}
	}
	count, body := int(be.Uint16(p[6:])), p[w.tree.header[v]:]
	if int(be.Uint16(p[4:])) != level || count == 0 && !root {
		return corrupt("block %d is on another level of the tree, or empty", number)
	}
	if level > 0 {
		return w.node(body, count, level)
	}
	if count > len(body)/w.tree.record {
		return corrupt("%d records in block %d", count, number)
	}
	for i := range count {
		if err := w.fn(body[i*w.tree.record:][:w.tree.record]); err != nil {
			return err
		}
	}
	return nil
}

// node visits the children of a node, whose keys and pointers fill body.
func (w *treeWalk) node(body []byte, count, level int) error {
	room := len(body) / (8 + w.tree.pointer)
	if level > maxLevel || count > room {
		return corrupt("%d pointers in a node of level %d", count, level)
	}
	for i := range count {
		pointer := uint64(0)
		for _, b := range body[8*room+i*w.tree.pointer:][:w.tree.pointer] {
			pointer = pointer<<8 | uint64(b)
		}
		if err := w.block(pointer, level-1, false); err != nil {
			return err
		}
	}
	return nil
}
