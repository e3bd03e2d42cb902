// Package fat reads FAT12, FAT16 and FAT32 file systems with the long names of
// VFAT out of an io.ReaderAt, without mounting anything. It never writes, and
// takes nothing in the image on trust: every number is bounded before it is used,
// and a chain of clusters that runs in a circle is an error.
//
// The format is that of Microsoft's specification (fatgen103). What FAT does not
// know is as the kernel's vfat shows it by default: everything is root's and has
// the mode 0755, without the write bits where the file is read-only; names of
// eight and three are of code page 437; upper and lower case are one in a lookup.
// Times are taken as UTC.
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"herdbook/internal/filesystem"
)

// ErrNotFAT is wrapped by the error of Open for what is no FAT file system at all.
var ErrNotFAT = errors.New("not a FAT file system")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", filesystem.ErrCorrupt, fmt.Sprintf(format, args...))
}

const (
	bootSize     = 512
	maxFAT12     = 4084 // clusters
	maxFAT16     = 65524
	maxFAT32     = 0x0FFFFFF5
	firstCluster = 2
	entrySize    = 32
	rootInode    = 1 // an entry can never lie there
)

// FS is an open file system. It is safe for concurrent use if its reader is.
type FS struct {
	*filesystem.FS
	r io.ReaderAt

	bits     int   // of an entry of the FAT: 12, 16 or 32
	cluster  int64 // bytes
	tables   []int64
	tableLen int64  // bytes
	rootAt   int64  // of the root directory of FAT12 and FAT16
	rootLen  int64  // bytes
	root     uint32 // cluster of the root directory of FAT32
	data     int64  // where the first cluster lies
	clusters uint32
	size     int64 // bytes of the file system
	used     int64 // bytes; 0 if they are not counted
	serial   uint32
	label    string

	mu     sync.Mutex
	owners map[uint32]uint64 // the directory to which a cluster was found to belong
}

// Open reads the boot sector and the label of the file system in the first size
// bytes of r.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	boot := make([]byte, bootSize)
	if n, err := r.ReadAt(boot, 0); n < len(boot) {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: it ends before its boot sector does", ErrNotFAT)
		}
		return nil, fmt.Errorf("read boot sector: %w", err)
	}
	if !plausible(boot) {
		return nil, ErrNotFAT
	}
	f := &FS{r: r, owners: map[uint32]uint64{}}
	if err := f.readGeometry(boot, size); err != nil {
		return nil, fmt.Errorf("read boot sector: %w", err)
	}
	if err := f.readLabel(boot); err != nil {
		return nil, fmt.Errorf("read volume label: %w", err)
	}
	if err := f.countUsed(boot); err != nil {
		return nil, fmt.Errorf("count clusters: %w", err)
	}
	f.FS = filesystem.New(driver{f})
	return f, nil
}

// countUsed counts the clusters of small file systems; FAT32 has a count beside.
func (f *FS) countUsed(boot []byte) error {
	if f.bits < 32 {
		return f.UsedRanges(func(_, length int64) error { f.used += length; return nil })
	}
	le := binary.LittleEndian
	info, at := make([]byte, bootSize), int64(le.Uint16(boot[48:]))*int64(le.Uint16(boot[11:]))
	if at == 0 || at >= f.tables[0] {
		return nil
	}
	if err := f.readAt(info, at); err != nil {
		return err
	}
	if free := le.Uint32(info[488:]); le.Uint32(info) == 0x41615252 && free <= f.clusters {
		f.used = f.data + int64(f.clusters-free)*f.cluster
	}
	return nil
}

// plausible tells a FAT from the other things that end in 55 AA, as the kernel
// does: NTFS, exFAT and boot loaders have no such numbers.
func plausible(boot []byte) bool {
	le := binary.LittleEndian
	sector, perCluster, media := le.Uint16(boot[11:]), boot[13], boot[21]
	return boot[510] == 0x55 && boot[511] == 0xAA &&
		sector >= 512 && sector <= 4096 && sector&(sector-1) == 0 &&
		perCluster != 0 && perCluster&(perCluster-1) == 0 &&
		le.Uint16(boot[14:]) != 0 && boot[16] != 0 && (media == 0xF0 || media >= 0xF8)
}

func (f *FS) readGeometry(boot []byte, size int64) error {
	le := binary.LittleEndian
	sector := int64(le.Uint16(boot[11:]))
	f.cluster = sector * int64(boot[13])
	total := int64(le.Uint16(boot[19:]))
	if total == 0 {
		total = int64(le.Uint32(boot[32:]))
	}
	f.bits, f.serial = 16, le.Uint32(boot[39:])
	sectors := int64(le.Uint16(boot[22:])) // of a FAT
	if sectors == 0 {
		f.bits, f.serial = 32, le.Uint32(boot[67:])
		sectors = int64(le.Uint32(boot[36:]))
		f.root = le.Uint32(boot[44:])
	}
	reserved, fats := int64(le.Uint16(boot[14:])), int64(boot[16])
	f.rootAt = (reserved + fats*sectors) * sector
	f.rootLen = int64(le.Uint16(boot[17:])) * entrySize
	f.data = f.rootAt + (f.rootLen+sector-1)/sector*sector
	f.size, f.tableLen = total*sector, sectors*sector
	switch {
	case fats > 2:
		return corrupt("%d FATs", fats)
	case f.cluster > 256<<10:
		return corrupt("clusters of %d bytes", f.cluster)
	case f.size > size:
		return corrupt("%d sectors of %d bytes, but the image has only %d bytes: it was cut short", total, sector, size)
	case f.data >= f.size:
		return corrupt("no room for data in %d sectors", total)
	}
	f.tables = f.activeTables(boot, reserved*sector, fats)
	return f.countClusters()
}

// activeTables are where the FATs lie that are kept up to date, the one to be
// believed first.
func (f *FS) activeTables(boot []byte, first, fats int64) []int64 {
	var tables []int64
	for i := range fats {
		tables = append(tables, first+i*f.tableLen)
	}
	flags := binary.LittleEndian.Uint16(boot[40:])
	if active := int(flags & 0xf); f.bits == 32 && flags&0x80 != 0 && active < len(tables) {
		return tables[active:][:1]
	}
	return tables
}

func (f *FS) countClusters() error {
	count := (f.size - f.data) / f.cluster
	limit := int64(maxFAT16)
	switch {
	case f.bits == 32:
		limit = maxFAT32
	case count <= maxFAT12:
		f.bits, limit = 12, maxFAT12
	}
	if count > limit {
		return corrupt("%d clusters in a FAT%d", count, f.bits)
	}
	// What has no entry cannot be used: the kernel leaves it out, too.
	count = min(count, f.tableLen*8/int64(f.bits)-firstCluster)
	if count <= 0 {
		return corrupt("a FAT of %d bytes", f.tableLen)
	}
	f.clusters = uint32(count)
	if f.bits == 32 && !f.valid(f.root) {
		return corrupt("the root directory is in cluster %d of %d", f.root, f.clusters)
	}
	return nil
}

// valid tells whether a number is that of a cluster.
func (f *FS) valid(cluster uint32) bool {
	return cluster >= firstCluster && cluster-firstCluster < f.clusters
}

// clusterAt is where a cluster lies.
func (f *FS) clusterAt(cluster uint32) int64 {
	return f.data + int64(cluster-firstCluster)*f.cluster
}

// readLabel takes the label from the root directory, or else from the boot sector.
func (f *FS) readLabel(boot []byte) error {
	err := f.eachEntry(f.rootDir(), func(e entry) bool {
		if e.attributes&attrVolume != 0 && f.label == "" {
			f.label = strings.TrimRight(codePage(e.short[:]), " ")
		}
		return true
	})
	if err != nil || f.label != "" {
		return err
	}
	at := 38
	if f.bits == 32 {
		at = 66
	}
	if label := strings.TrimRight(codePage(boot[at+5:at+16]), " "); boot[at] == 0x29 && label != "NO NAME" {
		f.label = strings.TrimRight(label, "\x00")
	}
	return nil
}

// uuid is the serial number as fstab writes it, such as ABCD-1234.
func (f *FS) uuid() string {
	if f.serial == 0 {
		return ""
	}
	return fmt.Sprintf("%04X-%04X", f.serial>>16, f.serial&0xffff)
}
