package disk

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

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

	maxVirtual  = 1 << 50 // bytes of a disk
	maxL1       = 32 << 20
	cacheTables = 64 // L2 tables kept
	cacheChunks = 8  // decompressed clusters kept
)

// qcow2 reads one image of the chain.
type qcow2 struct {
	r             io.ReaderAt
	fileSize      int64
	size          int64
	clusterBits   uint
	zstd          bool
	l1            []uint64
	backing       string
	backingFormat Format
	behind        io.ReaderAt // nil for none
	behindSize    int64

	mu     sync.Mutex
	tables map[uint64][]byte
	order  []uint64
	chunks map[uint64][]byte
	recent []uint64
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
	q := &qcow2{r: r, fileSize: fileSize, tables: map[uint64][]byte{}, chunks: map[uint64][]byte{}}
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
	if err := readFull(q.r, first, 0); err != nil {
		return fmt.Errorf("read header: %w", err)
	}
	if offset+length > int64(len(first)) {
		return corrupt("the backing file's name lies behind the end")
	}
	q.backing = string(first[offset:][:length])
	for p := first[headerLength:offset]; len(p) >= 8; {
		kind, size := be.Uint32(p), int64(be.Uint32(p[4:]))
		if kind == 0 {
			break
		}
		if size > int64(len(p)-8) {
			return corrupt("a header extension of %d bytes", size)
		}
		if kind == extensionBackingFormat {
			q.backingFormat = Format(p[8:][:size])
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
	if err := readFull(q.r, raw, offset); err != nil {
		return fmt.Errorf("read first-level table: %w", err)
	}
	q.l1 = make([]uint64, need)
	for i := range q.l1 {
		q.l1[i] = binary.BigEndian.Uint64(raw[8*i:])
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (q *qcow2) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read disk at %d: before its start", off)
	}
	if off >= q.size {
		return 0, io.EOF
	}
	var end error
	if int64(len(p)) > q.size-off {
		p, end = p[:q.size-off], io.EOF
	}
	for done := 0; done < len(p); {
		n, err := q.readRun(p[done:], off+int64(done))
		if err != nil {
			return done, fmt.Errorf("read disk at %d: %w", off+int64(done), err)
		}
		done += n
	}
	return len(p), end
}

// readRun reads as much of p as lies in one run of clusters of one kind.
func (q *qcow2) readRun(p []byte, off int64) (int, error) {
	cluster := int64(1) << q.clusterBits
	entry, err := q.entry(off)
	if err != nil {
		return 0, err
	}
	n := min(int64(len(p)), cluster-off%cluster)
	if entry&flagCompressed != 0 {
		chunk, err := q.chunk(entry)
		if err != nil {
			return 0, err
		}
		return copy(p[:n], chunk[off%cluster:]), nil
	}
	kind := q.kind(entry)
	start := int64(entry&offsetMask) + off%cluster
	for n < int64(len(p)) { // more clusters that go on in the same way
		next, err := q.entry(off + n)
		if err != nil {
			return 0, err
		}
		if next&flagCompressed != 0 || q.kind(next) != kind || kind == clusterData && int64(next&offsetMask) != start+n {
			break
		}
		n = min(int64(len(p)), n+cluster)
	}
	switch kind {
	case clusterZero:
		clear(p[:n])
	case clusterBehind:
		return int(n), q.readBehind(p[:n], off)
	default:
		if start > q.fileSize {
			return 0, corrupt("a cluster at %d in a file of %d bytes", start, q.fileSize)
		}
		// The last cluster of a file may be cut short; the rest reads as zeros.
		have := min(n, q.fileSize-start)
		clear(p[have:n])
		return int(n), readFull(q.r, p[:have], start)
	}
	return int(n), nil
}

const (
	clusterData = iota
	clusterZero
	clusterBehind
)

func (q *qcow2) kind(entry uint64) int {
	switch {
	case entry&flagZero != 0:
		return clusterZero
	case entry&offsetMask != 0:
		return clusterData
	}
	return clusterBehind
}

func (q *qcow2) readBehind(p []byte, off int64) error {
	have := max(0, min(int64(len(p)), q.behindSize-off))
	clear(p[have:])
	if q.behind == nil || have == 0 {
		clear(p)
		return nil
	}
	return readFull(q.behind, p[:have], off)
}

// entry returns the second-level entry of the cluster that holds off.
func (q *qcow2) entry(off int64) (uint64, error) {
	index := uint64(off) >> q.clusterBits
	perTable := uint64(1) << (q.clusterBits - 3)
	at := q.l1[index/perTable] & offsetMask
	if at == 0 {
		return 0, nil
	}
	table, err := q.table(at)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(table[index%perTable*8:]), nil
}

func (q *qcow2) table(at uint64) ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t, ok := q.tables[at]; ok {
		return t, nil
	}
	if at%(1<<q.clusterBits) != 0 || int64(at) > q.fileSize-1<<q.clusterBits {
		return nil, corrupt("a second-level table at %d in a file of %d bytes", at, q.fileSize)
	}
	t := make([]byte, 1<<q.clusterBits)
	if err := readFull(q.r, t, int64(at)); err != nil {
		return nil, fmt.Errorf("read second-level table: %w", err)
	}
	q.tables[at], q.order = t, append(q.order, at)
	if len(q.order) > cacheTables {
		delete(q.tables, q.order[0])
		q.order = q.order[1:]
	}
	return t, nil
}

// chunk returns a decompressed cluster.
func (q *qcow2) chunk(entry uint64) ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c, ok := q.chunks[entry]; ok {
		return c, nil
	}
	split := 62 - (q.clusterBits - 8)
	start := int64(entry & (1<<split - 1))
	sectors := int64(entry>>split&(1<<(q.clusterBits-8)-1)) + 1
	length := min(sectors*512-start%512, q.fileSize-start)
	if start >= q.fileSize || length <= 0 {
		return nil, corrupt("a compressed cluster at %d in a file of %d bytes", start, q.fileSize)
	}
	raw := make([]byte, length)
	if err := readFull(q.r, raw, start); err != nil {
		return nil, fmt.Errorf("read compressed cluster: %w", err)
	}
	c := make([]byte, 1<<q.clusterBits)
	if err := q.decompress(c, raw); err != nil {
		return nil, fmt.Errorf("%w: compressed cluster at %d: %w", ErrCorrupt, start, err)
	}
	q.chunks[entry], q.recent = c, append(q.recent, entry)
	if len(q.recent) > cacheChunks {
		delete(q.chunks, q.recent[0])
		q.recent = q.recent[1:]
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
