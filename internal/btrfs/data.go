package btrfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// readData reads bytes of an extent; summed says that they have checksums. The
// sectors in which they lie are read whole, and from the second copy if the first
// is bad.
func (v *volume) readData(p []byte, logical uint64, summed bool) error {
	before := int64(logical % uint64(v.sector))
	length := (before + int64(len(p)) + v.sector - 1) / v.sector * v.sector
	whole := p
	if length != int64(len(p)) {
		whole = make([]byte, length)
	}
	start := logical - uint64(before)
	c, err := v.chunkAt(start, length)
	if err != nil {
		return err
	}
	var sums []byte
	if summed {
		if sums, err = v.dataSums(start, length/v.sector); err != nil {
			return err
		}
	}
	for _, at := range c.copies {
		if err = v.readAt(whole, at+int64(start)-c.logical); err != nil {
			continue
		}
		if err = v.verify(whole, sums, start); err == nil {
			if length != int64(len(p)) {
				copy(p, whole[before:])
			}
			return nil
		}
	}
	return err
}

// verify compares sectors with their checksums, if there are any.
func (v *volume) verify(p, sums []byte, logical uint64) error {
	for len(sums) > 0 {
		got := v.sum(p[:v.sector])
		if want := sums[:len(got)]; !bytes.Equal(got, want) {
			return corrupt("the checksum of the data at %d is %x, want %x", logical, got, want)
		}
		p, sums, logical = p[v.sector:], sums[len(got):], logical+uint64(v.sector)
	}
	return nil
}

// dataSums finds the checksums of sectors. An item has those of many.
func (v *volume) dataSums(logical uint64, sectors int64) ([]byte, error) {
	size := int64(len(v.sum(nil)))
	sums := make([]byte, 0, sectors*size)
	from, err := v.floor(v.sums, key{sumObject, extentSum, logical})
	if err != nil {
		return nil, fmt.Errorf("read checksum tree: %w", err)
	}
	err = v.scan(v.sums, from, func(k key, p []byte) (bool, error) {
		at := logical + uint64(int64(len(sums))/size*v.sector) // of the sector that is looked for
		if k.object != sumObject || k.kind != extentSum || k.offset > at {
			return k.compare(key{sumObject, extentSum, at}) < 0, nil
		}
		if skip := (at - k.offset) / uint64(v.sector); skip < uint64(len(p))/uint64(size) {
			p = p[int64(skip)*size:]
			sums = append(sums, p[:min(int64(len(p))/size*size, int64(cap(sums)-len(sums)))]...)
		}
		return len(sums) < int(sectors*size), nil
	})
	if err != nil {
		return nil, fmt.Errorf("read checksum tree: %w", err)
	}
	if have := int64(len(sums)); have < sectors*size {
		return nil, corrupt("there is no checksum of the data at %d", logical+uint64(have/size*v.sector))
	}
	return sums[:sectors*size], nil
}

// floor finds the last key of a tree that is not behind one; that itself if there
// is none.
func (v *volume) floor(at treeRoot, want key) (key, error) {
	for {
		n, err := v.node(at)
		if err != nil {
			return key{}, err
		}
		i := n.search(want)
		if i == n.count || n.key(i) != want {
			i--
		}
		switch {
		case i < 0:
			return want, nil
		case n.level == 0:
			return n.key(i), nil
		}
		at = n.child(i)
	}
}

// noSums tells of an inode whether its data have no checksums.
func noSums(p []byte) bool { return binary.LittleEndian.Uint64(p[64:])&1 != 0 }
