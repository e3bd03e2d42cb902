package disk

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

const (
	vhdxRegionsAt  = 192 << 10
	vhdxRegionsLen = 64 << 10
	vhdxTableLen   = 64 << 10 // the metadata table, at the beginning of its region

	vhdxMetadataRegion = "8B7CA206-4790-4B9A-B8FE-575F050F886E"
	vhdxFileParameters = "CAA16737-FA36-4D43-B3B6-33F0AA44E76B"
	vhdxVirtualSize    = "2FA54224-CD1B-4876-B211-5DBED83BF4B8"
	vhdxParentLocator  = "A8D35F2D-B30B-454D-ABF7-D3D84834AB0C"

	vhdxHasParent = 1 << 1
)

// foreignVHDX goes the way that [MS-VHDX] shows, from the region table to the
// metadata: the disk's size, and whether it has a parent.
func foreignVHDX(r io.ReaderAt) (int64, error) {
	at, err := vhdxMetadata(r)
	if err != nil {
		return 0, err
	}
	t := make([]byte, vhdxTableLen)
	if err := readFull(r, t, at); err != nil {
		return 0, corrupt("it is too short for its metadata")
	}
	le := binary.LittleEndian
	count := int(le.Uint16(t[10:]))
	if string(t[:8]) != "metadata" || 32+32*count > len(t) {
		return 0, corrupt("a metadata table of %d entries at byte %d", count, at)
	}
	var size int64
	seen := map[string]bool{}
	for i := range count {
		e := t[32+32*i:][:32]
		id, place, length := guid(e[:16]), int64(le.Uint32(e[16:])), le.Uint32(e[20:])
		if seen[id] {
			return 0, corrupt("two entries %s in its metadata", id)
		}
		seen[id] = true
		if id == vhdxParentLocator {
			return 0, refuse("it holds only the difference to another image; Convert-VHD makes one file of the two")
		}
		if id != vhdxFileParameters && id != vhdxVirtualSize {
			continue
		}
		value := make([]byte, 8)
		if place < vhdxTableLen || length != 8 || readFull(r, value, at+place) != nil {
			return 0, corrupt("entry %s of its metadata has %d bytes at %d", id, length, place)
		}
		if id == vhdxVirtualSize {
			size = int64(le.Uint64(value))
		} else if le.Uint32(value[4:])&vhdxHasParent != 0 {
			return 0, refuse("it holds only the difference to another image; Convert-VHD makes one file of the two")
		}
	}
	if !seen[vhdxFileParameters] || !seen[vhdxVirtualSize] {
		return 0, corrupt("its metadata has no size or no parameters")
	}
	return size, nil
}

// vhdxMetadata finds the region of the metadata in the first region table, the
// one that QEMU reads.
func vhdxMetadata(r io.ReaderAt) (int64, error) {
	t := make([]byte, vhdxRegionsLen)
	if err := readFull(r, t, vhdxRegionsAt); err != nil {
		return 0, corrupt("it is too short for a region table")
	}
	le := binary.LittleEndian
	sum, count := le.Uint32(t[4:]), int64(le.Uint32(t[8:]))
	le.PutUint32(t[4:], 0)
	if string(t[:4]) != "regi" || crc32.Checksum(t, crc32.MakeTable(crc32.Castagnoli)) != sum || 16+32*count > int64(len(t)) {
		return 0, corrupt("its region table is damaged")
	}
	at := int64(-1)
	for i := range count {
		e := t[16+32*i:][:32]
		if guid(e[:16]) != vhdxMetadataRegion {
			continue
		}
		if at >= 0 {
			return 0, corrupt("two regions of metadata")
		}
		at = int64(le.Uint64(e[16:]))
	}
	if at < vhdxRegionsAt || at > MaxImport {
		return 0, corrupt("no region of metadata")
	}
	return at, nil
}
