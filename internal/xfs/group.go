package xfs

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"herdbook/internal/filesystem"
)

const (
	groupSize = 64 // bytes of a group's free space header that version 4 has
	groupCRC  = 216
)

// UsedRanges calls fn for every run of bytes that the file system has in use,
// in order and without overlap: data, metadata, log. What lies between was freed or
// never used.
func (f *FS) UsedRanges(fn func(start, length int64) error) error {
	if unknown := f.roCompat &^ roCompatKnown; unknown != 0 {
		return fmt.Errorf("this reader does not know what feature ro_compat 0x%x has in use", unknown)
	}
	next := uint64(0) // the first block that has not been told of
	used := func(end uint64) error {
		if end == next {
			return nil
		}
		return fn(int64(next)*f.block, int64(end-next)*f.block)
	}
	for ag := range f.agCount {
		err := f.freeRuns(ag, func(start, count uint64) error {
			if err := used(start); err != nil {
				return err
			}
			next = start + count
			return nil
		})
		if err != nil {
			return fmt.Errorf("read free space of allocation group %d: %w", ag, err)
		}
	}
	return used(f.blocks)
}

// freeRuns calls fn for the free runs of a group, in order, by blocks on the disk.
func (f *FS) freeRuns(ag uint64, fn func(start, count uint64) error) error {
	header, err := f.groupHeader(ag)
	if err != nil {
		return err
	}
	be := binary.BigEndian
	root, levels := uint64(be.Uint32(header[16:])), int(be.Uint32(header[28:]))
	if levels < 1 || levels > maxLevel {
		return corrupt("a free space tree of %d levels", levels)
	}
	first, size, next := ag*f.agBlocks, f.agSize(ag), uint64(0)
	w := treeWalk{
		f: f, tree: freeTree,
		owner: be.AppendUint32(nil, uint32(ag)),
		place: func(pointer uint64) (uint64, error) {
			if pointer >= size {
				return 0, corrupt("block %d of a group of %d", pointer, size)
			}
			return first + pointer, nil
		},
		fn: func(record []byte) error {
			start, count := uint64(be.Uint32(record)), uint64(be.Uint32(record[4:]))
			if start < next || count == 0 || start+count > size {
				return corrupt("%d free blocks at %d in a group of %d", count, start, size)
			}
			next = start + count
			return fn(first+start, count)
		},
	}
	return w.block(root, levels-1, true)
}

// groupHeader reads the sector in which a group says where its free space is.
func (f *FS) groupHeader(ag uint64) ([]byte, error) {
	p := make([]byte, f.sector)
	if err := filesystem.ReadFull(f.r, p, int64(ag*f.agBlocks)*f.block+f.sector); err != nil {
		return nil, err
	}
	be := binary.BigEndian
	if string(p[:4]) != "XAGF" || be.Uint32(p[4:]) != 1 {
		return nil, corrupt("it has no header")
	}
	if f.version == 5 {
		if err := verify(p, groupCRC); err != nil {
			return nil, err
		}
		if !bytes.Equal(p[groupSize:][:16], f.metaUUID[:]) {
			return nil, corrupt("its header belongs to another file system")
		}
	}
	if uint64(be.Uint32(p[8:])) != ag || uint64(be.Uint32(p[12:])) != f.agSize(ag) {
		return nil, corrupt("its header is of group %d with %d blocks", be.Uint32(p[8:]), be.Uint32(p[12:]))
	}
	return p, nil
}
