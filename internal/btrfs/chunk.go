package btrfs

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sort"
)

// chunk says where a range of logical addresses lies on the device: once, or
// twice.
type chunk struct {
	logical, length int64
	copies          []int64
}

const (
	chunkSize     = 48 // bytes before the stripes
	stripeSize    = 32
	sysChunks     = 0x32B // in the superblock
	sysChunksSize = 2048
	profileDup    = 0x20
)

// profiles are those of several devices, by their bits.
var profiles = map[uint64]string{
	0x8: "raid0", 0x10: "raid1", 0x40: "raid10", 0x80: "raid5", 0x100: "raid6", 0x200: "raid1c3", 0x400: "raid1c4",
}

// readChunks reads the chunk tree, for which the superblock has a few chunks of
// its own.
func (v *volume) readChunks(super []byte) error {
	le := binary.LittleEndian
	size := le.Uint32(super[0xA0:])
	if size > sysChunksSize {
		return corrupt("%d bytes of chunks in the superblock", size)
	}
	var err error
	for p := super[sysChunks:][:size]; len(p) > 0; {
		if len(p) < keySize+chunkSize {
			return corrupt("a piece of a chunk in the superblock")
		}
		length := keySize + chunkSize + stripeSize*int(le.Uint16(p[keySize+44:]))
		if length > len(p) {
			return corrupt("a piece of a chunk in the superblock")
		}
		if v.chunks, err = v.addChunk(v.chunks, parseKey(p), p[keySize:length]); err != nil {
			return err
		}
		p = p[length:]
	}
	if v.chunks, err = sortChunks(v.chunks); err != nil {
		return err
	}
	root := treeRoot{le.Uint64(super[0x58:]), super[0xC7], le.Uint64(super[0xA4:])}
	var all []chunk
	err = v.scan(root, key{kind: chunkItem, object: chunkObject}, func(k key, p []byte) (bool, error) {
		if k.kind != chunkItem {
			return true, nil
		}
		all, err = v.addChunk(all, k, p)
		return true, err
	})
	if err != nil {
		return err
	}
	v.chunks, err = sortChunks(all)
	return err
}

func (v *volume) addChunk(list []chunk, k key, p []byte) ([]chunk, error) {
	le := binary.LittleEndian
	if k.kind != chunkItem || len(p) < chunkSize {
		return nil, corrupt("a chunk of %d bytes", len(p))
	}
	length, kind, stripes := le.Uint64(p), le.Uint64(p[24:]), int(le.Uint16(p[44:]))
	want := 1
	if kind&profileDup != 0 {
		want = 2
	}
	for bit, name := range profiles {
		if kind&bit != 0 {
			return nil, corrupt("a chunk of profile %s on a single device", name)
		}
	}
	if stripes != want || len(p) < chunkSize+stripes*stripeSize || k.offset > 1<<62 || length == 0 || length > 1<<62 {
		return nil, corrupt("a chunk of %d bytes at %d in %d places", length, k.offset, stripes)
	}
	c := chunk{logical: int64(k.offset), length: int64(length)}
	for i := range stripes {
		stripe := p[chunkSize+i*stripeSize:]
		if id := le.Uint64(stripe); id != v.device {
			return nil, corrupt("a chunk on device %d", id)
		}
		at := le.Uint64(stripe[8:])
		if at > uint64(v.total) || length > uint64(v.total)-at {
			return nil, corrupt("a chunk of %d bytes at %d of %d", length, at, v.total)
		}
		c.copies = append(c.copies, int64(at))
	}
	return append(list, c), nil
}

func sortChunks(list []chunk) ([]chunk, error) {
	slices.SortFunc(list, func(a, b chunk) int { return cmp.Compare(a.logical, b.logical) })
	for i := 1; i < len(list); i++ {
		if list[i-1].logical+list[i-1].length > list[i].logical {
			return nil, corrupt("chunks overlap at %d", list[i].logical)
		}
	}
	return list, nil
}

// chunkAt finds the chunk of length bytes at a logical address, none of which may
// lie outside of it.
func (v *volume) chunkAt(logical uint64, length int64) (chunk, error) {
	i := sort.Search(len(v.chunks), func(i int) bool { return uint64(v.chunks[i].logical) > logical }) - 1
	if i < 0 || logical-uint64(v.chunks[i].logical) > uint64(v.chunks[i].length) ||
		length > v.chunks[i].length-(int64(logical)-v.chunks[i].logical) {
		return chunk{}, corrupt("%d bytes at the logical address %d, where there is no chunk", length, logical)
	}
	return v.chunks[i], nil
}
