package ext4

import (
	"encoding/binary"
	"fmt"
	"time"

	"herdbook/internal/filesystem"
)

const (
	flagEncrypt = 0x800
	flagIndex   = 0x1000
	flagExtents = 0x80000
	flagEAInode = 0x200000
	flagInline  = 0x10000000
)

// inode is a parsed inode. It is immutable and shared.
type inode struct {
	f *FS
	filesystem.Stat
	flags    uint32
	gen      uint32
	fileACL  uint64 // block of extended attributes
	block    [60]byte
	extra    []byte // behind the fixed fields: xattrs in the inode
	csumSeed uint32 // of what belongs to the inode
}

// number is the inode's: ext4 has no more than 2³².
func (n *inode) number() uint32 { return uint32(n.Ino) }

func (n *inode) kind() uint16 { return n.Mode & filesystem.ModeType }

// inode reads and verifies inode number ino.
func (f *FS) inode(ino uint32) (*inode, error) {
	if n, ok := f.inodeCache.Get(ino); ok {
		return n, nil
	}
	if ino == 0 || ino > f.inodes {
		return nil, corrupt("inode %d of %d", ino, f.inodes)
	}
	g, index := (ino-1)/f.inodesPerGrp, int64((ino-1)%f.inodesPerGrp)
	offset := index * f.inodeSize
	block, err := f.metadata(f.group(g).inodeTable + uint64(offset/f.block))
	if err != nil {
		return nil, fmt.Errorf("read inode %d: %w", ino, err)
	}
	raw := block[offset%f.block:][:f.inodeSize]
	n, err := f.parseInode(ino, raw)
	if err != nil {
		return nil, err
	}
	f.inodeCache.Put(ino, n)
	return n, nil
}

func (f *FS) parseInode(ino uint32, raw []byte) (*inode, error) {
	le := binary.LittleEndian
	n := &inode{
		f: f,
		Stat: filesystem.Stat{
			Ino: uint64(ino), Mode: le.Uint16(raw), Nlink: uint32(le.Uint16(raw[0x1A:])),
			UID: uint32(le.Uint16(raw[0x2:])) | uint32(le.Uint16(raw[0x78:]))<<16,
			GID: uint32(le.Uint16(raw[0x18:])) | uint32(le.Uint16(raw[0x7A:]))<<16,
		},
		flags:   le.Uint32(raw[0x20:]),
		gen:     le.Uint32(raw[0x64:]),
		fileACL: uint64(le.Uint32(raw[0x68:])),
	}
	if f.incompat&incompat64bit != 0 {
		n.fileACL |= uint64(le.Uint16(raw[0x76:])) << 32
	}
	copy(n.block[:], raw[0x28:])
	if err := f.readSize(n, raw); err != nil {
		return nil, err
	}
	extra := f.extraSize(raw)
	if extra < 0 {
		return nil, corrupt("inode %d claims %d extra bytes", ino, le.Uint16(raw[0x80:]))
	}
	n.readTimes(raw[:128+extra])
	if len(raw) > 128 {
		n.extra = append([]byte(nil), raw[128+extra:]...)
	}
	if k := n.kind(); k == filesystem.ModeBlock || k == filesystem.ModeChar {
		n.readDevice()
	}
	return n, f.verifyInode(n, raw)
}

func (f *FS) readSize(n *inode, raw []byte) error {
	le := binary.LittleEndian
	size := uint64(le.Uint32(raw[0x4:]))
	if k := n.kind(); k == filesystem.ModeRegular || k == filesystem.ModeDir && f.incompat&incompatLargedir != 0 {
		size |= uint64(le.Uint32(raw[0x6C:])) << 32
	}
	if size > 1<<62 {
		return corrupt("inode %d has %d bytes", n.Ino, size)
	}
	n.Size = int64(size)
	return nil
}

// extraSize is the number of fixed bytes beyond the first 128; negative if
// the inode contradicts itself.
func (f *FS) extraSize(raw []byte) int {
	if len(raw) <= 128 {
		return 0
	}
	extra := int(binary.LittleEndian.Uint16(raw[0x80:]))
	if extra > len(raw)-128 || extra%4 != 0 {
		return -1
	}
	return extra
}

// readTimes reads the seconds and, as far as the fixed part reaches, the
// nanoseconds, in whose lowest two bits the epoch stands.
func (n *inode) readTimes(raw []byte) {
	le := binary.LittleEndian
	at := func(seconds, nano int) time.Time {
		s, extra := int64(int32(le.Uint32(raw[seconds:]))), uint32(0)
		if nano+4 <= len(raw) {
			extra = le.Uint32(raw[nano:])
		}
		return time.Unix(s+int64(extra&3)<<32, int64(extra>>2)).UTC()
	}
	n.Atime, n.Ctime, n.Mtime = at(0x8, 0x8C), at(0xC, 0x84), at(0x10, 0x88)
	if len(raw) >= 0x94 {
		n.Crtime = at(0x90, 0x94)
	}
}

// readDevice reads the number of a device node, in its old or its new encoding.
func (n *inode) readDevice() {
	old, now := binary.LittleEndian.Uint32(n.block[0:]), binary.LittleEndian.Uint32(n.block[4:])
	if old != 0 {
		n.Major, n.Minor = old>>8&0xff, old&0xff
		return
	}
	n.Major, n.Minor = now>>8&0xfff, now&0xff|now>>12&0xfff00
}

func (f *FS) verifyInode(n *inode, raw []byte) error {
	var number, gen [4]byte
	binary.LittleEndian.PutUint32(number[:], n.number())
	binary.LittleEndian.PutUint32(gen[:], n.gen)
	n.csumSeed = crc(crc(f.seed, number[:]), gen[:])
	if f.roCompat&roMetadataCsum == 0 {
		return nil
	}
	le := binary.LittleEndian
	copied := append([]byte(nil), raw...)
	want := uint32(le.Uint16(raw[0x7C:]))
	le.PutUint16(copied[0x7C:], 0)
	mask := uint32(0xffff)
	if len(raw) > 128 && le.Uint16(raw[0x80:]) >= 4 {
		want |= uint32(le.Uint16(raw[0x82:])) << 16
		le.PutUint16(copied[0x82:], 0)
		mask = ^uint32(0)
	}
	if got := crc(n.csumSeed, copied) & mask; got != want {
		return corrupt("checksum of inode %d is %08x, want %08x", n.Ino, got, want)
	}
	return nil
}
