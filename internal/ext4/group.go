package ext4

import (
	"encoding/binary"
	"fmt"
)

const (
	groupInodeUninit = 0x1
	groupBlockUninit = 0x2
)

// group is one group descriptor.
type group struct {
	blockBitmap, inodeBitmap, inodeTable uint64
	flags                                uint16
}

// readDescriptors reads the table of group descriptors and verifies it.
func (f *FS) readDescriptors() error {
	perBlock := int(f.block) / f.descSize
	tableBlocks := (int(f.groups) + perBlock - 1) / perBlock
	if int64(tableBlocks)*f.block > f.size {
		return corrupt("%d blocks of group descriptors in %d bytes", tableBlocks, f.size)
	}
	table := make([]byte, 0, min(tableBlocks*int(f.block), 1<<20))
	block := make([]byte, f.block)
	for i := range tableBlocks {
		if err := f.readBlocks(block, f.descriptorBlock(uint32(i), uint32(perBlock))); err != nil {
			return err
		}
		table = append(table, block...)
	}
	f.descriptors = table
	for g := range f.groups {
		if err := f.verifyDescriptor(g); err != nil {
			return err
		}
	}
	return nil
}

// descriptorBlock tells where the i-th block of descriptors lies.
func (f *FS) descriptorBlock(i, perBlock uint32) uint64 {
	if f.incompat&incompatMetaBG == 0 || i < f.firstMeta {
		return f.superBlock() + 1 + uint64(i)
	}
	// With meta_bg it is in the first group of those that it describes, behind
	// that group's superblock copy if there is one.
	first := i * perBlock
	if first == 0 {
		return f.superBlock() + 1
	}
	number := uint64(f.firstData) + uint64(first)*uint64(f.perGroup)
	if f.hasSuper(first) {
		number++
	}
	return number
}

// superBlock is the block of the superblock, which lies 1 KiB from the start. It
// is not always the first of the first group: clusters begin at 0.
func (f *FS) superBlock() uint64 { return uint64(superOffset / f.block) }

// hasSuper tells whether a group holds a copy of the superblock.
func (f *FS) hasSuper(g uint32) bool {
	switch {
	case g == 0:
		return true
	case f.compat&compatSparse2 != 0:
		return g == f.backupGroups[0] || g == f.backupGroups[1]
	case f.roCompat&roSparse == 0 || g == 1:
		return true
	case g&1 == 0:
		return false
	}
	for _, base := range []uint32{3, 5, 7} {
		n := uint64(base)
		for n < uint64(g) {
			n *= uint64(base)
		}
		if n == uint64(g) {
			return true
		}
	}
	return false
}

func (f *FS) descriptor(g uint32) []byte {
	return f.descriptors[int(g)*f.descSize:][:f.descSize]
}

func (f *FS) verifyDescriptor(g uint32) error {
	d := f.descriptor(g)
	want := binary.LittleEndian.Uint16(d[0x1E:])
	var number [4]byte
	binary.LittleEndian.PutUint32(number[:], g)
	var got uint16
	switch {
	case f.roCompat&roMetadataCsum != 0:
		sum := crc(f.seed, number[:])
		sum = crc(sum, d[:0x1E])
		sum = crc(sum, []byte{0, 0})
		got = uint16(crc(sum, d[0x20:]))
	case f.roCompat&roGDTCsum != 0:
		sum := crc16(^uint16(0), f.uuid[:])
		sum = crc16(sum, number[:])
		sum = crc16(sum, d[:0x1E])
		got = crc16(sum, d[0x20:])
	default:
		return nil
	}
	if got != want {
		return corrupt("checksum of group descriptor %d is %04x, want %04x", g, got, want)
	}
	return nil
}

func (f *FS) group(g uint32) group {
	d, le := f.descriptor(g), binary.LittleEndian
	out := group{
		blockBitmap: uint64(le.Uint32(d[0x0:])),
		inodeBitmap: uint64(le.Uint32(d[0x4:])),
		inodeTable:  uint64(le.Uint32(d[0x8:])),
	}
	if f.roCompat&(roMetadataCsum|roGDTCsum) != 0 {
		out.flags = le.Uint16(d[0x12:])
	}
	if f.incompat&incompat64bit != 0 && f.descSize >= 64 {
		out.blockBitmap |= uint64(le.Uint32(d[0x20:])) << 32
		out.inodeBitmap |= uint64(le.Uint32(d[0x24:])) << 32
		out.inodeTable |= uint64(le.Uint32(d[0x28:])) << 32
	}
	return out
}

// usedBytes is what the groups do not count as free. The superblock's own count is
// behind theirs while the file system is mounted.
func (f *FS) usedBytes() int64 {
	free := uint64(0) // clusters
	for g := range f.groups {
		d, le := f.descriptor(g), binary.LittleEndian
		free += uint64(le.Uint16(d[0xC:]))
		if f.incompat&incompat64bit != 0 && f.descSize >= 64 {
			free += uint64(le.Uint16(d[0x2C:])) << 16
		}
	}
	return int64(f.blocks-min(f.blocks, free*uint64(f.clusterRatio))) * f.block
}

// crc16 is the CRC-16 (polynomial 0x8005, reflected) of uninit_bg.
func crc16(sum uint16, p []byte) uint16 {
	for _, b := range p {
		sum ^= uint16(b)
		for range 8 {
			if sum&1 != 0 {
				sum = sum>>1 ^ 0xA001
			} else {
				sum >>= 1
			}
		}
	}
	return sum
}

// UsedRanges calls fn for every run of bytes that the file system has in use,
// in order and without overlap: data, metadata, journal. What lies between was
// freed or never used.
func (f *FS) UsedRanges(fn func(start, length int64) error) error {
	run := struct{ start, end uint64 }{0, uint64(f.firstData)}
	flush := func() error {
		if run.end > run.start {
			return fn(int64(run.start)*f.block, int64(run.end-run.start)*f.block)
		}
		return nil
	}
	for g := range f.groups {
		used, err := f.usedClusters(g)
		if err != nil {
			return fmt.Errorf("read block bitmap of group %d: %w", g, err)
		}
		first := uint64(f.firstData) + uint64(g)*uint64(f.perGroup)
		count := min(uint64(f.perGroup), f.blocks-first)
		for i := uint64(0); i < count; i += uint64(f.clusterRatio) {
			if !used(i / uint64(f.clusterRatio)) {
				continue
			}
			start, end := first+i, first+min(i+uint64(f.clusterRatio), count)
			if start == run.end {
				run.end = end
				continue
			}
			if err := flush(); err != nil {
				return err
			}
			run.start, run.end = start, end
		}
	}
	return flush()
}

// usedClusters returns the test for a group's clusters. An uninitialised bitmap
// stands for one in which only the file system's own blocks are set; all
// metadata that could lie there is then taken as used.
func (f *FS) usedClusters(g uint32) (func(uint64) bool, error) {
	d := f.group(g)
	if d.flags&groupBlockUninit != 0 {
		return f.ownClusters(g), nil
	}
	bitmap, err := f.metadata(d.blockBitmap)
	if err != nil {
		return nil, err
	}
	return func(i uint64) bool { return bitmap[i/8]&(1<<(i%8)) != 0 }, nil
}

// ownClusters tells which clusters of a group with an uninitialised bitmap hold
// the file system's own blocks, of whatever group.
func (f *FS) ownClusters(g uint32) func(uint64) bool {
	first := uint64(f.firstData) + uint64(g)*uint64(f.perGroup)
	own := map[uint64]bool{}
	mark := func(block, count uint64) {
		for b := block; b < block+count; b++ {
			if b >= first && b < first+uint64(f.perGroup) {
				own[(b-first)/uint64(f.clusterRatio)] = true
			}
		}
	}
	perBlock := uint32(int(f.block) / f.descSize)
	tableBlocks := (f.groups + perBlock - 1) / perBlock
	if f.hasSuper(g) {
		mark(first, 1)
		if f.incompat&incompatMetaBG == 0 {
			mark(first+1, uint64(tableBlocks)+uint64(f.reservedGDT))
		} else {
			mark(first+1, uint64(min(f.firstMeta, tableBlocks))+uint64(f.reservedGDT))
		}
	}
	if f.incompat&incompatMetaBG != 0 {
		if in := g % perBlock; in <= 1 || in == perBlock-1 {
			behind := first
			if f.hasSuper(g) {
				behind++
			}
			mark(behind, 1)
		}
	}
	tables := (uint64(f.inodesPerGrp)*uint64(f.inodeSize) + uint64(f.block) - 1) / uint64(f.block)
	near := uint32(0)
	if f.incompat&incompatFlexBG == 0 {
		near = g
	}
	for other := near; other < f.groups && (near == 0 || other == g); other++ {
		d := f.group(other)
		mark(d.blockBitmap, 1)
		mark(d.inodeBitmap, 1)
		if d.inodeTable < first+uint64(f.perGroup) && d.inodeTable+tables > first {
			mark(d.inodeTable, tables)
		}
	}
	return func(i uint64) bool { return own[i] }
}
