package xfs

import (
	"encoding/binary"
	"fmt"
	"sort"

	"herdbook/internal/filesystem"
)

const (
	maxExtents = 1 << 24 // of one fork, bounds memory to some hundred MiB
	extentSize = 16      // bytes
)

// extent is a run of a fork's blocks. What no extent covers is a hole.
type extent struct {
	logical  uint64 // first block in the fork
	physical uint64 // first block on the disk
	count    uint64
}

func (e extent) end() uint64 { return e.logical + e.count }

// extents lists where the blocks of a fork lie, in order. Runs that were
// allocated but never written read as zeros and are left out, as holes are.
func (f *FS) extents(n *inode, k *fork) ([]extent, error) {
	list, err := f.readExtents(n, k)
	if err != nil {
		return nil, fmt.Errorf("map inode %d: %w", n.Ino, err)
	}
	return list, nil
}

func (f *FS) readExtents(n *inode, k *fork) ([]extent, error) {
	x := extentList{f: f}
	switch k.format {
	case formatExtents:
		if k.extents > uint64(len(k.data)/extentSize) {
			return nil, corrupt("%d extents in %d bytes", k.extents, len(k.data))
		}
		x.list = make([]extent, 0, k.extents)
		for i := range int(k.extents) {
			if err := x.add(k.data[extentSize*i:][:extentSize]); err != nil {
				return nil, err
			}
		}
	case formatBtree:
		be := binary.BigEndian
		if len(k.data) < 4 {
			return nil, corrupt("no room for the root of a tree")
		}
		level, count := int(be.Uint16(k.data)), int(be.Uint16(k.data[2:]))
		if level == 0 {
			return nil, corrupt("a tree without a level")
		}
		w := treeWalk{
			f: f, tree: mapTree,
			owner: be.AppendUint64(nil, n.Ino),
			place: func(pointer uint64) (uint64, error) { return f.linear(pointer, 1) },
			fn:    x.add,
		}
		if err := w.node(k.data[4:], count, level); err != nil {
			return nil, err
		}
	default:
		return nil, corrupt("a fork of format %d", k.format)
	}
	return x.list, nil
}

// extentList takes the records of a fork in their order.
type extentList struct {
	f    *FS
	list []extent
	next uint64 // the first block that the next record may cover
}

// add takes one record of 128 bits: whether it was never written (1), first block in the
// fork (54), first block on the disk (52), number of blocks (21).
func (x *extentList) add(record []byte) error {
	high, low := binary.BigEndian.Uint64(record), binary.BigEndian.Uint64(record[8:])
	e := extent{logical: high << 1 >> 10, count: low & (1<<21 - 1)}
	if e.count == 0 || e.logical < x.next {
		return corrupt("extents overlap at block %d", e.logical)
	}
	var err error
	if e.physical, err = x.f.linear(high&0x1ff<<43|low>>21, e.count); err != nil {
		return err
	}
	if len(x.list) >= maxExtents {
		return corrupt("more than %d extents", maxExtents)
	}
	x.next = e.end()
	if unwritten := high>>63 != 0; !unwritten {
		x.list = append(x.list, e)
	}
	return nil
}

// mapping is where a fork's bytes lie.
type mapping struct {
	f       *FS
	extents []extent
}

// find finds the extent that holds the byte off, and where it ends. If off lies
// in a hole, ok is false and the second result is where the hole ends.
func (m *mapping) find(off int64) (e extent, end int64, ok bool) {
	block := uint64(off) >> m.f.blockLog
	i := sort.Search(len(m.extents), func(i int) bool { return m.extents[i].end() > block })
	if i == len(m.extents) {
		return extent{}, 1<<63 - 1, false
	}
	e = m.extents[i]
	if e.logical > block {
		return extent{}, m.offset(e.logical), false
	}
	return e, m.offset(e.end()), true
}

// offset is where a block of the fork begins, in bytes, bounded by what a
// file can have.
func (m *mapping) offset(block uint64) int64 {
	return int64(min(block, (1<<63-1)>>m.f.blockLog)) << m.f.blockLog
}

// read fills p from byte off of the fork on, holes with zeros.
func (m *mapping) read(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		e, end, ok := m.find(off)
		part := p[done:][:min(int64(len(p)-done), end-off)]
		if !ok {
			clear(part)
		} else if err := filesystem.ReadFull(m.f.r, part, int64(e.physical)<<m.f.blockLog+off-m.offset(e.logical)); err != nil {
			return done, err
		}
		done, off = done+len(part), off+int64(len(part))
	}
	return done, nil
}

// at finds the block on the disk that holds a block of the fork.
func (m *mapping) at(block uint64) (uint64, error) {
	i := sort.Search(len(m.extents), func(i int) bool { return m.extents[i].end() > block })
	if i == len(m.extents) || m.extents[i].logical > block {
		return 0, corrupt("block %d is a hole", block)
	}
	return m.extents[i].physical + block - m.extents[i].logical, nil
}
