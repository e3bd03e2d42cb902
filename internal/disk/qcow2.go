package disk

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// The qcow2 format is that of QEMU's docs/interop/qcow2.txt.
const (
	qcow2Magic = 0x514649fb

	incompatDirty       = 1 << 0 // the reference counts are old; reading needs none
	incompatCorrupt     = 1 << 1
	incompatExternal    = 1 << 2
	incompatCompression = 1 << 3
	incompatExtendedL2  = 1 << 4

	extensionBackingFormat = 0xe2792aca

	offsetMask     = 0x00fffffffffffe00
	flagCompressed = 1 << 62
	flagZero       = 1

	maxVirtual = 1 << 50 // bytes of a disk
	maxL1      = 32 << 20
)

// qcow2 reads one image of the chain.
type qcow2 struct {
	blocks
	clusterBits uint
	zstd        bool
	l1          []uint64
	backing     backingFile
}

func newQCOW2(r io.ReaderAt, fileSize int64) (*qcow2, error) {
	h := make([]byte, 112)
	if err := readFull(r, h[:72], 0); err != nil {
		return nil, corrupt("it is too short for a qcow2 header")
	}
	be := binary.BigEndian
	if be.Uint32(h) != qcow2Magic {
		return nil, corrupt("it is no qcow2 image")
	}
	q := &qcow2{blocks: newBlocks(r, fileSize)}
	q.find, q.unpack = q.place, q.chunk
	version, headerLength := be.Uint32(h[4:]), int64(72)
	switch version {
	case 2:
	case 3:
		if err := readFull(r, h[:104], 0); err != nil {
			return nil, corrupt("it is too short for a qcow2 header")
		}
		headerLength = int64(be.Uint32(h[100:]))
		if headerLength >= 112 {
			if err := readFull(r, h, 0); err != nil {
				return nil, corrupt("it is too short for its header")
			}
		}
		if err := q.readFeatures(h, headerLength); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("qcow2 version %d is none that herdbook reads: 2, 3", version)
	}
	q.clusterBits, q.size = uint(be.Uint32(h[20:])), int64(be.Uint64(h[24:]))
	switch {
	case q.clusterBits < 9 || q.clusterBits > 21:
		return nil, corrupt("clusters of 2^%d bytes", q.clusterBits)
	case q.size < 0 || q.size > maxVirtual:
		return nil, corrupt("a disk of %d bytes", uint64(q.size))
	case be.Uint32(h[32:]) != 0:
		return nil, fmt.Errorf("the image is encrypted")
	case headerLength < 72 || headerLength > 1<<q.clusterBits:
		return nil, corrupt("a header of %d bytes", headerLength)
	}
	q.block = 1 << q.clusterBits
	if err := q.readBacking(h, headerLength); err != nil {
		return nil, err
	}
	return q, q.readL1(int64(be.Uint32(h[36:])), int64(be.Uint64(h[40:])))
}

func (q *qcow2) readFeatures(h []byte, length int64) error {
	features := binary.BigEndian.Uint64(h[72:])
	switch {
	case features&incompatCorrupt != 0:
		return corrupt("QEMU has marked it so; see qemu-img check")
	case features&incompatExternal != 0:
		return fmt.Errorf("it keeps its data in another file, which herdbook does not read")
	case features&incompatExtendedL2 != 0:
		return fmt.Errorf("it has subclusters (extended_l2), which herdbook does not read")
	case features&^(incompatDirty|incompatCompression) != 0:
		return fmt.Errorf("it has features 0x%x that herdbook does not know", features)
	}
	if features&incompatCompression != 0 {
		if length < 105 || h[104] > 1 {
			return fmt.Errorf("its compression type is none that herdbook reads: zlib, zstd")
		}
		q.zstd = h[104] == 1
	}
	return nil
}

// readBacking reads the backing file's name, and its format from the header's
// extensions.
func (q *qcow2) readBacking(h []byte, headerLength int64) error {
	be := binary.BigEndian
	offset, length := int64(be.Uint64(h[8:])), int64(be.Uint32(h[16:]))
	if offset == 0 {
		return nil
	}
	if length == 0 || length > 1023 || offset < headerLength || offset > 1<<q.clusterBits-length {
		return corrupt("the backing file's name has %d bytes at %d", length, offset)
	}
	first := make([]byte, min(q.fileSize, 1<<q.clusterBits))
	if err := readFull(q.file, first, 0); err != nil {
		return fmt.Errorf("read header: %w", err)
	}
	if offset+length > int64(len(first)) {
		return corrupt("the backing file's name lies behind the end")
	}
	q.backing.name = string(first[offset:][:length])
	for p := first[headerLength:offset]; len(p) >= 8; {
		kind, size := be.Uint32(p), int64(be.Uint32(p[4:]))
		if kind == 0 {
			break
		}
		if size > int64(len(p)-8) {
			return corrupt("a header extension of %d bytes", size)
		}
		if kind == extensionBackingFormat {
			q.backing.format = Format(p[8:][:size])
		}
		p = p[min(int64(len(p)), 8+(size+7)&^7):]
	}
	return nil
}

func (q *qcow2) readL1(entries, offset int64) error {
	perTable := int64(1) << (q.clusterBits - 3)
	need := (q.size + perTable<<q.clusterBits - 1) / (perTable << q.clusterBits)
	if entries < need || need*8 > maxL1 || offset%(1<<q.clusterBits) != 0 || offset < 0 || offset > q.fileSize-need*8 {
		return corrupt("a first-level table of %d entries at %d for a disk of %d bytes", entries, offset, q.size)
	}
	raw := make([]byte, need*8)
	if err := readFull(q.file, raw, offset); err != nil {
		return fmt.Errorf("read first-level table: %w", err)
	}
	q.l1 = make([]uint64, need)
	for i := range q.l1 {
		q.l1[i] = binary.BigEndian.Uint64(raw[8*i:])
	}
	return nil
}

// place finds a cluster in the second-level tables.
func (q *qcow2) place(index int64) (place, error) {
	perTable := int64(1) << (q.clusterBits - 3)
	at := int64(q.l1[index/perTable] & offsetMask)
	if at == 0 {
		return place{}, nil
	}
	if at%q.block != 0 || at > q.fileSize-q.block {
		return place{}, corrupt("a second-level table at %d in a file of %d bytes", at, q.fileSize)
	}
	raw, err := q.entry(at+index%perTable*8, 8)
	if err != nil {
		return place{}, err
	}
	switch entry := binary.BigEndian.Uint64(raw); {
	case entry&flagCompressed != 0:
		return place{kind: blockPacked, entry: entry}, nil
	case entry&flagZero != 0:
		return place{kind: blockZero}, nil
	case entry&offsetMask != 0:
		return place{kind: blockData, at: int64(entry & offsetMask)}, nil
	}
	return place{}, nil
}

// chunk returns a decompressed cluster.
func (q *qcow2) chunk(p place) ([]byte, error) {
	split := 62 - (q.clusterBits - 8)
	start := int64(p.entry & (1<<split - 1))
	sectors := int64(p.entry>>split&(1<<(q.clusterBits-8)-1)) + 1
	length := min(sectors*512-start%512, q.fileSize-start)
	if start >= q.fileSize || length <= 0 {
		return nil, corrupt("a compressed cluster at %d in a file of %d bytes", start, q.fileSize)
	}
	raw := make([]byte, length)
	if err := readFull(q.file, raw, start); err != nil {
		return nil, fmt.Errorf("read compressed cluster: %w", err)
	}
	c := make([]byte, q.block)
	if err := q.decompress(c, raw); err != nil {
		return nil, fmt.Errorf("%w: compressed cluster at %d: %w", ErrCorrupt, start, err)
	}
	return c, nil
}

// decompress fills c from raw, which may have more bytes than belong to it.
func (q *qcow2) decompress(c, raw []byte) error {
	if !q.zstd {
		_, err := io.ReadFull(flate.NewReader(bytes.NewReader(raw)), c)
		return err
	}
	d, err := zstd.NewReader(bytes.NewReader(raw), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		return err
	}
	defer d.Close()
	_, err = io.ReadFull(d, c)
	return err
}

// VirtualSize is that of the disk in a qcow2 chain, in bytes.
func VirtualSize(path string) (int64, error) {
	image, err := Open(path, QCOW2)
	if err != nil {
		return 0, err
	}
	return image.Size(), image.Close()
}
