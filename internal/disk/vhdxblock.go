package disk

import (
	"encoding/binary"
	"io"
)

const (
	vhdxHeadersAt = 64 << 10 // two headers, at 64 and 128 KiB
	vhdxHeaderLen = 4 << 10
	vhdxMaxLog    = 64 << 20 // bytes of a log that are searched
	vhdxLogSector = 4 << 10
	vhdxUnit      = 1 << 20 // what places of blocks are counted in

	vhdxNotPresent = 0
	vhdxUndefined  = 1
	vhdxZero       = 2
	vhdxUnmapped   = 3 // in the format's version 0.95; later it is 5
	vhdxUnmapped1  = 5
	vhdxPresent    = 6
)

// newVHDX reads a VHDX, dynamic or fixed, as [MS-VHDX] has it. An image with a log
// that was not replayed is refused: its tables are old.
func newVHDX(r io.ReaderAt, fileSize int64) (*blocks, error) {
	if err := checkVHDXHeaders(r, fileSize); err != nil {
		return nil, err
	}
	h, err := foreignVHDX(r)
	if err != nil {
		return nil, err
	}
	switch {
	case h.block < 1<<20 || h.block > 256<<20 || h.block&(h.block-1) != 0:
		return nil, corrupt("blocks of %d bytes: want a power of two from 1 to 256 MiB", h.block)
	case h.logical != 512 && h.logical != 4096:
		return nil, corrupt("sectors of %d bytes: want 512 or 4096", h.logical)
	case h.size < 0 || h.size > MaxImport || h.size%h.logical != 0:
		return nil, corrupt("a disk of %d bytes", uint64(h.size))
	}
	// An entry of the table that is a bitmap's follows on each chunk of blocks.
	chunk := 1 << 23 * h.logical / h.block
	entries := (h.size + h.block - 1) / h.block
	entries += max(0, entries-1) / chunk
	if h.bat == 0 || entries*8 > h.batBytes || h.bat%vhdxUnit != 0 || h.bat > fileSize-entries*8 {
		return nil, corrupt("a block allocation table of %d bytes at %d for %d entries: is it cut short?", h.batBytes, h.bat, entries)
	}
	b := newBlocks(r, fileSize)
	b.block, b.size = h.block, h.size
	b.find = func(index int64) (place, error) {
		p, err := b.entry(h.bat+8*(index+index/chunk), 8)
		if err != nil {
			return place{}, err
		}
		entry := binary.LittleEndian.Uint64(p)
		switch state := entry & 7; state {
		case vhdxNotPresent, vhdxUndefined, vhdxUnmapped, vhdxUnmapped1:
			return place{}, nil
		case vhdxZero:
			return place{kind: blockZero}, nil
		case vhdxPresent:
			at := int64(entry &^ (vhdxUnit - 1))
			if at < vhdxUnit || at > fileSize {
				return place{}, corrupt("block %d lies at byte %d of %d: is it cut short?", index, uint64(at), fileSize)
			}
			return place{kind: blockData, at: at}, nil
		default:
			return place{}, corrupt("block %d has state %d", index, state)
		}
	}
	return &b, nil
}

// checkVHDXHeaders takes the newer one of the two headers that are whole, and
// looks whether its log has something to replay.
func checkVHDXHeaders(r io.ReaderAt, fileSize int64) error {
	magic := make([]byte, 8)
	if readFull(r, magic, 0) != nil || string(magic) != vhdxMagic {
		return corrupt("it is no vhdx image")
	}
	le := binary.LittleEndian
	var current []byte
	for i := range int64(2) {
		h := make([]byte, vhdxHeaderLen)
		if readFull(r, h, vhdxHeadersAt*(1+i)) != nil || string(h[:4]) != "head" || !vhdxSum(h) || le.Uint16(h[66:]) != 1 {
			continue
		}
		if current == nil || le.Uint64(h[8:]) > le.Uint64(current[8:]) {
			current = h
		}
	}
	if current == nil {
		return corrupt("both of its headers are damaged")
	}
	log, length, at := guid(current[48:64]), int64(le.Uint32(current[68:])), int64(le.Uint64(current[72:]))
	if log == guid(make([]byte, 16)) || length == 0 {
		return nil
	}
	if length > vhdxMaxLog || at < vhdxUnit || at > fileSize-length {
		return corrupt("a log of %d bytes at %d in a file of %d", length, uint64(at), fileSize)
	}
	entry := make([]byte, 64)
	for off := int64(0); off < length; off += vhdxLogSector {
		if err := readFull(r, entry, at+off); err != nil {
			return err
		}
		if string(entry[:4]) == "loge" && guid(entry[32:48]) == log {
			return refuse("it was not closed and has a log to replay: run qemu-img check -r all")
		}
	}
	return nil
}
