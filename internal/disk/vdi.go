package disk

import (
	"encoding/binary"
	"io"
	"strings"
)

const (
	vdiMagic     = "\x7f\x10\xda\xbe"
	vdiBlock     = 1 << 20    // the only size that VirtualBox writes by itself and QEMU reads
	vdiDiscarded = 0xfffffffe // from here on an entry is no block: this one reads as zeros
)

// vdiHeader is what the header of a VDI says; places are in bytes.
type vdiHeader struct {
	size          int64 // of the disk
	table, data   int64
	block, blocks uint32
	extra         uint32 // bytes before each block
	sector        uint32
}

// foreignVDI checks what the header of VirtualBox's VDI 1.1 says.
func foreignVDI(r io.ReaderAt) (vdiHeader, error) {
	h := make([]byte, 512)
	if err := readFull(r, h, 0); err != nil {
		return vdiHeader{}, corrupt("it is too short for a header")
	}
	le := binary.LittleEndian
	version, kind := le.Uint32(h[0x44:]), le.Uint32(h[0x4c:])
	none := strings.Repeat("\x00", 16)
	switch {
	case string(h[0x40:0x44]) != vdiMagic:
		return vdiHeader{}, corrupt("it is no vdi image")
	case version != 0x00010001:
		return vdiHeader{}, refuse("version %d.%d is none that herdbook reads: 1.1", version>>16, version&0xffff)
	case kind == 4 || string(h[0x1a8:0x1b8]) != none || string(h[0x1b8:0x1c8]) != none:
		return vdiHeader{}, refuse("it holds only the difference to another image; VBoxManage clonemedium makes one file of the two")
	case kind != 1 && kind != 2:
		return vdiHeader{}, refuse("image type %d is none that herdbook reads: 1 (dynamic), 2 (fixed)", kind)
	}
	return vdiHeader{
		size: int64(le.Uint64(h[0x170:])), table: int64(le.Uint32(h[0x154:])), data: int64(le.Uint32(h[0x158:])),
		block: le.Uint32(h[0x178:]), extra: le.Uint32(h[0x17c:]), blocks: le.Uint32(h[0x180:]), sector: le.Uint32(h[0x168:]),
	}, nil
}

// newVDI reads a VDI, dynamic or fixed: a table tells the place of each block
// among those that are there.
func newVDI(r io.ReaderAt, fileSize int64) (*blocks, error) {
	h, err := foreignVDI(r)
	if err != nil {
		return nil, err
	}
	switch {
	case h.block != vdiBlock || h.extra != 0 || h.sector != sector:
		return nil, refuse("blocks of %d bytes and %d before them, sectors of %d: herdbook reads 1 MiB, 0, 512", h.block, h.extra, h.sector)
	case h.size < 0 || h.size > int64(h.blocks)*vdiBlock:
		return nil, corrupt("a disk of %d bytes in %d blocks", uint64(h.size), h.blocks)
	case h.table%sector != 0 || h.table < sector || h.table > fileSize-4*int64(h.blocks):
		return nil, corrupt("a table of %d blocks at byte %d in a file of %d bytes: is it cut short?", h.blocks, h.table, fileSize)
	case h.data%sector != 0 || h.data < h.table+4*int64(h.blocks):
		return nil, corrupt("data at byte %d, inside of the table", h.data)
	}
	b := newBlocks(r, fileSize)
	b.block, b.size = vdiBlock, (h.size+sector-1)/sector*sector // as QEMU does
	b.find = func(index int64) (place, error) {
		p, err := b.entry(h.table+4*index, 4)
		if err != nil {
			return place{}, err
		}
		entry := binary.LittleEndian.Uint32(p)
		switch {
		case entry == vdiDiscarded:
			return place{kind: blockZero}, nil
		case entry > vdiDiscarded:
			return place{}, nil
		case entry >= h.blocks:
			return place{}, corrupt("block %d is the %dth of %d", index, int64(entry)+1, h.blocks)
		}
		return place{kind: blockData, at: h.data + int64(entry)*vdiBlock}, nil
	}
	return &b, nil
}
