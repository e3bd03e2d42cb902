package btrfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
)

// What an extent can be.
const (
	extentInline    = 0 // in the tree itself
	extentRegular   = 1
	extentAllocated = 2 // and never written: zeros
	inlineOffset    = 21
	regularSize     = 53
	maxPiece        = 1 << 20 // bytes that are read at once
)

// extent is a piece of a file.
type extent struct {
	start, length int64  // in the file
	offset        int64  // in what is stored, unpacked
	stored        packed // at 0: a hole
	inline        []byte // packed or not; nil if it is elsewhere
}

// end is the first byte behind it.
func (e *extent) end() int64 { return e.start + e.length }

// content is what a regular file or a symbolic link holds.
type content struct {
	v       *volume
	extents []extent // in order; between them are holes
	size    int64
	summed  bool
}

func (n *inode) content() (*content, error) {
	c := &content{v: n.t.v, size: n.Size, summed: n.summed}
	err := c.v.each(n.t.root, key{n.object, extentData, 0}, func(start uint64, p []byte) error {
		e, err := c.v.parseExtent(start, p)
		if err != nil {
			return err
		}
		if k := len(c.extents) - 1; k >= 0 && c.extents[k].end() > e.start {
			return corrupt("extents overlap at byte %d", e.start)
		}
		c.extents = append(c.extents, e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read extents of inode %d of subvolume %d: %w", n.object, n.t.id, err)
	}
	return c, nil
}

func (v *volume) parseExtent(start uint64, p []byte) (extent, error) {
	le := binary.LittleEndian
	if len(p) < inlineOffset || start > 1<<62 {
		return extent{}, corrupt("an extent of %d bytes at %d", len(p), start)
	}
	if p[17] != 0 || le.Uint16(p[18:]) != 0 {
		return extent{}, errors.New("it is encrypted")
	}
	e := extent{start: int64(start), stored: packed{how: p[16], ram: int64(min(le.Uint64(p[8:]), 1<<62))}}
	if e.stored.how != packNone && e.stored.ram > maxUnpacked {
		return extent{}, corrupt("%d bytes of compressed data", e.stored.ram)
	}
	if p[20] == extentInline {
		e.inline = p[inlineOffset:]
		e.length = e.stored.ram
		if e.stored.how == packNone {
			e.length = min(e.length, int64(len(e.inline)))
		}
		return e, nil
	}
	if len(p) < regularSize || p[20] > extentAllocated {
		return extent{}, corrupt("an extent of kind %d", p[20])
	}
	disk, diskLength, offset, length := le.Uint64(p[21:]), le.Uint64(p[29:]), le.Uint64(p[37:]), le.Uint64(p[45:])
	if length == 0 || length > 1<<62 || offset > 1<<62 || diskLength > 1<<62 {
		return extent{}, corrupt("an extent of %d bytes at %d", length, start)
	}
	e.length, e.offset = int64(length), int64(offset)
	if disk == 0 || p[20] == extentAllocated {
		e.stored.at = 0
		return e, nil
	}
	if sector := uint64(v.sector); disk%sector != 0 || diskLength%sector != 0 {
		return extent{}, corrupt("%d bytes at the logical address %d", diskLength, disk)
	}
	e.stored.at, e.stored.length = disk, int64(diskLength)
	room := e.stored.ram
	if e.stored.how == packNone {
		room = e.stored.length
	} else if e.stored.length > maxUnpacked {
		return extent{}, corrupt("%d bytes of compressed data", e.stored.length)
	}
	if e.offset+e.length > room {
		return extent{}, corrupt("%d bytes from %d on of an extent of %d", e.length, e.offset, room)
	}
	return e, nil
}

// hole tells whether it reads as zeros.
func (e *extent) hole() bool { return e.inline == nil && e.stored.at == 0 }

// ReadAt implements io.ReaderAt.
func (c *content) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= c.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), c.size-off))
	for done := 0; done < n; {
		count, err := c.piece(p[done:n], off+int64(done))
		if err != nil {
			return done, err
		}
		done += count
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// piece reads up to the end of one extent or hole.
func (c *content) piece(p []byte, at int64) (int, error) {
	i := sort.Search(len(c.extents), func(i int) bool { return c.extents[i].end() > at })
	if i == len(c.extents) || c.extents[i].start > at || c.extents[i].hole() {
		end := at + int64(len(p))
		switch {
		case i == len(c.extents):
		case c.extents[i].start > at:
			end = min(end, c.extents[i].start)
		default:
			end = min(end, c.extents[i].end())
		}
		clear(p[:end-at])
		return int(end - at), nil
	}
	e := &c.extents[i]
	p = p[:min(int64(len(p)), e.end()-at, maxPiece)]
	from := at - e.start + e.offset
	switch {
	case e.stored.how != packNone:
		whole, err := c.unpack(e)
		if err != nil {
			return 0, err
		}
		copy(p, whole[from:])
	case e.inline != nil:
		copy(p, e.inline[from:])
	default:
		if err := c.v.readData(p, e.stored.at+uint64(from), c.summed); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Data calls fn for every run of bytes of the file that is not a hole.
func (c *content) Data(fn func(start, length int64) error) error {
	start, end := int64(0), int64(0)
	for i := range c.extents {
		e := &c.extents[i]
		if e.hole() || e.length == 0 || e.start >= c.size {
			continue
		}
		if e.start != end {
			if end > start {
				if err := fn(start, end-start); err != nil {
					return err
				}
			}
			start = e.start
		}
		end = min(e.end(), c.size)
	}
	if end > start {
		return fn(start, end-start)
	}
	return nil
}
