package disk

import (
	"encoding/binary"
	"fmt"
	"io"
)

// maxMBR is the number of sectors that an MBR can count.
const maxMBR = 0xffffffff

// growMBR grows a primary, an extended or a logical partition.
func growMBR(r io.ReaderAt, size, newSize int64, before Partition) (*Growth, error) {
	mbr := make([]byte, sector)
	if err := readFull(r, mbr, 0); err != nil {
		return nil, err
	}
	table, err := readMBR(r, size, mbr)
	if err != nil {
		return nil, err
	}
	var extended, nothing Partition
	var inside []logical
	for _, p := range table.Partitions {
		if p.Number > 4 || !isExtended(p) {
			continue
		}
		if extended != nothing {
			return nil, corrupt("it has two extended partitions")
		}
		extended = p
		if inside, err = readLogical(r, p, binary.LittleEndian.Uint32(mbr[440:])); err != nil {
			return nil, err
		}
	}
	end, err := newEnd(before, inTheWay(table, inside, before), newSize)
	if err != nil {
		return nil, err
	}
	if end/sector > maxMBR {
		return nil, fmt.Errorf("it would end at byte %d: an MBR reaches to 2 TiB; make the disk smaller, or convert the table to GPT with sgdisk -g", end)
	}
	after := before
	after.Size = end - after.Start
	g := &Growth{Before: before, After: after}
	if before.Number <= 4 {
		setMBREnd(mbr[446+16*(before.Number-1):], before.Start, end)
		g.Writes = []Write{{0, mbr}}
		return g, nil
	}
	// What is outside grows first, so that nothing ever ends outside of it.
	if end > extended.Start+extended.Size {
		setMBREnd(mbr[446+16*(extended.Number-1):], extended.Start, end)
		g.Writes = []Write{{0, mbr}}
	}
	writes, err := growLogical(r, inside, before.Number, end)
	g.Writes = append(g.Writes, writes...)
	return g, err
}

// inTheWay is what a partition must not grow into: for a logical one all but the
// extended one, for that all outside of it. Before a logical partition is its table.
func inTheWay(table *Table, inside []logical, grows Partition) []Partition {
	var others []Partition
	for _, p := range table.Partitions {
		if p.Number > 4 || p.Number == grows.Number || grows.Number > 4 && isExtended(p) {
			continue
		}
		others = append(others, p)
	}
	if isExtended(grows) && grows.Number <= 4 {
		return others
	}
	for _, l := range inside {
		others = append(others, Partition{Number: l.Number, Start: l.table, Size: sector})
		if l.Number != 0 && l.Number != grows.Number {
			others = append(others, l.Partition)
		}
	}
	return others
}

// growLogical changes a logical partition's own table, and the link to that in the
// table before it, which counts what both take.
func growLogical(r io.ReaderAt, inside []logical, number int, end int64) ([]Write, error) {
	var writes []Write
	for i, l := range inside {
		if l.Number != number {
			continue
		}
		if i > 0 {
			link := make([]byte, sector)
			if err := readFull(r, link, inside[i-1].table); err != nil {
				return nil, err
			}
			setMBREnd(link[462:], l.table, end)
			writes = append(writes, Write{inside[i-1].table, link})
		}
		own := make([]byte, sector)
		if err := readFull(r, own, l.table); err != nil {
			return nil, err
		}
		setMBREnd(own[446:], l.Start, end)
		return append(writes, Write{l.table, own}), nil
	}
	return nil, corrupt("its table is gone")
}

// setMBREnd sets the last cylinder, head and sector of an entry, counted as all do
// by now with 255 heads and 63 sectors, and the number of its sectors.
func setMBREnd(e []byte, start, end int64) {
	last := end/sector - 1
	cylinder, head, at := last/(255*63), last/63%255, last%63+1
	if cylinder > 1023 {
		cylinder, head, at = 1023, 254, 63
	}
	e[5], e[6], e[7] = byte(head), byte(at|cylinder>>8<<6), byte(cylinder)
	binary.LittleEndian.PutUint32(e[12:], uint32((end-start)/sector))
}
