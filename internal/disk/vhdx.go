package disk

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

const (
	vhdxMagic      = "vhdxfile"
	vhdxRegionsAt  = 192 << 10
	vhdxRegionsLen = 64 << 10
	vhdxTableLen   = 64 << 10 // the metadata table, at the beginning of its region

	vhdxBATRegion      = "2DC27766-F623-4200-9D64-115E9BFD4A08"
	vhdxMetadataRegion = "8B7CA206-4790-4B9A-B8FE-575F050F886E"
	vhdxFileParameters = "CAA16737-FA36-4D43-B3B6-33F0AA44E76B"
	vhdxVirtualSize    = "2FA54224-CD1B-4876-B211-5DBED83BF4B8"
	vhdxLogicalSector  = "8141BF1D-A96F-4709-BA47-F233A8FAAB5F"
	vhdxParentLocator  = "A8D35F2D-B30B-454D-ABF7-D3D84834AB0C"

	vhdxHasParent = 1 << 1
)

// vhdxLengths are those of the items of the metadata that are read.
var vhdxLengths = map[string]uint32{vhdxFileParameters: 8, vhdxVirtualSize: 8, vhdxLogicalSector: 4}

// vhdxHeader is what the region table and the metadata say.
type vhdxHeader struct {
	size          int64 // of the disk
	block         int64 // bytes of a block
	logical       int64 // bytes of a sector; 0 if it is not said
	bat, batBytes int64 // the block allocation table; 0 for none
}

// foreignVHDX goes the way that [MS-VHDX] shows, from the region table to the
// metadata: the disk's size, and whether it has a parent.
func foreignVHDX(r io.ReaderAt) (vhdxHeader, error) {
	var h vhdxHeader
	regions, err := vhdxRegions(r)
	if err != nil {
		return h, err
	}
	h.bat, h.batBytes = regions[vhdxBATRegion].Start, regions[vhdxBATRegion].Size
	at := regions[vhdxMetadataRegion].Start
	t := make([]byte, vhdxTableLen)
	if err := readFull(r, t, at); err != nil {
		return h, corrupt("it is too short for its metadata")
	}
	le := binary.LittleEndian
	count := int(le.Uint16(t[10:]))
	if string(t[:8]) != "metadata" || 32+32*count > len(t) {
		return h, corrupt("a metadata table of %d entries at byte %d", count, at)
	}
	seen := map[string]bool{}
	for i := range count {
		e := t[32+32*i:][:32]
		id, place, length := guid(e[:16]), int64(le.Uint32(e[16:])), le.Uint32(e[20:])
		if seen[id] {
			return h, corrupt("two entries %s in its metadata", id)
		}
		seen[id] = true
		if id == vhdxParentLocator {
			return h, refuse("it holds only the difference to another image; Convert-VHD makes one file of the two")
		}
		if vhdxLengths[id] == 0 {
			continue
		}
		value := make([]byte, 8)
		if place < vhdxTableLen || length != vhdxLengths[id] || readFull(r, value[:length], at+place) != nil {
			return h, corrupt("entry %s of its metadata has %d bytes at %d", id, length, place)
		}
		if err := h.take(id, value); err != nil {
			return h, err
		}
	}
	if !seen[vhdxFileParameters] || !seen[vhdxVirtualSize] {
		return h, corrupt("its metadata has no size or no parameters")
	}
	return h, nil
}

// take takes an item of the metadata.
func (h *vhdxHeader) take(id string, value []byte) error {
	le := binary.LittleEndian
	switch id {
	case vhdxVirtualSize:
		h.size = int64(le.Uint64(value))
	case vhdxLogicalSector:
		h.logical = int64(le.Uint32(value))
	case vhdxFileParameters:
		if le.Uint32(value[4:])&vhdxHasParent != 0 {
			return refuse("it holds only the difference to another image; Convert-VHD makes one file of the two")
		}
		h.block = int64(le.Uint32(value))
	}
	return nil
}

// vhdxRegions reads the first region table, the one that QEMU reads. There must be
// metadata.
func vhdxRegions(r io.ReaderAt) (map[string]Range, error) {
	t := make([]byte, vhdxRegionsLen)
	if err := readFull(r, t, vhdxRegionsAt); err != nil {
		return nil, corrupt("it is too short for a region table")
	}
	le := binary.LittleEndian
	count := int64(le.Uint32(t[8:]))
	if string(t[:4]) != "regi" || !vhdxSum(t) || 16+32*count > int64(len(t)) {
		return nil, corrupt("its region table is damaged")
	}
	regions := map[string]Range{}
	for i := range count {
		e := t[16+32*i:][:32]
		id, at := guid(e[:16]), int64(le.Uint64(e[16:]))
		if _, twice := regions[id]; twice {
			return nil, corrupt("two regions %s", id)
		}
		if at < vhdxRegionsAt || at > MaxImport {
			return nil, corrupt("region %s lies at byte %d", id, uint64(at))
		}
		regions[id] = Range{Start: at, Size: int64(le.Uint32(e[24:]))}
	}
	if _, ok := regions[vhdxMetadataRegion]; !ok {
		return nil, corrupt("no region of metadata")
	}
	return regions, nil
}

// vhdxSum tells whether a structure has the CRC-32C that stands in it, counted
// with zeros at its place.
func vhdxSum(p []byte) bool {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(crc32.Update(crc32.Checksum(p[:4], table), table, make([]byte, 4)), table, p[8:])
	return sum == binary.LittleEndian.Uint32(p[4:])
}
