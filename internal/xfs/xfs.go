// Package xfs reads XFS file systems out of an io.ReaderAt, without mounting
// anything: files with their holes, links, owners, modes, times, extended
// attributes, device nodes, and the map of used blocks. It never writes, never
// starts a process, and takes nothing in the image on trust: every number is
// bounded before it is used, checksums are verified where the file system has them
// (version 5), and what it does not know it refuses by name.
//
// The format is that of "XFS Algorithms & Data Structures" and of the Linux
// kernel's fs/xfs/libxfs. Numbers are big-endian, checksums little-endian. A log
// that was not written back (an unclean shutdown) is found and refused: it can
// be replayed by a mount only.
package xfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"herdbook/internal/filesystem"
)

// ErrNotXFS is wrapped by the error of Open for what is no XFS at all.
var ErrNotXFS = errors.New("not an XFS file system")

// ErrDirty is wrapped by the error of Open for a file system whose log holds
// changes that have not been written to their places.
var ErrDirty = fmt.Errorf("%w; mount it once, which replays its log, and unmount it", filesystem.ErrDirty)

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", filesystem.ErrCorrupt, fmt.Sprintf(format, args...))
}

// Feature bits: of the version number, of the second word of version 4, and of
// version 5.
const (
	versionDirV2    = 0x2000
	versionCI       = 0x4000
	versionMore     = 0x8000
	features2Ftype  = 0x200
	features2Known  = 0x1 | 0x2 | 0x8 | 0x80 | 0x100 | features2Ftype
	incompatFtype   = 0x1
	incompatSparse  = 0x2
	incompatMetaID  = 0x4
	incompatBigtime = 0x8
	incompatNrext64 = 0x20
	incompatExch    = 0x40
	incompatParent  = 0x80
	incompatKnown   = incompatFtype | incompatSparse | incompatMetaID | incompatBigtime | incompatNrext64 | incompatExch | incompatParent
	roCompatKnown   = 0x1 | 0x2 | 0x4 | 0x8 // finobt, rmapbt, reflink, inobtcount: none changes how files are read
)

// incompatNames are the names that mkfs.xfs gives to what is refused.
var incompatNames = map[uint64]string{0x10: "needsrepair", 0x100: "metadir", 0x200: "zoned", 0x400: "zone gaps"}

const (
	superSize  = 264 // of what is read here
	superMagic = "XFSB"
	minAGSize  = 64 // blocks
)

// FS is an open file system. It is safe for concurrent use if its reader is.
type FS struct {
	*filesystem.FS
	r io.ReaderAt

	version  uint16 // 4 or 5
	block    int64  // bytes
	blocks   uint64 // of the file system
	free     uint64 // of those, as counted when it was unmounted
	agBlocks uint64 // of an allocation group; the last may have fewer
	agCount  uint64
	sector   int64
	inode    int64 // bytes
	dirBlock int64 // bytes

	blockLog, inodesLog, agLog uint // log2 of a block, of the inodes in one, of a group rounded up

	root      uint64
	logStart  uint64 // block number as the format writes it
	logBlocks uint64
	log       logState

	ftype    bool // names carry the type of what they name
	roCompat uint32
	uuid     [16]byte
	metaUUID [16]byte // what metadata says
	label    string

	inodeCache    *filesystem.Cache[uint64, *inode]
	metadataCache *filesystem.Cache[uint64, []byte]
	dirCache      *filesystem.Cache[uint64, map[string]uint64] // read only once they are in it
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is the CRC-32C of p with the four bytes at offset taken as zeros.
func checksum(p []byte, offset int) uint32 {
	sum := crc32.Update(0, castagnoli, p[:offset])
	sum = crc32.Update(sum, castagnoli, []byte{0, 0, 0, 0})
	return crc32.Update(sum, castagnoli, p[offset+4:])
}

// verify compares p with the checksum in it.
func verify(p []byte, offset int) error {
	if got, want := checksum(p, offset), binary.LittleEndian.Uint32(p[offset:]); got != want {
		return corrupt("checksum is %08x, want %08x", got, want)
	}
	return nil
}

// Open reads the superblock of the file system in the first size bytes of r and
// makes sure that its log is clean. The error wraps ErrDirty if it is not.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	super := make([]byte, superSize)
	if err := filesystem.ReadFull(r, super, 0); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("%w: it ends before its superblock", ErrNotXFS)
		}
		return nil, fmt.Errorf("read superblock: %w", err)
	}
	if string(super[:4]) != superMagic {
		return nil, ErrNotXFS
	}
	f := &FS{r: r}
	if err := f.readSuper(super, size); err != nil {
		return nil, fmt.Errorf("read superblock: %w", err)
	}
	f.inodeCache = filesystem.NewCache[uint64, *inode](4096)
	f.metadataCache = filesystem.NewCache[uint64, []byte](int(4 << 20 / f.block))
	f.dirCache = filesystem.NewCache[uint64, map[string]uint64](32)
	if err := f.checkLog(); err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	f.FS = filesystem.New(driver{f})
	return f, nil
}

func (f *FS) readSuper(s []byte, size int64) error {
	be := binary.BigEndian
	version := be.Uint16(s[100:])
	f.version = version & 0xf
	if f.version != 4 && f.version != 5 {
		return fmt.Errorf("this reader knows versions 4 and 5 of XFS, and this is version %d", f.version)
	}
	f.sector = int64(be.Uint16(s[102:]))
	if f.sector < 512 || f.sector > 32768 || f.sector&(f.sector-1) != 0 {
		return corrupt("sector size %d", f.sector)
	}
	copy(f.uuid[:], s[32:])
	f.metaUUID = f.uuid
	f.label, _, _ = strings.Cut(string(s[108:120]), "\x00")
	if f.version == 5 {
		sector := make([]byte, f.sector)
		if err := filesystem.ReadFull(f.r, sector, 0); err != nil {
			return err
		}
		if err := verify(sector, 224); err != nil {
			return err
		}
		if be.Uint32(s[216:])&incompatMetaID != 0 {
			copy(f.metaUUID[:], s[248:])
		}
		f.roCompat = be.Uint32(s[212:])
	}
	if err := f.checkFeatures(s); err != nil {
		return err
	}
	return f.readGeometry(s, size)
}

func (f *FS) checkFeatures(s []byte) error {
	be := binary.BigEndian
	version, features2, incompat := be.Uint16(s[100:]), uint32(0), uint32(0)
	if version&versionMore != 0 {
		features2 = be.Uint32(s[200:])
	}
	if f.version == 5 {
		features2, incompat = 0, be.Uint32(s[216:])
	}
	f.ftype = features2&features2Ftype != 0 || incompat&incompatFtype != 0
	var names []string
	switch {
	case version&versionDirV2 == 0:
		names = append(names, "directories of version 1")
	case version&versionCI != 0:
		names = append(names, "version=ci")
	}
	names = append(names, filesystem.FeatureNames("features2", uint64(features2&^features2Known), nil)...)
	names = append(names, filesystem.FeatureNames("incompat", uint64(incompat&^incompatKnown), incompatNames)...)
	return filesystem.UnknownFeatures(names)
}

func (f *FS) readGeometry(s []byte, size int64) error {
	be := binary.BigEndian
	f.block, f.blocks = int64(be.Uint32(s[4:])), be.Uint64(s[8:])
	f.free = be.Uint64(s[144:])
	f.logStart, f.root, f.logBlocks = be.Uint64(s[48:]), be.Uint64(s[56:]), uint64(be.Uint32(s[96:]))
	f.agBlocks, f.agCount = uint64(be.Uint32(s[84:])), uint64(be.Uint32(s[88:]))
	f.inode = int64(be.Uint16(s[104:]))
	f.blockLog, f.inodesLog, f.agLog = uint(s[120]), uint(s[123]), uint(s[124])
	dirLog := uint(s[192])
	switch {
	case f.blockLog < 9 || f.blockLog > 16 || f.block != 1<<f.blockLog || f.block < f.sector:
		return corrupt("block size %d", f.block)
	case f.inode < 256 || f.inode > 2048 || f.inode > f.block || f.inode<<f.inodesLog != f.block || f.version == 5 && f.inode < 512:
		return corrupt("inode size %d", f.inode)
	case f.blockLog+dirLog > 16:
		return corrupt("directory block size %d << %d", f.block, dirLog)
	case f.agBlocks < minAGSize || f.agLog > 31 || f.agBlocks > 1<<f.agLog || f.agBlocks <= 1<<f.agLog>>1:
		return corrupt("%d blocks in an allocation group", f.agBlocks)
	case f.agCount == 0 || f.blocks > f.agCount*f.agBlocks || f.blocks <= (f.agCount-1)*f.agBlocks:
		return corrupt("%d blocks in %d allocation groups of %d", f.blocks, f.agCount, f.agBlocks)
	case f.blocks > 1<<62>>f.blockLog:
		return corrupt("%d blocks", f.blocks)
	case s[126] != 0:
		return corrupt("it was not made to the end")
	}
	f.dirBlock = f.block << dirLog
	if need := int64(f.blocks) * f.block; size < need {
		return corrupt("%d blocks of %d bytes, but the image has only %d bytes: it was cut short", f.blocks, f.block, size)
	}
	return nil
}

func (f *FS) uuidText() string {
	u := f.uuid
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// agSize is the number of blocks in an allocation group.
func (f *FS) agSize(ag uint64) uint64 { return min(f.agBlocks, f.blocks-ag*f.agBlocks) }

// linear translates a run of blocks from the format's numbers, whose upper bits are
// the allocation group, to the number of its first block on the disk.
func (f *FS) linear(number, count uint64) (uint64, error) {
	ag, block := number>>f.agLog, number&(1<<f.agLog-1)
	if ag >= f.agCount || block >= f.agSize(ag) || count > f.agSize(ag)-block {
		return 0, corrupt("%d blocks at %#x lie in no allocation group", count, number)
	}
	return ag*f.agBlocks + block, nil
}

// metadata returns a block, by its number on the disk, that is likely to be
// asked for again. The caller must not change it.
func (f *FS) metadata(number uint64) ([]byte, error) {
	if p, ok := f.metadataCache.Get(number); ok {
		return p, nil
	}
	p := make([]byte, f.block)
	if err := filesystem.ReadFull(f.r, p, int64(number)*f.block); err != nil {
		return nil, fmt.Errorf("read block %d: %w", number, err)
	}
	f.metadataCache.Put(number, p)
	return p, nil
}

// seal is where a block of version 5 says who it is: offsets of its checksum,
// of its own address, of the file system's UUID and of its owner.
type seal struct{ crc, address, uuid, owner int }

// check verifies a block of version 5 that begins at block number of the disk. The
// owner is an inode, or an allocation group in four bytes.
func (f *FS) check(p []byte, s seal, number uint64, owner []byte) error {
	if err := verify(p, s.crc); err != nil {
		return err
	}
	be := binary.BigEndian
	switch {
	case be.Uint64(p[s.address:]) != number<<(f.blockLog-9):
		return corrupt("it belongs at another place")
	case !bytes.Equal(p[s.uuid:][:16], f.metaUUID[:]):
		return corrupt("it belongs to another file system")
	case !bytes.Equal(p[s.owner:][:len(owner)], owner):
		return corrupt("it belongs to another inode or group")
	}
	return nil
}
