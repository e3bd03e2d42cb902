// Package btrfs reads btrfs file systems on one device out of an io.ReaderAt,
// without mounting anything: subvolumes and snapshots, files with their holes and
// compressed extents, links, owners, modes, times, extended attributes, device
// nodes, and the map of used bytes. It never writes, and takes nothing in the image
// on trust: every number is bounded before it is used, the checksums of
// metadata and data are verified, and what it does not know it refuses by name.
//
// The format is that of the btrfs developers' On-disk Format and of the Linux
// kernel's include/uapi/linux/btrfs_tree.h. A log that was not replayed (an unclean
// shutdown) is refused.
package btrfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"herdbook/internal/filesystem"
)

var (
	// ErrNotBtrfs is wrapped by the error of Open for what is no btrfs file system.
	ErrNotBtrfs = errors.New("not a btrfs file system")
	// ErrDirty is wrapped by the error of Open for one that was not unmounted and
	// has a log to be replayed.
	ErrDirty = fmt.Errorf("%w and has a log to be replayed: mount it once", filesystem.ErrDirty)
)

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", filesystem.ErrCorrupt, fmt.Sprintf(format, args...))
}

const (
	superOffset = 64 << 10
	superSize   = 4096
	magic       = "_BHRfS_M"
	maxNodeSize = 64 << 10

	incompatMetadataUUID = 0x400
	// mixed_backref, default_subvol, mixed_groups, compress_lzo, compress_zstd,
	// big_metadata, extended_iref, skinny_metadata, no_holes, metadata_uuid,
	// simple_quota; and raid56 and raid1c34, whose chunks are refused one by one.
	incompatSupported = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200 | incompatMetadataUUID | 0x800 | 0x10000
	flagsDump         = 3 << 33 // made by btrfs-image: there is no data
)

// incompatNames are the names of what is refused.
var incompatNames = map[uint64]string{0x1000: "zoned", 0x2000: "extent_tree_v2", 0x4000: "raid_stripe_tree", 0x20000: "remap_tree"}

// FS is one subvolume of an open file system, with those that are nested in it
// as directories. It is safe for concurrent use if its reader is.
type FS struct {
	*filesystem.FS
	ID uint64 // of the subvolume
	v  *volume
}

// volume is the file system of which subvolumes are parts.
type volume struct {
	r io.ReaderAt

	sector, nodeSize int64 // bytes
	total            int64 // bytes of the device that it spans
	used             int64 // bytes, second copies not counted
	fsid             [16]byte
	nodeID           [16]byte // what its nodes repeat of it
	label            string
	generation       uint64
	sum              checksum
	device           uint64
	chunks           []chunk // by their logical address
	roots, sums      treeRoot
	rootDir          uint64 // in the tree of roots

	nodes    *filesystem.Cache[uint64, *node]
	inodes   *filesystem.Cache[uint64, *inode]
	unpacked *filesystem.Cache[packed, []byte]

	mu    sync.Mutex
	trees []*tree // by the upper bits of inode numbers
	known map[treeKey]*tree
}

// Open reads the superblock and the chunk tree of the file system in the first
// size bytes of r, and opens its default subvolume.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	super := make([]byte, superSize)
	if n, err := r.ReadAt(super, superOffset); n < len(super) {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: it ends before its superblock does", ErrNotBtrfs)
		}
		return nil, fmt.Errorf("read superblock: %w", err)
	}
	if string(super[0x40:][:len(magic)]) != magic {
		return nil, ErrNotBtrfs
	}
	v := &volume{r: r, known: map[treeKey]*tree{}}
	if err := v.readSuper(super, size); err != nil {
		return nil, fmt.Errorf("read superblock: %w", err)
	}
	if err := v.readChunks(super); err != nil {
		return nil, fmt.Errorf("read chunk tree: %w", err)
	}
	var err error
	if v.sums, err = v.treeRoot(sumTree); err != nil {
		return nil, fmt.Errorf("find checksum tree: %w", err)
	}
	id, err := v.defaultSubvolume()
	if err != nil {
		return nil, fmt.Errorf("find default subvolume: %w", err)
	}
	return v.open(id)
}

func (v *volume) readSuper(s []byte, size int64) error {
	le := binary.LittleEndian
	var err error
	if v.sum, err = checksumOf(le.Uint16(s[0xC4:])); err != nil {
		return err
	}
	if got := v.sum(s[32:]); !bytes.Equal(got, s[:len(got)]) {
		return corrupt("its checksum is %x, want %x", got, s[:len(got)])
	}
	incompat := le.Uint64(s[0xBC:])
	if err := filesystem.UnknownFeatures(filesystem.FeatureNames("incompat", incompat&^incompatSupported, incompatNames)); err != nil {
		return err
	}
	if n := le.Uint64(s[0x88:]); n != 1 {
		return fmt.Errorf("the file system spans %d devices: only one on a single device can be read", n)
	}
	if le.Uint64(s[0x38:])&flagsDump != 0 {
		return errors.New("it is a dump of metadata, without data")
	}
	if le.Uint64(s[0x60:]) != 0 {
		return ErrDirty
	}
	copy(v.fsid[:], s[0x20:])
	v.nodeID = v.fsid
	if incompat&incompatMetadataUUID != 0 {
		copy(v.nodeID[:], s[0x23B:])
	}
	label, _, _ := bytes.Cut(s[0x12B:0x22B], []byte{0})
	v.label = string(label)
	v.generation, v.rootDir = le.Uint64(s[0x48:]), le.Uint64(s[0x80:])
	v.roots = treeRoot{le.Uint64(s[0x50:]), s[0xC6], v.generation}
	v.device = le.Uint64(s[0xC9:])
	return v.readGeometry(s, size)
}

func (v *volume) readGeometry(s []byte, size int64) error {
	le := binary.LittleEndian
	sector, nodeSize, total, used := le.Uint32(s[0x90:]), le.Uint32(s[0x94:]), le.Uint64(s[0xD1:]), le.Uint64(s[0x78:])
	switch {
	case sector < 4096 || sector > maxNodeSize || sector&(sector-1) != 0:
		return corrupt("sectors of %d bytes", sector)
	case nodeSize < sector || nodeSize > maxNodeSize || nodeSize&(nodeSize-1) != 0:
		return corrupt("nodes of %d bytes", nodeSize)
	case total > 1<<62:
		return corrupt("a device of %d bytes", total)
	case int64(total) > size:
		return corrupt("it spans %d bytes, but the image has only %d: it was cut short", total, size)
	}
	v.sector, v.nodeSize, v.total, v.used = int64(sector), int64(nodeSize), int64(total), int64(min(used, total))
	v.nodes = filesystem.NewCache[uint64, *node](int(8 << 20 / nodeSize))
	v.inodes = filesystem.NewCache[uint64, *inode](4096)
	v.unpacked = filesystem.NewCache[packed, []byte](16)
	return nil
}

// uuid is the file system's as blkid writes it.
func (v *volume) uuid() string {
	u := v.fsid
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// readAt reads bytes of the device.
func (v *volume) readAt(p []byte, at int64) error {
	n, err := v.r.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
