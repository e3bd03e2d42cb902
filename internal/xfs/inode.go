package xfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"herdbook/internal/filesystem"
)

// Formats of a fork.
const (
	formatDevice  = 0
	formatLocal   = 1
	formatExtents = 2
	formatBtree   = 3
)

const (
	flagRealtime = 0x1 // of the first word of flags
	flagBigtime  = 0x8 // of the second
	flagNrext64  = 0x10

	bigtimeEpoch = -1 << 31 // seconds
	inodeCRC     = 100
	maxFileSize  = 1<<63 - 1
)

// fork is one of the two things that an inode holds: its data and its
// extended attributes.
type fork struct {
	format  byte
	extents uint64
	data    []byte // what of it is in the inode
}

// inode is a parsed inode. It is immutable and shared.
type inode struct {
	f *FS
	filesystem.Stat
	realtime    bool
	data, attrs fork
}

func (n *inode) kind() uint16 { return n.Mode & filesystem.ModeType }

// readInode reads and verifies an inode. Its number is its place: group, block in
// the group, index in the block.
func (f *FS) readInode(number uint64) (*inode, error) {
	if n, ok := f.inodeCache.Get(number); ok {
		return n, nil
	}
	n, err := f.findInode(number)
	if err != nil {
		return nil, fmt.Errorf("read inode %d: %w", number, err)
	}
	f.inodeCache.Put(number, n)
	return n, nil
}

func (f *FS) findInode(number uint64) (*inode, error) {
	block, err := f.linear(number>>f.inodesLog, 1)
	if err != nil {
		return nil, err
	}
	p, err := f.metadata(block)
	if err != nil {
		return nil, err
	}
	index := int64(number & (1<<f.inodesLog - 1))
	return f.parseInode(number, p[index*f.inode:][:f.inode])
}

func (f *FS) parseInode(number uint64, raw []byte) (*inode, error) {
	be := binary.BigEndian
	version, mode := raw[4], be.Uint16(raw[2:])
	switch {
	case string(raw[:2]) != "IN" || version == 0 || version > 3 || (version == 3) != (f.version == 5):
		return nil, corrupt("there is none")
	case mode == 0:
		return nil, corrupt("it is free")
	}
	n := &inode{
		f: f,
		Stat: filesystem.Stat{
			Ino: number, Mode: mode, Nlink: be.Uint32(raw[16:]),
			UID: be.Uint32(raw[8:]), GID: be.Uint32(raw[12:]),
		},
		realtime: be.Uint16(raw[90:])&flagRealtime != 0,
	}
	if version == 1 {
		n.Nlink = uint32(be.Uint16(raw[6:]))
	}
	flags := uint64(0)
	if version == 3 {
		if err := f.verifyInode(number, raw); err != nil {
			return nil, err
		}
		flags = be.Uint64(raw[120:])
	}
	size := be.Uint64(raw[56:])
	if size > maxFileSize {
		return nil, corrupt("it has %d bytes", size)
	}
	n.Size = int64(size)
	n.readTimes(raw, flags&flagBigtime != 0)
	return n, n.readForks(raw, flags&flagNrext64 != 0)
}

func (f *FS) verifyInode(number uint64, raw []byte) error {
	if err := verify(raw, inodeCRC); err != nil {
		return err
	}
	if binary.BigEndian.Uint64(raw[152:]) != number || !bytes.Equal(raw[160:176], f.metaUUID[:]) {
		return corrupt("it belongs at another place")
	}
	return nil
}

// readTimes reads seconds and nanoseconds, or with bigtime nanoseconds since 1901.
func (n *inode) readTimes(raw []byte, big bool) {
	at := func(off int) time.Time {
		v := binary.BigEndian.Uint64(raw[off:])
		if big {
			return time.Unix(int64(v/1e9)+bigtimeEpoch, int64(v%1e9)).UTC()
		}
		return time.Unix(int64(int32(v>>32)), int64(uint32(v))).UTC()
	}
	n.Atime, n.Mtime, n.Ctime = at(32), at(40), at(48)
	if raw[4] == 3 {
		n.Crtime = at(144)
	}
}

// readForks parts what lies behind the inode's own fields into its two forks.
func (n *inode) readForks(raw []byte, large bool) error {
	be := binary.BigEndian
	core := 100
	if raw[4] == 3 {
		core = 176
	}
	body := append([]byte(nil), raw[core:]...)
	n.data = fork{format: raw[5], extents: uint64(be.Uint32(raw[76:])), data: body}
	n.attrs = fork{format: raw[83], extents: uint64(be.Uint16(raw[80:]))}
	if large {
		n.data.extents, n.attrs.extents = be.Uint64(raw[24:]), uint64(be.Uint32(raw[76:]))
	}
	if offset := 8 * int(raw[82]); offset > 0 {
		if offset >= len(body) {
			return corrupt("its attributes begin at %d of %d", offset, len(body))
		}
		n.data.data, n.attrs.data = body[:offset], body[offset:]
	}
	switch kind := n.kind(); {
	case n.data.format == formatLocal && n.Size > int64(len(n.data.data)):
		return corrupt("%d bytes are not in it", n.Size)
	case kind == filesystem.ModeBlock || kind == filesystem.ModeChar:
		return n.readDevice()
	}
	return nil
}

// readDevice reads the number of a device node: 14 bits and 18.
func (n *inode) readDevice() error {
	if n.data.format != formatDevice || len(n.data.data) < 4 {
		return corrupt("a device of format %d", n.data.format)
	}
	device := binary.BigEndian.Uint32(n.data.data)
	n.Major, n.Minor = device>>18&(1<<14-1), device&(1<<18-1)
	return nil
}
