package disk

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
)

const (
	vmdkRedundant = 1 << 1 // a second directory with tables of its own
	vmdkZeroed    = 1 << 2 // an entry of 1 is a grain of zeros
	vmdkPacked    = 1 << 16
	vmdkMarkers   = 1 << 17

	vmdkDeflate  = 1
	vmdkMaxGrain = 4096 // sectors
	vmdkMarker   = 12   // bytes before a packed grain: its sector on the disk, its length
)

// vmdk reads a sparse extent, monolithicSparse or streamOptimized, as VMware's
// Virtual Disk Format 5.0 describes it: a directory of tables of grains.
type vmdk struct {
	blocks
	vmdkHeader
	directories []uint64 // in bytes; the second is the redundant one
}

func newVMDK(r io.ReaderAt, fileSize int64) (*blocks, error) {
	h, err := foreignVMDK(r, fileSize)
	if err != nil {
		return nil, err
	}
	v := &vmdk{blocks: newBlocks(r, fileSize), vmdkHeader: h}
	switch {
	case h.grain < 1 || h.grain > vmdkMaxGrain || h.grain&(h.grain-1) != 0:
		return nil, corrupt("grains of %d sectors: want a power of two, at most %d", h.grain, vmdkMaxGrain)
	case h.perTable < 1 || h.perTable > 512:
		return nil, corrupt("grain tables of %d entries: want 1 to 512", h.perTable)
	case h.flags&vmdkPacked != 0 && h.compression != vmdkDeflate:
		return nil, refuse("compression %d is none that herdbook reads: 1 (deflate)", h.compression)
	case h.flags&vmdkPacked != 0 && h.flags&vmdkMarkers == 0:
		return nil, refuse("its compressed grains have no markers")
	}
	v.block, v.blocks.size = int64(h.grain)*sector, h.size
	v.find, v.unpack = v.place, v.chunk
	perTable := int64(h.perTable) * v.block
	length := (h.size + perTable - 1) / perTable * 4
	v.addDirectory(h.directory, length)
	if h.flags&vmdkRedundant != 0 {
		v.addDirectory(h.redundant, length)
	}
	if len(v.directories) == 0 {
		return nil, corrupt("its grain directory of %d bytes at sector %d lies outside a file of %d bytes: is it cut short?", length, h.directory, fileSize)
	}
	return &v.blocks, nil
}

// addDirectory takes a directory that lies in the file.
func (v *vmdk) addDirectory(at uint64, length int64) {
	if at > 0 && at <= uint64(v.fileSize/sector) && int64(at)*sector <= v.fileSize-length {
		v.directories = append(v.directories, at*sector)
	}
}

// place finds a grain in the tables of the first directory, or where one of them
// lies outside the file, in those of the redundant one.
func (v *vmdk) place(index int64) (place, error) {
	per := int64(v.perTable)
	for i, directory := range v.directories {
		table, err := v.word(int64(directory) + index/per*4)
		if err != nil {
			return place{}, err
		}
		if table == 0 {
			return place{}, nil
		}
		at := int64(table) * sector
		if at > v.fileSize-per*4 && i+1 < len(v.directories) {
			continue
		}
		grain, err := v.word(at + index%per*4)
		if err != nil {
			return place{}, err
		}
		return v.grainAt(index, grain)
	}
	return place{}, nil
}

func (v *vmdk) grainAt(index, entry int64) (place, error) {
	switch {
	case entry == 0:
		return place{}, nil
	case entry == 1 && v.flags&vmdkZeroed != 0:
		return place{kind: blockZero}, nil
	case entry*sector >= v.fileSize:
		return place{}, corrupt("a grain at sector %d in a file of %d bytes: is it cut short?", entry, v.fileSize)
	case v.flags&vmdkPacked != 0:
		return place{kind: blockPacked, at: entry * sector, entry: uint64(index)}, nil
	}
	return place{kind: blockData, at: entry * sector}, nil
}

// word reads an entry of a directory or a table.
func (v *vmdk) word(at int64) (int64, error) {
	p, err := v.entry(at, 4)
	if err != nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint32(p)), nil
}

// chunk returns an unpacked grain. The last one of a disk may be short.
func (v *vmdk) chunk(p place) ([]byte, error) {
	marker := make([]byte, vmdkMarker)
	if err := readFull(v.file, marker, p.at); err != nil {
		return nil, corrupt("a grain at byte %d: is it cut short?", p.at)
	}
	length := int64(binary.LittleEndian.Uint32(marker[8:]))
	if length == 0 || length > 2*v.block || length > v.fileSize-p.at-vmdkMarker {
		return nil, corrupt("a packed grain of %d bytes at %d in a file of %d", length, p.at, v.fileSize)
	}
	var chunk bytes.Buffer
	z, err := zlib.NewReader(io.NewSectionReader(v.file, p.at+vmdkMarker, length))
	if err == nil {
		_, err = io.Copy(&chunk, io.LimitReader(z, v.block+1))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: packed grain at %d: %w", ErrCorrupt, p.at, err)
	}
	need := min(v.block, v.blocks.size-int64(p.entry)*v.block)
	if have := int64(chunk.Len()); have < need || have > v.block {
		return nil, corrupt("a packed grain at %d has %d bytes, want %d", p.at, have, v.block)
	}
	return chunk.Bytes(), nil
}
