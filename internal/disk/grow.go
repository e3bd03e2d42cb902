package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ErrNoRoom says that a partition has no free space directly behind it.
var ErrNoRoom = errors.New("no free space behind the partition")

// alignment is that of the new end of a partition, if the table has no smaller one.
const alignment = 1 << 20

// Write is bytes that belong at a place of a disk.
type Write struct {
	Offset int64
	Bytes  []byte
}

// Growth is how a partition grows.
type Growth struct {
	Before, After Partition
	Writes        []Write // to be made in this order, after the disk has its new size
}

// GrowPartition tells what to write to a disk of size bytes that has, or will have,
// newSize bytes so that a partition fills the free space directly behind it; number
// 0 is the partition that lies last. No partition is moved or renumbered, and all
// else that the table says stays as it is. A GPT's backup goes to the new end. A
// logical partition takes its extended one with it.
//
// The new end is a multiple of 1 MiB, or of less if the starts of the partitions
// are. Where there is nothing to gain the error wraps ErrNoRoom.
func GrowPartition(r io.ReaderAt, size, newSize int64, number int) (*Growth, error) {
	if newSize < size {
		return nil, fmt.Errorf("grow partition: the disk has %d bytes and would have %d", size, newSize)
	}
	table, err := ReadTable(r, size)
	if err != nil {
		return nil, fmt.Errorf("grow partition: %w", err)
	}
	before, err := table.toGrow(number)
	if err != nil {
		return nil, fmt.Errorf("grow partition: %w", err)
	}
	grow := growMBR
	if table.Kind == "gpt" {
		grow = growGPT
	}
	g, err := grow(r, size, newSize, before)
	if err != nil {
		return nil, fmt.Errorf("grow partition %d: %w", before.Number, err)
	}
	return g, nil
}

// toGrow is the partition of a number, or for 0 that which lies last. One that is
// extended is nothing but the place of its logical ones.
func (t *Table) toGrow(number int) (Partition, error) {
	var found Partition
	for _, p := range t.Partitions {
		if p.Number == number {
			return p, nil
		}
		if number == 0 && p.Start > found.Start {
			found = p
		}
	}
	switch {
	case number != 0:
		return found, fmt.Errorf("the disk has no partition %d", number)
	case found.Number == 0:
		return found, fmt.Errorf("the disk has no partition")
	}
	return found, nil
}

// newEnd is where a partition ends that grows as far as it can. What stands in its
// way is given by the others, what it must not reach by the limit.
func newEnd(p Partition, others []Partition, limit int64) (int64, error) {
	end, grain := p.Start+p.Size, int64(alignment)
	for _, one := range append([]Partition{p}, others...) {
		if one.Type != "" && !isExtended(one) { // those are what lies before a logical one
			grain = gcd(grain, one.Start)
		}
	}
	for _, other := range others {
		if other.Start < end && other.Start+other.Size > p.Start {
			return 0, corrupt("it overlaps with partition %d", other.Number)
		}
		if other.Start >= end {
			limit = min(limit, other.Start)
		}
	}
	limit -= limit % grain
	if limit <= end {
		return 0, fmt.Errorf("%w: it ends at byte %d, and may end at %d", ErrNoRoom, end, limit)
	}
	return limit, nil
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// growGPT goes by the first copy, which must be good. The second is made anew: it may
// be damaged, or lie where the disk once ended, but it must not say something else.
func growGPT(r io.ReaderAt, size, newSize int64, before Partition) (*Growth, error) {
	mbr := make([]byte, sector)
	if err := readFull(r, mbr, 0); err != nil {
		return nil, err
	}
	if err := growProtective(mbr, newSize/sector); err != nil {
		return nil, err
	}
	first, err := loadGPT(r, size, sector)
	if err != nil {
		return nil, fmt.Errorf("the first GPT is damaged; repair it with gdisk: %w", err)
	}
	last := newSize/sector - 1
	backup := last - first.sectors() // where its entries begin
	table, err := first.table(size)
	if err != nil {
		return nil, err
	}
	var others []Partition
	for _, p := range table.Partitions {
		if p.Start < first.end() || (p.Start+p.Size)/sector > backup {
			return nil, corrupt("partition %d from %d to %d lies where the table does, or its backup", p.Number, p.Start, p.Start+p.Size)
		}
		if p.Number != before.Number {
			others = append(others, p)
		}
	}
	stale, err := first.stale(r, size, table)
	if err != nil {
		return nil, err
	}
	end, err := newEnd(before, others, backup*sector)
	if err != nil {
		return nil, err
	}
	after := before
	after.Size = end - after.Start
	binary.LittleEndian.PutUint64(first.entries[int64(before.Number-1)*first.entry+40:], uint64(end/sector-1))
	writes := first.placed(uint64(last), uint64(backup))
	if stale.Size = min(stale.Size, backup*sector-stale.Start); stale.Size > 0 {
		writes = append(writes, Write{stale.Start, make([]byte, stale.Size)})
	}
	return &Growth{Before: before, After: after, Writes: append(writes, Write{0, mbr})}, nil
}

// sectors is what the entries take.
func (g *gpt) sectors() int64 { return int64(len(g.entries)+sector-1) / sector }

// end is the first byte behind the header and the entries of the first copy.
func (g *gpt) end() int64 {
	return (max(2, int64(binary.LittleEndian.Uint64(g.header[72:]))) + g.sectors()) * sector
}

// growProtective sets the size that the MBR before a GPT guards.
func growProtective(mbr []byte, sectors int64) error {
	le := binary.LittleEndian
	for i := range 4 {
		e := mbr[446+16*i:][:16]
		switch {
		case e[4] == 0xEE && le.Uint32(e[8:]) == 1:
			copy(e[5:8], "\xff\xff\xff")
			le.PutUint32(e[12:], uint32(min(sectors-1, 0xffffffff)))
		case e[4] != 0:
			return fmt.Errorf("the disk has an MBR with partitions beside its GPT (a hybrid one), which herdbook does not change")
		}
	}
	return nil
}

// stale is where the backup that the first copy names lies, if there is one and no
// partition is at its place.
func (g *gpt) stale(r io.ReaderAt, size int64, table *Table) (Range, error) {
	le := binary.LittleEndian
	at := le.Uint64(g.header[32:])
	if at <= 1 || at >= uint64(size/sector) {
		return Range{}, nil
	}
	backup, err := loadGPT(r, size, int64(at)*sector)
	if err != nil {
		return Range{}, nil // one that is damaged is made anew, and overwritten or not
	}
	if !bytes.Equal(backup.entries, g.entries) || !bytes.Equal(backup.header[56:72], g.header[56:72]) {
		return Range{}, corrupt("the two copies of the GPT differ; choose one with gdisk")
	}
	place := Range{Start: int64(le.Uint64(backup.header[72:])) * sector, Size: g.sectors() * sector}
	if place.Start < g.end() || place.Start+place.Size != int64(at)*sector {
		return Range{}, nil // it is not laid out as usual
	}
	place.Size += sector
	for _, p := range table.Partitions {
		if p.Start < place.Start+place.Size && p.Start+p.Size > place.Start {
			return Range{}, nil
		}
	}
	return place, nil
}

// placed writes a GPT whose backup has its header at sector last and its entries at
// table: the backup first, so that there is always one that is whole.
func (g *gpt) placed(last, table uint64) []Write {
	le := binary.LittleEndian
	first, backup := g.header, bytes.Clone(g.header)
	for _, h := range [][]byte{first, backup} {
		le.PutUint64(h[48:], table-1)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(g.entries))
	}
	le.PutUint64(first[32:], last)
	le.PutUint64(backup[24:], last)
	le.PutUint64(backup[32:], 1)
	le.PutUint64(backup[72:], table)
	sealGPT(first)
	sealGPT(backup)
	return []Write{
		{int64(table) * sector, g.entries}, {int64(last) * sector, backup},
		{int64(le.Uint64(first[72:])) * sector, g.entries}, {sector, first},
	}
}
