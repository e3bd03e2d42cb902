package xfs

import (
	"encoding/binary"
	"fmt"
)

const (
	maxXattr  = 64 << 10 // bytes of one value
	maxXattrs = 16 << 20 // bytes of all of an inode
	maxLeaves = 1 << 16  // blocks of attributes of an inode
	maxACL    = 8 << 10  // entries of an access control list

	remoteMagic = "XARM"
)

// Bits of an attribute.
const (
	attrLocal      = 0x1 // its value lies beside its name
	attrRoot       = 0x2
	attrSecure     = 0x4
	attrParent     = 0x8 // of the kernel's own: where the file has its names
	attrIncomplete = 0x80
)

var (
	attrSeal   = seal{12, 16, 32, 48}
	remoteSeal = seal{12, 40, 16, 32} // of values and of links
)

// acls are the names under which access control lists are kept, and those under
// which the kernel shows them.
var acls = map[string]string{
	"trusted.SGI_ACL_FILE": "system.posix_acl_access", "trusted.SGI_ACL_DEFAULT": "system.posix_acl_default",
}

// xattrs returns an inode's extended attributes as the kernel shows them.
func (f *FS) xattrs(n *inode) (map[string][]byte, error) {
	a := attrWalk{f: f, n: n, attrs: map[string][]byte{}}
	if err := a.walk(); err != nil {
		return nil, fmt.Errorf("read extended attributes of inode %d: %w", n.Ino, err)
	}
	for kept, shown := range acls {
		p, ok := a.attrs[kept]
		if !ok {
			continue
		}
		acl, err := posixACL(p)
		if err != nil {
			return nil, fmt.Errorf("read access control list of inode %d: %w", n.Ino, err)
		}
		delete(a.attrs, kept)
		a.attrs[shown] = acl
	}
	return a.attrs, nil
}

// attrWalk collects the attributes of an inode.
type attrWalk struct {
	f       *FS
	n       *inode
	mapping mapping
	attrs   map[string][]byte
	total   int // bytes
}

func (a *attrWalk) walk() error {
	k := &a.n.attrs
	if len(k.data) == 0 || k.format == formatExtents && k.extents == 0 {
		return nil
	}
	if k.format == formatLocal {
		return a.short(k.data)
	}
	extents, err := a.f.extents(a.n, k)
	if err != nil || len(extents) == 0 {
		return err
	}
	a.mapping = mapping{a.f, extents}
	return a.leaves()
}

// add keeps an attribute unless nobody is to see it.
func (a *attrWalk) add(flags byte, name, value []byte) error {
	if flags&(attrParent|attrIncomplete) != 0 {
		return nil
	}
	prefix := "user."
	switch {
	case flags&attrRoot != 0:
		prefix = "trusted."
	case flags&attrSecure != 0:
		prefix = "security."
	}
	if a.total += len(name) + len(value); a.total > maxXattrs {
		return corrupt("more than %d bytes", maxXattrs)
	}
	a.attrs[prefix+string(name)] = append([]byte{}, value...)
	return nil
}

// short reads attributes that the inode holds.
func (a *attrWalk) short(p []byte) error {
	size, count := int(binary.BigEndian.Uint16(p)), 0
	if len(p) < 4 || size < 4 || size > len(p) {
		return corrupt("%d bytes of attributes in %d", size, len(p))
	}
	count, p = int(p[2]), p[4:size]
	for range count {
		if len(p) < 3 || len(p) < 3+int(p[0])+int(p[1]) {
			return corrupt("an attribute is cut short")
		}
		name, value := p[3:][:p[0]], p[3+int(p[0]):][:p[1]]
		if err := a.add(p[2], name, value); err != nil {
			return err
		}
		p = p[3+len(name)+len(value):]
	}
	return nil
}

// attrLayout is where in a block of attributes what stands.
type attrLayout struct {
	leaf, node uint16 // magic numbers
	count      int    // of entries; a node's level follows
	entries    int    // of a leaf
	child      int    // the first of a node
}

// attrLayouts are those of versions 4 and 5.
var attrLayouts = [2]attrLayout{{0xfbee, 0xfebe, 12, 32, 20}, {0x3bee, 0x3ebe, 56, 80, 68}}

// leaves reads attributes that have blocks of their own: down to the first
// leaf of the tree, then from each leaf to the next.
func (a *attrWalk) leaves() error {
	be, layout := binary.BigEndian, attrLayouts[a.f.version-4]
	next, level := uint32(0), -1
	for range maxLeaves {
		p, err := a.block(next)
		if err != nil {
			return fmt.Errorf("block %d: %w", next, err)
		}
		magic, depth := be.Uint16(p[8:]), int(be.Uint16(p[layout.count+2:]))
		switch {
		case magic == layout.leaf && level <= 1:
			if err := a.leaf(p, layout); err != nil {
				return fmt.Errorf("block %d: %w", next, err)
			}
			if next, level = be.Uint32(p), 1; next == 0 {
				return nil
			}
		case magic == layout.node && depth > 0 && depth < maxLevel && (level < 0 || depth == level-1):
			next, level = be.Uint32(p[layout.child:]), depth
		default:
			return corrupt("block %d is no block of attributes, or of another level", next)
		}
	}
	return corrupt("more than %d blocks", maxLeaves)
}

// block reads and verifies one block of the attributes.
func (a *attrWalk) block(block uint32) ([]byte, error) {
	number, err := a.mapping.at(uint64(block))
	if err != nil {
		return nil, err
	}
	p, err := a.f.metadata(number)
	if err != nil || a.f.version == 4 {
		return p, err
	}
	return p, a.f.check(p, attrSeal, number, binary.BigEndian.AppendUint64(nil, a.n.Ino))
}

// leaf reads the attributes of one leaf.
func (a *attrWalk) leaf(p []byte, layout attrLayout) error {
	be := binary.BigEndian
	count := int(be.Uint16(p[layout.count:]))
	if count > (len(p)-layout.entries)/8 {
		return corrupt("%d entries", count)
	}
	for i := range count {
		entry := p[layout.entries+8*i:][:8]
		at, flags := int(be.Uint16(entry[4:])), entry[6]
		if at+3 > len(p) {
			return corrupt("an entry at %d", at)
		}
		var err error
		if flags&attrLocal != 0 {
			err = a.local(p[at:], flags)
		} else {
			err = a.remote(p[at:], flags)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// local reads an attribute whose value lies behind its name.
func (a *attrWalk) local(p []byte, flags byte) error {
	size, name := int(binary.BigEndian.Uint16(p)), int(p[2])
	if 3+name+size > len(p) {
		return corrupt("an attribute lies outside its block")
	}
	return a.add(flags, p[3:][:name], p[3+name:][:size])
}

// remote reads an attribute whose value has blocks of its own.
func (a *attrWalk) remote(p []byte, flags byte) error {
	be := binary.BigEndian
	if len(p) < 9 {
		return corrupt("an attribute is cut short")
	}
	block, size, length := uint64(be.Uint32(p)), be.Uint32(p[4:]), int(p[8])
	if 9+length > len(p) || size > maxXattr {
		return corrupt("an attribute of %d bytes", size)
	}
	if flags&(attrParent|attrIncomplete) != 0 { // it may not have been written
		return nil
	}
	name := p[9:][:length]
	value := make([]byte, 0, size+uint32(a.f.block))
	for len(value) < int(size) {
		part, err := a.remoteBlock(block, len(value))
		if err != nil {
			return fmt.Errorf("attribute %q: %w", name, err)
		}
		value = append(value, part...)
		block++
	}
	return a.add(flags, name, value[:size])
}

// remoteBlock reads one block of a value, from byte off of it on.
func (a *attrWalk) remoteBlock(block uint64, off int) ([]byte, error) {
	number, err := a.mapping.at(block)
	if err != nil {
		return nil, err
	}
	p, err := a.f.metadata(number)
	if err != nil || a.f.version == 4 {
		return p, err
	}
	return a.f.remotePart(a.n, p, remoteMagic, number, off)
}

// remotePart verifies a part of a link or of a value, from byte off of it on, and
// returns what is behind its header.
func (f *FS) remotePart(n *inode, p []byte, magic string, number uint64, off int) ([]byte, error) {
	const header = 56
	be := binary.BigEndian
	if string(p[:4]) != magic {
		return nil, corrupt("block %d holds no part of it", number)
	}
	if err := f.check(p, remoteSeal, number, be.AppendUint64(nil, n.Ino)); err != nil {
		return nil, err
	}
	start, size := be.Uint32(p[4:]), be.Uint32(p[8:])
	if int64(start) != int64(off) || size == 0 || int64(size) > int64(len(p)-header) {
		return nil, corrupt("%d bytes at %d, wanted at %d", size, start, off)
	}
	return p[header:][:size], nil
}

// posixACL translates an access control list from the form on the disk, a count
// and then tag, id and permissions of twelve bytes an entry, to that of the
// system calls: version 2, then tag, permissions and id, eight bytes an entry.
func posixACL(p []byte) ([]byte, error) {
	be, le := binary.BigEndian, binary.LittleEndian
	if len(p) < 4 {
		return nil, corrupt("it is cut short")
	}
	count := be.Uint32(p)
	if p = p[4:]; count > maxACL || int(count) > len(p)/12 {
		return nil, corrupt("%d entries in %d bytes", count, len(p))
	}
	out := le.AppendUint32(nil, 2)
	for range count {
		tag, id := be.Uint32(p), ^uint32(0)
		if tag == 0x02 || tag == 0x08 { // a named user or group
			id = be.Uint32(p[4:])
		}
		out = le.AppendUint16(out, uint16(tag))
		out = le.AppendUint16(out, be.Uint16(p[8:]))
		out = le.AppendUint32(out, id)
		p = p[12:]
	}
	return out, nil
}
