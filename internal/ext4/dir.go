package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"herdbook/internal/filesystem"
)

const (
	maxDirSize = 1 << 31 // bytes
	maxName    = 255
)

// names lists a directory without . and .. .
func (f *FS) names(n *inode) ([]filesystem.Name, error) {
	var list []filesystem.Name
	err := f.eachEntry(n, func(name []byte, ino uint32) bool {
		if s := string(name); s != "." && s != ".." {
			list = append(list, filesystem.Name{Name: s, Inode: uint64(ino)})
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("read directory inode %d: %w", n.Ino, err)
	}
	return list, nil
}

// maxCachedDir is the size of the largest directory whose names are kept, in
// bytes; lookups in larger ones read it anew.
const maxCachedDir = 4 << 20

// lookup finds one name in a directory.
func (f *FS) lookup(n *inode, name string) (uint32, error) {
	names, ok := f.dirCache.Get(n.number())
	if !ok {
		names = map[string]uint32{}
		if err := f.eachEntry(n, func(have []byte, ino uint32) bool {
			if n.Size <= maxCachedDir || string(have) == name {
				names[string(have)] = ino
			}
			return true
		}); err != nil {
			return 0, fmt.Errorf("read directory inode %d: %w", n.Ino, err)
		}
		if n.Size <= maxCachedDir {
			f.dirCache.Put(n.number(), names)
		}
	}
	ino, ok := names[name]
	if !ok {
		return 0, fs.ErrNotExist
	}
	return ino, nil
}

// eachEntry calls fn for every name in a directory until it returns false. The
// nodes of a hash tree look like empty entries and pass by themselves.
func (f *FS) eachEntry(n *inode, fn func(name []byte, ino uint32) bool) error {
	if n.flags&flagEncrypt != 0 {
		return errors.New("the directory is encrypted")
	}
	if n.Size > maxDirSize {
		return corrupt("a directory of %d bytes", n.Size)
	}
	if n.flags&flagInline != 0 {
		return f.inlineEntries(n, fn)
	}
	file, err := f.content(n)
	if err != nil {
		return err
	}
	if n.Size%f.block != 0 {
		return corrupt("a directory of %d bytes in blocks of %d", n.Size, f.block)
	}
	block := make([]byte, f.block)
	for off := int64(0); off < n.Size; off += f.block {
		if _, err := file.ReadAt(block, off); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err := f.verifyDirBlock(n, block, off == 0); err != nil {
			return err
		}
		if more, err := f.blockEntries(block, fn); err != nil || !more {
			return err
		}
	}
	return nil
}

// blockEntries calls fn for the names in one block of a directory.
func (f *FS) blockEntries(p []byte, fn func(name []byte, ino uint32) bool) (bool, error) {
	le := binary.LittleEndian
	for off := 0; off+8 <= len(p); {
		ino, length, nameLen := le.Uint32(p[off:]), int(le.Uint16(p[off+4:])), int(p[off+6])
		if length == 0 && len(p) == 65536 || length == 0xffff { // of 64 KiB blocks
			length = 65536
		}
		if f.incompat&incompatFiletype == 0 {
			nameLen = int(le.Uint16(p[off+6:]))
		}
		if length < 8 || length%4 != 0 || length > len(p)-off || nameLen > length-8 {
			return false, corrupt("a directory entry of %d bytes with a name of %d", length, nameLen)
		}
		if ino != 0 && nameLen > 0 {
			name := p[off+8:][:nameLen]
			if !validName(name) {
				return false, corrupt("the name %q in a directory", name)
			}
			if !fn(name, ino) {
				return false, nil
			}
		}
		off += length
	}
	return true, nil
}

// validName refuses names that could lead elsewhere.
func validName(name []byte) bool {
	if len(name) > maxName {
		return false
	}
	for _, c := range name {
		if c == 0 || c == '/' {
			return false
		}
	}
	return true
}

// verifyDirBlock checks the checksum of a directory block: of one with names it
// stands in an entry of its own at the end, of a hash tree's behind its limits.
func (f *FS) verifyDirBlock(n *inode, p []byte, first bool) error {
	if f.roCompat&roMetadataCsum == 0 {
		return nil
	}
	if offset := indexOffset(p, first); offset > 0 && n.flags&flagIndex != 0 {
		return verifyIndexBlock(n, p, offset)
	}
	le := binary.LittleEndian
	tail := p[len(p)-12:]
	if le.Uint32(tail) != 0 || le.Uint16(tail[4:]) != 12 || tail[7] != 0xDE {
		return corrupt("a directory block without its checksum")
	}
	if got, want := crc(n.csumSeed, p[:len(p)-12]), le.Uint32(tail[8:]); got != want {
		return corrupt("checksum of a directory block is %08x, want %08x", got, want)
	}
	return nil
}

// indexOffset is where a block of a hash tree has its limits; 0 if it is none. Its
// names tell, as one entry that fills the block hides the tree from old readers.
// Its end does not: the root was a block with names once, and keeps their end.
func indexOffset(p []byte, first bool) int {
	length := func(off int) int {
		n := int(binary.LittleEndian.Uint16(p[off+4:]))
		if n == 0 && len(p) == 65536 || n == 0xffff {
			n = 65536
		}
		return n
	}
	switch {
	case first && length(0) == 12 && length(12) >= len(p)-12:
		return 32 // behind "." and ".." and the tree's own header
	case !first && length(0) == len(p):
		return 8
	}
	return 0
}

func verifyIndexBlock(n *inode, p []byte, offset int) error {
	le := binary.LittleEndian
	limit, count := int(le.Uint16(p[offset:])), int(le.Uint16(p[offset+2:]))
	end := offset + 8*limit
	if count > limit || end+8 > len(p) {
		return corrupt("a hash tree node of %d entries", limit)
	}
	sum := crc(n.csumSeed, p[:offset+8*count])
	sum = crc(sum, p[end:end+4])
	sum = crc(sum, []byte{0, 0, 0, 0})
	if want := le.Uint32(p[end+4:]); sum != want {
		return corrupt("checksum of a hash tree node is %08x, want %08x", sum, want)
	}
	return nil
}
