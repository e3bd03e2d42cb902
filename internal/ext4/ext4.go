// Package ext4 reads ext2, ext3 and ext4 file systems out of an io.ReaderAt,
// without mounting anything: files with their holes, links, owners, modes,
// times, extended attributes, device nodes, and the map of used blocks. It
// never writes, never starts a process, and takes nothing in the image on
// trust: every number is bounded before it is used, checksums are verified where the
// file system has them, and what it does not know it refuses by name.
//
// The format is that of the Linux kernel's Documentation/filesystems/ext4. A
// journal that was not written back (an unclean shutdown) is replayed in
// memory, so that the reader sees what a mount would show.
package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"herdbook/internal/filesystem"
)

// ErrNotExt is wrapped by the error of Open for what is no ext2, ext3 or ext4
// file system at all.
var ErrNotExt = errors.New("not an ext2, ext3 or ext4 file system")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", filesystem.ErrCorrupt, fmt.Sprintf(format, args...))
}

// Feature bits that change what this reader must do.
const (
	compatHasJournal  = 0x4
	compatSparse2     = 0x200
	incompatFiletype  = 0x2
	incompatRecover   = 0x4
	incompatJournal   = 0x8
	incompatMetaBG    = 0x10
	incompatExtents   = 0x40
	incompat64bit     = 0x80
	incompatMMP       = 0x100
	incompatFlexBG    = 0x200
	incompatEAInode   = 0x400
	incompatDirdata   = 0x1000
	incompatCsumSeed  = 0x2000
	incompatLargedir  = 0x4000
	incompatInline    = 0x8000
	incompatEncrypt   = 0x10000
	incompatCasefold  = 0x20000
	roSparse          = 0x1
	roGDTCsum         = 0x10
	roBigalloc        = 0x200
	roMetadataCsum    = 0x400
	incompatSupported = incompatFiletype | incompatRecover | incompatMetaBG | incompatExtents | incompat64bit |
		incompatMMP | incompatFlexBG | incompatEAInode | incompatCsumSeed | incompatLargedir | incompatInline |
		incompatEncrypt | incompatCasefold
)

// incompatNames are the names that mke2fs gives to what is refused.
var incompatNames = map[uint64]string{0x1: "compression", incompatJournal: "journal_dev", incompatDirdata: "dirdata"}

const (
	superOffset = 1024
	superSize   = 1024
	magic       = 0xEF53
	rootInode   = 2
	maxGroups   = 1 << 22 // 512 TiB with 128 MiB groups
)

// FS is an open file system. It is safe for concurrent use if its reader is.
type FS struct {
	*filesystem.FS
	r    io.ReaderAt
	size int64 // bytes that r has

	block         int64  // bytes
	blocks        uint64 // of the file system
	inodes        uint32
	perGroup      uint32 // blocks
	clusterRatio  uint32 // blocks in a cluster
	inodesPerGrp  uint32
	inodeSize     int64
	firstData     uint32
	descSize      int
	groups        uint32
	firstMeta     uint32
	incompat      uint32
	compat        uint32
	roCompat      uint32
	seed          uint32 // of the metadata checksums
	uuid          [16]byte
	label         string
	journalInode  uint32
	reservedGDT   uint16
	backupGroups  [2]uint32
	descriptors   []byte            // all group descriptors
	replayed      map[uint64][]byte // blocks that the journal overrides
	inodeCache    *filesystem.Cache[uint32, *inode]
	metadataCache *filesystem.Cache[uint64, []byte]
	dirCache      *filesystem.Cache[uint32, map[string]uint32] // read only once they are in it
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc continues the raw CRC-32C that the kernel uses: no inversion at the ends.
func crc(sum uint32, p []byte) uint32 { return ^crc32.Update(^sum, castagnoli, p) }

// Open reads the superblock, the group descriptors and, after an unclean
// shutdown, the journal of the file system in the first size bytes of r.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	super := make([]byte, superSize)
	if err := filesystem.ReadFull(r, super, superOffset); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: it ends before its superblock", ErrNotExt)
		}
		return nil, fmt.Errorf("read superblock: %w", err)
	}
	if binary.LittleEndian.Uint16(super[0x38:]) != magic {
		return nil, ErrNotExt
	}
	f := &FS{r: r, size: size}
	f.forget()
	if err := f.readSuper(super); err != nil {
		return nil, fmt.Errorf("read superblock: %w", err)
	}
	if f.incompat&incompatRecover != 0 {
		// The journal may hold newer group descriptors, and the journal's inode
		// is found with the old ones.
		if err := f.readDescriptors(); err != nil {
			return nil, fmt.Errorf("read group descriptors: %w", err)
		}
		if err := f.replay(); err != nil {
			return nil, fmt.Errorf("replay journal: %w", err)
		}
		f.forget()
	}
	if err := f.readDescriptors(); err != nil {
		return nil, fmt.Errorf("read group descriptors: %w", err)
	}
	f.FS = filesystem.New(driver{f})
	return f, nil
}

// forget empties the caches.
func (f *FS) forget() {
	f.inodeCache = filesystem.NewCache[uint32, *inode](4096)
	f.metadataCache = filesystem.NewCache[uint64, []byte](1024)
	f.dirCache = filesystem.NewCache[uint32, map[string]uint32](32)
}

func (f *FS) readSuper(s []byte) error {
	le := binary.LittleEndian
	f.compat, f.incompat, f.roCompat = le.Uint32(s[0x5C:]), le.Uint32(s[0x60:]), le.Uint32(s[0x64:])
	if le.Uint32(s[0x4C:]) == 0 { // revision 0 knows no features
		f.compat, f.incompat, f.roCompat = 0, 0, 0
	}
	if err := f.checkFeatures(); err != nil {
		return err
	}
	copy(f.uuid[:], s[0x68:])
	f.label, _, _ = strings.Cut(string(s[0x78:0x88]), "\x00")
	if f.roCompat&roMetadataCsum != 0 {
		if want, got := le.Uint32(s[0x3FC:]), crc(^uint32(0), s[:0x3FC]); want != got {
			return corrupt("superblock checksum is %08x, want %08x", got, want)
		}
	}
	f.seed = crc(^uint32(0), f.uuid[:])
	if f.incompat&incompatCsumSeed != 0 {
		f.seed = le.Uint32(s[0x270:])
	}
	return f.readGeometry(s)
}

func (f *FS) checkFeatures() error {
	return filesystem.UnknownFeatures(filesystem.FeatureNames("incompat", uint64(f.incompat&^incompatSupported), incompatNames))
}

func (f *FS) readGeometry(s []byte) error {
	le := binary.LittleEndian
	shift, clusterShift := le.Uint32(s[0x18:]), le.Uint32(s[0x1C:])
	if shift > 6 {
		return corrupt("block size 1024 << %d", shift)
	}
	f.block = 1024 << shift
	f.clusterRatio = 1
	if f.roCompat&roBigalloc != 0 {
		if clusterShift < shift || clusterShift > 20 {
			return corrupt("cluster size 1024 << %d", clusterShift)
		}
		f.clusterRatio = 1 << (clusterShift - shift)
	}
	f.inodes, f.blocks = le.Uint32(s[0x00:]), uint64(le.Uint32(s[0x04:]))
	if f.incompat&incompat64bit != 0 {
		f.blocks |= uint64(le.Uint32(s[0x150:])) << 32
	}
	f.firstData, f.perGroup, f.inodesPerGrp = le.Uint32(s[0x14:]), le.Uint32(s[0x20:]), le.Uint32(s[0x28:])
	f.inodeSize = 128
	if le.Uint32(s[0x4C:]) > 0 {
		f.inodeSize = int64(le.Uint16(s[0x58:]))
	}
	f.descSize = 32
	if f.incompat&incompat64bit != 0 {
		f.descSize = int(le.Uint16(s[0xFE:]))
	}
	f.firstMeta, f.journalInode, f.reservedGDT = le.Uint32(s[0x104:]), le.Uint32(s[0xE0:]), le.Uint16(s[0xCE:])
	f.backupGroups = [2]uint32{le.Uint32(s[0x24C:]), le.Uint32(s[0x250:])}
	return f.checkGeometry()
}

func (f *FS) checkGeometry() error {
	bits := uint64(f.block) * 8
	switch {
	case f.inodeSize < 128 || f.inodeSize > f.block || f.inodeSize&(f.inodeSize-1) != 0:
		return corrupt("inode size %d", f.inodeSize)
	case f.descSize < 32 || f.descSize > 1024 || f.descSize&(f.descSize-1) != 0:
		return corrupt("group descriptor size %d", f.descSize)
	case f.perGroup == 0 || uint64(f.perGroup) > bits*uint64(f.clusterRatio):
		return corrupt("%d blocks in a group", f.perGroup)
	case f.inodesPerGrp == 0 || uint64(f.inodesPerGrp) > bits:
		return corrupt("%d inodes in a group", f.inodesPerGrp)
	case f.blocks <= uint64(f.firstData):
		return corrupt("%d blocks", f.blocks)
	case f.firstData > 1 || f.firstData == 1 && f.block != 1024:
		return corrupt("first data block is %d", f.firstData)
	}
	groups := (f.blocks - uint64(f.firstData) + uint64(f.perGroup) - 1) / uint64(f.perGroup)
	if groups > maxGroups {
		return corrupt("%d block groups", groups)
	}
	f.groups = uint32(groups)
	if uint64(f.inodes) > groups*uint64(f.inodesPerGrp) {
		return corrupt("%d inodes in %d groups of %d", f.inodes, groups, f.inodesPerGrp)
	}
	if need := int64(f.blocks-1) * f.block; f.size < need || need < 0 {
		return corrupt("%d blocks of %d bytes, but the image has only %d bytes: it was cut short", f.blocks, f.block, f.size)
	}
	return nil
}

func (f *FS) uuidText() string {
	u := f.uuid
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// readBlocks fills p, a whole number of blocks, from block number on, with what
// the journal says where it says something.
func (f *FS) readBlocks(p []byte, number uint64) error {
	count := uint64(len(p)) / uint64(f.block)
	if number >= f.blocks || count > f.blocks-number {
		return corrupt("block %d is beyond the last of %d", number, f.blocks)
	}
	if err := filesystem.ReadFull(f.r, p, int64(number)*f.block); err != nil {
		return fmt.Errorf("read block %d: %w", number, err)
	}
	if len(f.replayed) > 0 {
		for i := range count {
			if over, ok := f.replayed[number+i]; ok {
				copy(p[i*uint64(f.block):], over)
			}
		}
	}
	return nil
}

// metadata returns a block that is likely to be asked for again. The caller
// must not change it.
func (f *FS) metadata(number uint64) ([]byte, error) {
	if p, ok := f.metadataCache.Get(number); ok {
		return p, nil
	}
	p := make([]byte, f.block)
	if err := f.readBlocks(p, number); err != nil {
		return nil, err
	}
	f.metadataCache.Put(number, p)
	return p, nil
}
