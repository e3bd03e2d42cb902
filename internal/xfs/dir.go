package xfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"herdbook/internal/filesystem"
)

const (
	leafOffset = 1 << 35 // bytes of a directory that hold names; indexes lie behind
	maxName    = 255
	freeTag    = 0xffff

	// maxCachedDir is the size of the largest directory whose names are kept, in
	// bytes; lookups in larger ones read it anew.
	maxCachedDir = 4 << 20
)

var dirSeal = seal{4, 8, 24, 40}

// names lists a directory without . and .. .
func (f *FS) names(n *inode) ([]filesystem.Name, error) {
	var list []filesystem.Name
	err := f.eachEntry(n, func(name []byte, number uint64) {
		list = append(list, filesystem.Name{Name: string(name), Inode: number})
	})
	if err != nil {
		return nil, fmt.Errorf("read directory inode %d: %w", n.Ino, err)
	}
	return list, nil
}

// lookup finds one name in a directory.
func (f *FS) lookup(n *inode, name string) (uint64, error) {
	names, ok := f.dirCache.Get(n.Ino)
	if !ok {
		names = map[string]uint64{}
		if err := f.eachEntry(n, func(have []byte, number uint64) {
			if n.Size <= maxCachedDir || string(have) == name {
				names[string(have)] = number
			}
		}); err != nil {
			return 0, fmt.Errorf("read directory inode %d: %w", n.Ino, err)
		}
		if n.Size <= maxCachedDir {
			f.dirCache.Put(n.Ino, names)
		}
	}
	number, ok := names[name]
	if !ok {
		return 0, fs.ErrNotExist
	}
	return number, nil
}

// eachEntry calls fn for every name in a directory but . and .. .
func (f *FS) eachEntry(n *inode, fn func(name []byte, number uint64)) error {
	if n.kind() != filesystem.ModeDir {
		return errors.New("not a directory")
	}
	if n.data.format == formatLocal {
		return f.shortEntries(n.data.data[:n.Size], fn)
	}
	extents, err := f.extents(n, &n.data)
	if err != nil {
		return err
	}
	total := uint64(0)
	for _, e := range extents {
		if total += e.count; total > f.blocks {
			return corrupt("it has more blocks than the file system")
		}
	}
	m, next, step := mapping{f, extents}, int64(0), f.dirBlock
	p := make([]byte, step)
	for _, e := range extents {
		end := min(m.offset(e.end()), leafOffset)
		for off := max(next, m.offset(e.logical)/step*step); off < end; off += step {
			if err := f.blockEntries(n, &m, p, off, fn); err != nil {
				return fmt.Errorf("block at %d: %w", off, err)
			}
			next = off + step
		}
	}
	return nil
}

// shortEntries calls fn for the names of a directory that its inode holds. All its
// inode numbers have eight bytes if one needs them, or four.
func (f *FS) shortEntries(p []byte, fn func([]byte, uint64)) error {
	if len(p) < 6 {
		return corrupt("a directory of %d bytes", len(p))
	}
	count, width := int(p[0]), 4
	if p[1] > 0 {
		count, width = max(int(p[0]), int(p[1])), 8
	}
	p = p[min(len(p), 2+width):] // and the parent
	for range count {
		if len(p) < 3 {
			return corrupt("a directory entry is cut short")
		}
		size := int(p[0])
		end := 3 + size + width
		if f.ftype {
			end++
		}
		if len(p) < end {
			return corrupt("a directory entry is cut short")
		}
		if err := entry(p[3:][:size], number(p[end-width:end]), fn); err != nil {
			return err
		}
		p = p[end:]
	}
	return nil
}

// number reads a big-endian number of any width.
func number(p []byte) (v uint64) {
	for _, b := range p {
		v = v<<8 | uint64(b)
	}
	return v
}

// blockEntries reads the block at an offset of a directory into p and calls fn
// for the names in it.
func (f *FS) blockEntries(n *inode, m *mapping, p []byte, off int64, fn func([]byte, uint64)) error {
	if _, err := m.read(p, off); err != nil {
		return err
	}
	body, err := f.dirBody(n, m, p, off)
	if err != nil {
		return err
	}
	be := binary.BigEndian
	for len(body) > 0 {
		if len(body) < 8 {
			return corrupt("a directory entry is cut short")
		}
		if be.Uint16(body) == freeTag {
			length := int(be.Uint16(body[2:]))
			if length < 8 || length%8 != 0 || length > len(body) {
				return corrupt("a gap of %d bytes", length)
			}
			body = body[length:]
			continue
		}
		if len(body) < 16 {
			return corrupt("a directory entry is cut short")
		}
		size := int(body[8])
		length := 8 + 1 + size + 2 // and where it stands in the block
		if f.ftype {
			length++
		}
		if length = (length + 7) &^ 7; length > len(body) {
			return corrupt("a directory entry is cut short")
		}
		if err := entry(body[9:][:size], be.Uint64(body), fn); err != nil {
			return err
		}
		body = body[length:]
	}
	return nil
}

// dirBody verifies a block and returns what of it has entries. The block of a
// directory that has only one ends with the directory's index.
func (f *FS) dirBody(n *inode, m *mapping, p []byte, off int64) ([]byte, error) {
	single, plain, header := "XD2B", "XD2D", 16
	if f.version == 5 {
		single, plain, header = "XDB3", "XDD3", 64
		address, err := m.at(uint64(off) >> f.blockLog)
		if err != nil {
			return nil, err
		}
		if err := f.check(p, dirSeal, address, binary.BigEndian.AppendUint64(nil, n.Ino)); err != nil {
			return nil, err
		}
	}
	switch magic := string(p[:4]); {
	case magic == plain:
		return p[header:], nil
	case magic != single || off != 0:
		return nil, corrupt("it holds no names")
	}
	count := uint64(binary.BigEndian.Uint32(p[len(p)-8:]))
	if room := uint64(len(p) - header - 8); count > room/8 {
		return nil, corrupt("an index of %d names", count)
	}
	return p[header : len(p)-8-8*int(count)], nil
}

// entry calls fn for a name, unless it is . or .., and refuses what could lead elsewhere.
func entry(name []byte, inode uint64, fn func([]byte, uint64)) error {
	switch string(name) {
	case ".", "..":
		return nil
	case "":
		return corrupt("an empty name")
	}
	for _, c := range name {
		if c == 0 || c == '/' {
			return corrupt("the name %q", name)
		}
	}
	fn(name, inode)
	return nil
}
