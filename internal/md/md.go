// Package md reads the superblocks of Linux's software RAID, of metadata 0.90,
// 1.0, 1.1 and 1.2, and puts the members of a mirror (RAID1) together: which of
// them hold the same, and where their data begin. It changes nothing. Arrays that
// are not mirrors are named, and not read.
//
// The formats are those of the kernel's include/uapi/linux/raid/md_p.h and
// drivers/md/md-bitmap.h.
package md

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrNotMember says that there is no superblock.
var ErrNotMember = errors.New("not a member of a RAID array")

// ErrCorrupt is wrapped by every error that says that a superblock contradicts
// itself or the format.
var ErrCorrupt = errors.New("RAID superblock is corrupt")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

const (
	sector = 512
	magic  = 0xa92b4efc
	spare  = -1 // a Role
	// maxDevices bounds the members of an array: the roles of one superblock of
	// 4 KiB.
	maxDevices = 1920
)

// Member is a disk or a partition that belongs to an array, by its own
// superblock.
type Member struct {
	Metadata string // 0.90, 1.0, 1.1 or 1.2
	UUID     string // of the array, as mdadm writes it
	Name     string // of the array, as in /dev/md/NAME; of metadata 0.90, its number
	Level    int    // as mdadm's raid1 is 1; negative for what is no RAID
	Devices  int    // that the array wants
	Role     int    // the place of this one; negative if it has none
	Events   uint64 // raised by every change: the highest is true
	Offset   int64  // where its data begin, in bytes
	Size     int64  // bytes of data

	active  []bool // by role: who belonged to the array when this was written
	problem string // why the array must not be touched; empty if nothing is wrong
	bitmap  bool   // it notes what is to be written to a member that comes back
}

// Open reads the superblock of a member of size bytes.
func Open(r io.ReaderAt, size int64) (*Member, error) {
	for _, at := range []struct {
		offset int64
		minor  int
	}{{4096, 2}, {0, 1}, {(size/sector - 16) &^ 7 * sector, 0}} {
		m, err := openOne(r, size, at.offset, at.minor)
		if !errors.Is(err, ErrNotMember) {
			return m, err
		}
	}
	return openOld(r, size)
}

// page reads the 4 KiB in which a superblock is.
func page(r io.ReaderAt, size, offset int64) ([]byte, error) {
	p := make([]byte, 4096)
	if offset < 0 || offset > size-int64(len(p)) {
		return nil, ErrNotMember
	}
	if _, err := r.ReadAt(p, offset); err != nil {
		return nil, fmt.Errorf("read RAID superblock: %w", err)
	}
	if binary.LittleEndian.Uint32(p) != magic {
		return nil, ErrNotMember
	}
	return p, nil
}

// sum adds up a superblock's words, of which one is the sum itself.
func sum(p []byte, at int) uint32 {
	total := uint64(0)
	for i := 0; i < len(p); i += 4 {
		switch {
		case i == at:
		case len(p)-i < 4:
			total += uint64(binary.LittleEndian.Uint16(p[i:]))
		default:
			total += uint64(binary.LittleEndian.Uint32(p[i:]))
		}
	}
	return uint32(total) + uint32(total>>32)
}

// Features of metadata 1.
const (
	featureBitmap  = 0x1
	featureRecover = 0x2
	featureReshape = 0x4
	featureBad     = 0x8
	featureReplace = 0x10
)

// openOne reads metadata 1.0, 1.1 or 1.2, which differ in where they are.
func openOne(r io.ReaderAt, size, offset int64, minor int) (*Member, error) {
	p, err := page(r, size, offset)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if le.Uint32(p[4:]) != 1 || le.Uint64(p[144:]) != uint64(offset/sector) {
		return nil, ErrNotMember // another's, by its version or its place
	}
	count := le.Uint32(p[220:])
	if count > maxDevices {
		return nil, corrupt("it has %d roles", count)
	}
	if sum(p[:256+2*count], 216) != le.Uint32(p[216:]) {
		return nil, corrupt("checksum of the superblock at byte %d", offset)
	}
	start, data, used := le.Uint64(p[128:]), le.Uint64(p[136:]), le.Uint64(p[80:])
	devices, number := le.Uint32(p[92:]), le.Uint32(p[160:])
	m := &Member{
		Metadata: fmt.Sprint("1.", minor), Level: int(int32(le.Uint32(p[72:]))), Devices: int(devices), Role: spare, Events: le.Uint64(p[200:]),
		UUID: fmt.Sprintf("%x:%x:%x:%x", p[16:20], p[20:24], p[24:28], p[28:32]), Name: arrayName(p[32:64]),
	}
	sectors := uint64(size / sector)
	if devices > maxDevices || start > sectors || data > sectors-start || used > data && m.Level == 1 {
		return nil, corrupt("%d devices with %d sectors of %d from sector %d of %d", devices, used, data, start, sectors)
	}
	m.Offset, m.Size = int64(start)*sector, int64(min(used, data))*sector
	m.active = make([]bool, devices)
	for i := range count {
		if role := le.Uint16(p[256+2*i:]); uint32(role) < devices {
			m.active[role] = true
			if i == number {
				m.Role = int(role)
			}
		}
	}
	features := le.Uint32(p[8:])
	m.bitmap = features&featureBitmap != 0
	switch {
	case features&featureReshape != 0:
		m.problem = "it is being reshaped"
	case features&featureRecover != 0 && m.Role >= 0, features&featureReplace != 0:
		m.problem = "a member is being rebuilt"
	case features&featureBad != 0:
		m.problem = "a member has bad blocks"
	case features&^(featureBitmap|featureRecover) != 0:
		m.problem = fmt.Sprintf("it has features (%#x) that are not known here", features)
	case le.Uint64(p[208:]) != 1<<64-1:
		m.problem = "it was not stopped cleanly, its members may differ"
	case m.bitmap:
		m.problem, err = readBitmap(r, size, offset+int64(int32(le.Uint32(p[96:])))*sector)
	}
	return m, err
}

// arrayName takes the host off a name.
func arrayName(p []byte) string {
	for i, c := range p {
		if c == 0 {
			p = p[:i]
			break
		}
	}
	for i, c := range p {
		if c == ':' {
			return string(p[i+1:])
		}
	}
	return string(p)
}

// openOld reads metadata 0.90, in the byte order of the machine that made it,
// which is little-endian on every one that is built for here.
func openOld(r io.ReaderAt, size int64) (*Member, error) {
	offset := size&^(64<<10-1) - 64<<10
	p, err := page(r, size, offset)
	if err != nil {
		return nil, err
	}
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(p[4*i:]) }
	if word(1) != 0 {
		return nil, ErrNotMember
	}
	if sum(p, 4*38) != word(38) {
		return nil, corrupt("checksum of the superblock at byte %d", offset)
	}
	const disks, maxDisks, this, words = 128, 27, 992, 32
	m := &Member{
		Metadata: "0.90", Level: int(int32(word(7))), Devices: int(word(10)), Role: spare, Events: uint64(word(40))<<32 | uint64(word(39)),
		UUID: fmt.Sprintf("%08x:%08x:%08x:%08x", word(5), word(13), word(14), word(15)), Name: fmt.Sprint(word(11)),
		Size: int64(word(8)) << 10, bitmap: word(33)&0x100 != 0,
	}
	if m.Devices > maxDisks || m.Size > offset && m.Level == 1 {
		return nil, corrupt("%d devices with %d bytes of %d", m.Devices, m.Size, offset)
	}
	const faulty, inSync = 0x1, 0x6 // active and in sync
	m.active = make([]bool, m.Devices)
	for i := range maxDisks {
		d := disks + i*words
		if role := word(d + 3); role < uint32(m.Devices) && word(d+4)&(faulty|inSync) == inSync {
			m.active[role] = true
		}
	}
	if role := word(this + 3); role < uint32(m.Devices) && word(this+4)&(faulty|inSync) == inSync {
		m.Role = int(role)
	}
	switch {
	case word(2) != 90:
		m.problem = "it is being reshaped"
	case word(33)&1 == 0:
		m.problem = "it was not stopped cleanly, its members may differ"
	case m.bitmap:
		m.problem, err = readBitmap(r, size, offset+4096)
	}
	return m, err
}

// readBitmap looks whether the write-intent bitmap notes anything that is still to
// be written to a member.
func readBitmap(r io.ReaderAt, size, offset int64) (problem string, err error) {
	const header, maxBytes = 256, 4 << 20
	h := make([]byte, header)
	if offset < 0 || offset > size-header {
		return "", corrupt("a bitmap at byte %d of %d", offset, size)
	}
	if _, err := r.ReadAt(h, offset); err != nil {
		return "", fmt.Errorf("read RAID bitmap: %w", err)
	}
	le := binary.LittleEndian
	version, chunk := le.Uint32(h[4:]), uint64(le.Uint32(h[52:]))
	if string(h[:4]) != "bitm" || chunk < sector {
		return "", corrupt("no bitmap at byte %d", offset)
	}
	if version < 3 || version > 4 || le.Uint32(h[48:])&^1 != 0 {
		return "its bitmap is stale or of a kind that is not known here", nil
	}
	bits := (le.Uint64(h[40:]) + chunk/sector - 1) / (chunk / sector)
	if bits > 8*maxBytes || offset+header+int64(bits+7)/8 > size {
		return "", corrupt("a bitmap of %d bits", bits)
	}
	p := make([]byte, (bits+7)/8)
	if _, err := r.ReadAt(p, offset+header); err != nil {
		return "", fmt.Errorf("read RAID bitmap: %w", err)
	}
	if bits%8 != 0 {
		p[len(p)-1] &= 1<<(bits%8) - 1 // what follows the last bit means nothing
	}
	for _, b := range p {
		if b != 0 {
			return "its bitmap says that its members may differ", nil
		}
	}
	return "", nil
}
