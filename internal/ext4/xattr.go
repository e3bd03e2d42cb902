package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"herdbook/internal/filesystem"
)

const (
	xattrMagic = 0xEA020000
	maxXattr   = 64 << 10 // bytes of one value
)

// prefixes are the beginnings of names that the format has numbers for.
var prefixes = map[byte]string{
	0: "", 1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default",
	4: "trusted.", 6: "security.", 7: "system.", 8: "system.richacl",
}

// systemData is where inline_data keeps what the inode's blocks have no room for.
const systemData = "system.data"

// xattrs returns an inode's extended attributes as the kernel shows them.
func (f *FS) xattrs(n *inode) (map[string][]byte, error) {
	attrs, err := f.rawXattrs(n)
	if err != nil {
		return nil, fmt.Errorf("read extended attributes of inode %d: %w", n.Ino, err)
	}
	delete(attrs, systemData)
	for _, name := range []string{prefixes[2], prefixes[3]} {
		if acl, ok := attrs[name]; ok {
			if attrs[name], err = posixACL(acl); err != nil {
				return nil, fmt.Errorf("read access control list of inode %d: %w", n.Ino, err)
			}
		}
	}
	return attrs, nil
}

func (f *FS) rawXattrs(n *inode) (map[string][]byte, error) {
	attrs := map[string][]byte{}
	if len(n.extra) >= 4 && binary.LittleEndian.Uint32(n.extra) == xattrMagic {
		// Offsets of values count from the first entry.
		if err := f.xattrEntries(n.extra[4:], n.extra[4:], attrs); err != nil {
			return nil, err
		}
	}
	if n.fileACL == 0 {
		return attrs, nil
	}
	p, err := f.metadata(n.fileACL)
	if err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(p) != xattrMagic {
		return nil, corrupt("block %d holds no extended attributes", n.fileACL)
	}
	if err := f.verifyXattrBlock(n.fileACL, p); err != nil {
		return nil, err
	}
	return attrs, f.xattrEntries(p[32:], p, attrs)
}

func (f *FS) verifyXattrBlock(number uint64, p []byte) error {
	if f.roCompat&roMetadataCsum == 0 {
		return nil
	}
	var at [8]byte
	binary.LittleEndian.PutUint64(at[:], number)
	sum := crc(crc(f.seed, at[:]), p[:0x10])
	sum = crc(crc(sum, []byte{0, 0, 0, 0}), p[0x14:])
	if want := binary.LittleEndian.Uint32(p[0x10:]); sum != want {
		return corrupt("checksum of attribute block %d is %08x, want %08x", number, sum, want)
	}
	return nil
}

// xattrEntries reads entries; the offsets of their values count from base.
func (f *FS) xattrEntries(p, base []byte, attrs map[string][]byte) error {
	le := binary.LittleEndian
	for len(p) >= 4 && le.Uint32(p) != 0 {
		if len(p) < 16 || len(p) < 16+int(p[0]) {
			return corrupt("an attribute entry is cut short")
		}
		nameLen, offset := int(p[0]), int(le.Uint16(p[2:]))
		ino, size := le.Uint32(p[4:]), le.Uint32(p[8:])
		prefix, known := prefixes[p[1]]
		if !known {
			return corrupt("attribute name index %d", p[1])
		}
		name := prefix + string(p[16:][:nameLen])
		if size > maxXattr {
			return corrupt("attribute %q of %d bytes", name, size)
		}
		var value []byte
		switch {
		case ino != 0:
			var err error
			if value, err = f.xattrInode(ino, size); err != nil {
				return fmt.Errorf("attribute %q: %w", name, err)
			}
		case offset+int(size) > len(base):
			return corrupt("attribute %q lies outside its block", name)
		default:
			value = append([]byte{}, base[offset:][:size]...)
		}
		attrs[name] = value
		p = p[min(len(p), (16+nameLen+3)&^3):]
	}
	return nil
}

// xattrInode reads a large value, which has an inode of its own.
func (f *FS) xattrInode(ino, size uint32) ([]byte, error) {
	n, err := f.inode(ino)
	if err != nil {
		return nil, err
	}
	if n.flags&flagEAInode == 0 || n.kind() != filesystem.ModeRegular || n.Size != int64(size) {
		return nil, corrupt("inode %d holds no attribute of %d bytes", ino, size)
	}
	file, err := f.content(n)
	if err != nil {
		return nil, err
	}
	value := make([]byte, size)
	if _, err := file.ReadAt(value, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return value, nil
}

// posixACL translates an access control list from the form on the disk, which
// is shorter, to that of the system calls: version 2, then tag, permissions and
// id, eight bytes an entry.
func posixACL(p []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(p) < 4 || le.Uint32(p) != 1 {
		return nil, corrupt("an access control list of another version")
	}
	out := le.AppendUint32(nil, 2)
	for p = p[4:]; len(p) > 0; {
		if len(p) < 4 {
			return nil, corrupt("an access control list is cut short")
		}
		tag, id := le.Uint16(p), ^uint32(0)
		length := 4
		if tag == 0x02 || tag == 0x08 { // a named user or group
			if len(p) < 8 {
				return nil, corrupt("an access control list is cut short")
			}
			id, length = le.Uint32(p[4:]), 8
		}
		out = append(out, p[:4]...)
		out = le.AppendUint32(out, id)
		p = p[length:]
	}
	return out, nil
}

// inlineData is the content of a file that its inode holds: sixty bytes in
// place of the block map and the rest in an attribute.
func (f *FS) inlineData(n *inode) ([]byte, error) {
	attrs, err := f.rawXattrs(n)
	if err != nil {
		return nil, err
	}
	data := append(append([]byte{}, n.block[:]...), attrs[systemData]...)
	if n.kind() == filesystem.ModeDir {
		return data, nil
	}
	// A size beyond the data reads as zeros, as it does for the kernel.
	return data[:min(n.Size, int64(len(data)))], nil
}

// inlineEntries lists a directory that its inode holds: the number of its
// parent, entries in what is left of the sixty bytes, and entries in the attribute.
func (f *FS) inlineEntries(n *inode, fn func([]byte, uint32) bool) error {
	data, err := f.inlineData(n)
	if err != nil {
		return err
	}
	more, err := f.blockEntries(data[4:60], fn)
	if err != nil || !more || len(data) == 60 {
		return err
	}
	_, err = f.blockEntries(data[60:], fn)
	return err
}
