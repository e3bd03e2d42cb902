package disk

import (
	"fmt"
	"io"
	"sync"
)

// A block is in one of these states.
const (
	blockBehind = iota // what lies behind the image, zeros if nothing does
	blockZero
	blockData   // as it is, from place.at on
	blockPacked // unpack knows
)

// place is where a block is.
type place struct {
	kind  int
	at    int64  // byte of the file
	entry uint64 // of a packed block: what unpack needs besides
}

// blocks reads a disk that a file keeps in blocks of one size, each of them where
// tables say: what qcow2, VMDK, VHDX and VDI have in common.
type blocks struct {
	file       io.ReaderAt
	fileSize   int64
	size       int64 // of the disk
	block      int64 // bytes of a block
	behind     io.ReaderAt
	behindSize int64

	find   func(index int64) (place, error)
	unpack func(p place) ([]byte, error) // nil if no block is packed
	pages  cache[int64, []byte]
	chunks cache[place, []byte]
}

const (
	pageSize    = 64 << 10
	cachePages  = 64 // pages of tables kept
	cacheChunks = 8  // unpacked blocks kept
)

func newBlocks(file io.ReaderAt, fileSize int64) blocks {
	return blocks{file: file, fileSize: fileSize, pages: cache[int64, []byte]{limit: cachePages}, chunks: cache[place, []byte]{limit: cacheChunks}}
}

// ReadAt implements io.ReaderAt.
func (b *blocks) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read disk at %d: before its start", off)
	}
	if off >= b.size {
		return 0, io.EOF
	}
	var end error
	if int64(len(p)) > b.size-off {
		p, end = p[:b.size-off], io.EOF
	}
	for done := 0; done < len(p); {
		n, err := b.readRun(p[done:], off+int64(done))
		if err != nil {
			return done, fmt.Errorf("read disk at %d: %w", off+int64(done), err)
		}
		done += n
	}
	return len(p), end
}

// run tells where the byte at off is, and how many of the next limit bytes go on
// from there in the same way.
func (b *blocks) run(off, limit int64) (place, int64, error) {
	first, err := b.find(off / b.block)
	if err != nil {
		return place{}, 0, err
	}
	n := min(limit, b.block-off%b.block)
	if first.kind == blockPacked {
		return first, n, nil
	}
	first.at += off % b.block
	for n < limit {
		next, err := b.find((off + n) / b.block)
		if err != nil {
			return place{}, 0, err
		}
		if next.kind != first.kind || next.kind == blockData && next.at != first.at+n {
			break
		}
		n = min(limit, n+b.block)
	}
	return first, n, nil
}

// readRun reads as much of p as lies in one run.
func (b *blocks) readRun(p []byte, off int64) (int, error) {
	from, n, err := b.run(off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	p = p[:n]
	switch from.kind {
	case blockBehind:
		return int(n), b.readBehind(p, off)
	case blockZero:
		clear(p)
		return int(n), nil
	case blockPacked:
		chunk, err := b.chunks.get(from, func() ([]byte, error) { return b.unpack(from) })
		if err != nil {
			return 0, err
		}
		return copy(p, chunk[off%b.block:]), nil
	}
	if from.at > b.fileSize {
		return 0, corrupt("a block at %d in a file of %d bytes", from.at, b.fileSize)
	}
	// The last block of a file may be cut short; the rest reads as zeros.
	have := min(n, b.fileSize-from.at)
	clear(p[have:])
	return int(n), readFull(b.file, p[:have], from.at)
}

func (b *blocks) readBehind(p []byte, off int64) error {
	have := max(0, min(int64(len(p)), b.behindSize-off))
	clear(p[have:])
	if have == 0 {
		return nil
	}
	return readFull(b.behind, p[:have], off)
}

// entry returns n bytes of a table, which begin at a multiple of n.
func (b *blocks) entry(at, n int64) ([]byte, error) {
	if at < 0 || at > b.fileSize-n {
		return nil, corrupt("an entry of a table at %d in a file of %d bytes", at, b.fileSize)
	}
	start := at - at%pageSize
	page, err := b.pages.get(start, func() ([]byte, error) {
		page := make([]byte, min(pageSize, b.fileSize-start))
		return page, readFull(b.file, page, start)
	})
	if err != nil {
		return nil, fmt.Errorf("read table at %d: %w", at, err)
	}
	return page[at-start:][:n], nil
}

// cache keeps the last values that were made. It is safe for concurrent use and
// makes one value at a time.
type cache[K comparable, V any] struct {
	limit int
	mu    sync.Mutex
	kept  map[K]V
	order []K
}

func (c *cache[K, V]) get(key K, fresh func() (V, error)) (V, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.kept[key]; ok {
		return v, nil
	}
	v, err := fresh()
	if err != nil {
		return v, err
	}
	if c.kept == nil {
		c.kept = map[K]V{}
	}
	c.kept[key], c.order = v, append(c.order, key)
	if len(c.order) > c.limit {
		delete(c.kept, c.order[0])
		c.order = c.order[1:]
	}
	return v, nil
}
