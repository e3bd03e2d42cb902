package disk

import (
	"encoding/binary"
	"fmt"
)

// free calls f for the ranges of the file whose clusters nothing refers to, by the
// counts of references, which must be right.
func (q *qcow2) free(f func(Range) error) error {
	table, length, order, err := q.counts()
	if err != nil {
		return err
	}
	perBlock := q.block * 8 >> order
	var from int64 // where the clusters begin that are free up to here
	used := func(start, end int64) error {
		if from == 0 && start > 0 {
			return corrupt("nothing refers to its header")
		}
		var err error
		if start > from {
			err = f(Range{from, start - from})
		}
		from = end
		return err
	}
	counts, be := make([]byte, q.block), binary.BigEndian
	for i := int64(0); i < length/8 && i*perBlock*q.block < q.fileSize; i++ {
		p, err := q.entry(table+8*i, 8)
		if err != nil {
			return err
		}
		at := int64(be.Uint64(p) &^ 511)
		if at == 0 {
			continue
		}
		if at < 0 || at > q.fileSize-q.block {
			return corrupt("a block of reference counts at %d in a file of %d bytes", uint64(at), q.fileSize)
		}
		if err := readFull(q.file, counts, at); err != nil {
			return fmt.Errorf("read reference counts: %w", err)
		}
		for j := range perBlock {
			start := (i*perBlock + j) * q.block
			if start >= q.fileSize {
				break
			}
			if !counted(counts, j, order) {
				continue
			}
			if err := used(start, start+q.block); err != nil {
				return err
			}
		}
	}
	return used(q.fileSize, q.fileSize)
}

// counts is where the table of the blocks of reference counts is, how many bytes it
// has, and how many bits a count: 2^order.
func (q *qcow2) counts() (table, length int64, order uint32, err error) {
	h := make([]byte, 104)
	if err := readFull(q.file, h[:72], 0); err != nil {
		return 0, 0, 0, err
	}
	be := binary.BigEndian
	order = 4
	if be.Uint32(h[4:]) > 2 {
		if err := readFull(q.file, h, 0); err != nil {
			return 0, 0, 0, err
		}
		order = be.Uint32(h[96:])
	}
	table, length = int64(be.Uint64(h[48:])), int64(be.Uint32(h[56:]))<<q.clusterBits
	if order > 6 || table <= 0 || table%q.block != 0 || length > q.fileSize || table > q.fileSize-length {
		return 0, 0, 0, corrupt("a table of reference counts of %d bytes at %d, with counts of 2^%d bits", length, table, order)
	}
	return table, length, order, nil
}

// counted tells whether the count of 2^order bits at an index is not zero.
func counted(counts []byte, index int64, order uint32) bool {
	if order < 3 { // several in a byte, the lowest bits first
		per := int64(8) >> order
		return counts[index/per]>>(index%per<<order)&(1<<(1<<order)-1) != 0
	}
	width := int64(1) << (order - 3)
	for _, b := range counts[index*width:][:width] {
		if b != 0 {
			return true
		}
	}
	return false
}
