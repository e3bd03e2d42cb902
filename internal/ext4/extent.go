package ext4

import (
	"encoding/binary"
	"fmt"
)

const (
	extentMagic = 0xF30A
	maxDepth    = 5
	maxExtents  = 1 << 24 // of one file, bounds memory to some hundred MiB
)

// extent is a run of a file's blocks. What no extent covers is a hole.
type extent struct {
	logical  uint64 // first block in the file
	physical uint64 // first block in the file system
	count    uint64
}

// extents lists where an inode's blocks lie, in the order of the file. Runs
// that were allocated but never written read as zeros and are left out, as
// holes are.
func (f *FS) extents(n *inode) ([]extent, error) {
	var (
		list []extent
		err  error
	)
	if n.flags&flagExtents != 0 {
		w := extentWalk{f: f, n: n}
		err = w.node(n.block[:], -1)
		list = w.list
	} else {
		w := blockWalk{f: f, n: n, end: (uint64(n.Size) + uint64(f.block) - 1) / uint64(f.block)}
		err = w.inode()
		list = w.list
	}
	if err != nil {
		return nil, fmt.Errorf("map inode %d: %w", n.Ino, err)
	}
	return list, nil
}

// extentWalk goes through the tree of an inode with extents.
type extentWalk struct {
	f     *FS
	n     *inode
	list  []extent
	next  uint64 // the first block that the next extent may cover
	nodes int
}

// node reads one node; depth is what it must have, -1 for the root.
func (w *extentWalk) node(p []byte, depth int) error {
	le := binary.LittleEndian
	entries, limit, level := int(le.Uint16(p[2:])), int(le.Uint16(p[4:])), int(le.Uint16(p[6:]))
	switch {
	case le.Uint16(p) != extentMagic:
		return corrupt("no extent header")
	case level > maxDepth || depth >= 0 && level != depth:
		return corrupt("extent tree of depth %d", level)
	case entries > limit || (entries+1)*12 > len(p):
		return corrupt("%d entries in an extent node", entries)
	}
	for i := range entries {
		entry := p[12+12*i:][:12]
		var err error
		if level == 0 {
			err = w.leaf(entry)
		} else {
			err = w.child(uint64(le.Uint32(entry[4:]))|uint64(le.Uint16(entry[8:]))<<32, level-1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *extentWalk) child(number uint64, depth int) error {
	// A file of n blocks needs no more nodes than blocks; a loop would.
	if w.nodes++; w.nodes > maxExtents/4 {
		return corrupt("too many extent nodes")
	}
	p, err := w.f.metadata(number)
	if err != nil {
		return err
	}
	if w.f.roCompat&roMetadataCsum != 0 {
		limit := int(binary.LittleEndian.Uint16(p[4:]))
		end := 12 + 12*limit
		if end+4 > len(p) {
			return corrupt("extent block %d has room for %d entries", number, limit)
		}
		if got, want := crc(w.n.csumSeed, p[:end]), binary.LittleEndian.Uint32(p[end:]); got != want {
			return corrupt("checksum of extent block %d is %08x, want %08x", number, got, want)
		}
	}
	return w.node(p, depth)
}

func (w *extentWalk) leaf(entry []byte) error {
	le := binary.LittleEndian
	e := extent{
		logical:  uint64(le.Uint32(entry)),
		physical: uint64(le.Uint32(entry[8:])) | uint64(le.Uint16(entry[6:]))<<32,
		count:    uint64(le.Uint16(entry[4:])),
	}
	unwritten := e.count > 32768
	if unwritten {
		e.count -= 32768
	}
	switch {
	case e.count == 0 || e.logical < w.next:
		return corrupt("extents overlap at block %d of the file", e.logical)
	case e.physical >= w.f.blocks || e.count > w.f.blocks-e.physical:
		return corrupt("extent at block %d of %d", e.physical, w.f.blocks)
	case len(w.list) >= maxExtents:
		return corrupt("more than %d extents", maxExtents)
	}
	w.next = e.logical + e.count
	if !unwritten {
		w.list = append(w.list, e)
	}
	return nil
}

// blockWalk goes through the block map of an inode of the ext2 kind: twelve
// direct blocks, then one, two and three levels of indirect ones.
type blockWalk struct {
	f    *FS
	n    *inode
	list []extent
	next uint64 // in the file
	end  uint64
}

func (w *blockWalk) inode() error {
	for i := range 12 {
		if err := w.direct(uint64(binary.LittleEndian.Uint32(w.n.block[4*i:]))); err != nil {
			return err
		}
	}
	for level := 1; level <= 3; level++ {
		if err := w.indirect(uint64(binary.LittleEndian.Uint32(w.n.block[4*(11+level):])), level); err != nil {
			return err
		}
	}
	return nil
}

func (w *blockWalk) direct(number uint64) error {
	if w.next >= w.end {
		return nil
	}
	at := w.next
	w.next++
	if number == 0 {
		return nil
	}
	if number >= w.f.blocks {
		return corrupt("block %d of %d", number, w.f.blocks)
	}
	if k := len(w.list) - 1; k >= 0 && w.list[k].logical+w.list[k].count == at && w.list[k].physical+w.list[k].count == number {
		w.list[k].count++
		return nil
	}
	if len(w.list) >= maxExtents {
		return corrupt("more than %d runs of blocks", maxExtents)
	}
	w.list = append(w.list, extent{at, number, 1})
	return nil
}

func (w *blockWalk) indirect(number uint64, level int) error {
	if w.next >= w.end {
		return nil
	}
	perBlock := uint64(w.f.block / 4)
	if number == 0 { // a hole as large as all that would hang below
		span := uint64(1)
		for range level {
			span *= perBlock
		}
		w.next += span
		return nil
	}
	p, err := w.f.metadata(number)
	if err != nil {
		return err
	}
	for i := range perBlock {
		child := uint64(binary.LittleEndian.Uint32(p[4*i:]))
		if level == 1 {
			err = w.direct(child)
		} else {
			err = w.indirect(child, level-1)
		}
		if err != nil || w.next >= w.end {
			return err
		}
	}
	return nil
}
