package xfs

import (
	"encoding/binary"
	"errors"
	"fmt"

	"herdbook/internal/filesystem"
)

// The log is a ring of sectors of 512 bytes. Each begins with the number of the
// round in which it was written, its cycle, or with the magic number of a record's header and
// then the cycle. What of a record's data stood there is in its header.
const (
	logSector   = 512
	recordMagic = 0xFEEDBABE
	cycleData   = 64 * logSector // bytes of data that one sector of header keeps cycles of
	maxRecord   = 520            // sectors of a record: 256 KiB and their header
	maxRecords  = 64             // between tail and head, of which it is known what they hold
	opSize      = 12             // bytes of an operation's header
	formatLinux = 1              // little-endian, as amd64 and arm64 write it
)

// Bits of an operation.
const (
	opStart     = 0x01
	opCommit    = 0x02
	opContinued = 0x04 | 0x08 // in the next record, from the last
	opEnd       = 0x10
	opUnmount   = 0x20
)

// checkLog makes sure that the log holds nothing that is not in its place, too:
// its last record was written by unmounting or by mkfs.xfs, or all of it that would be
// replayed are copies of the superblock, as freezing leaves it.
func (f *FS) checkLog() error {
	l, err := f.openLog()
	if err != nil {
		return err
	}
	head, empty, err := l.head()
	if err != nil || empty {
		return err
	}
	last, err := l.lastRecord(head)
	if err != nil {
		return err
	}
	f.log = logState{l, last.at, head, false}
	if last.ops == 1 && l.after(last.data, last.sectors) == head {
		p, err := l.sector(last.data)
		f.log.unmounted = err == nil && p[9]&opUnmount != 0
		if err != nil || f.log.unmounted {
			return err
		}
	}
	return l.checkCovered(last, head)
}

// logState is what was found of the log; all zero if it is empty.
type logState struct {
	*logReader
	last, head uint64 // the last record's sector, and the one behind that record
	unmounted  bool   // and not only frozen
}

// logReader reads the log's sectors by their numbers.
type logReader struct {
	f     *FS
	start int64 // bytes
	size  uint64
}

func (f *FS) openLog() (*logReader, error) {
	if f.logStart == 0 {
		return nil, errors.New("it is on another device, and so nobody can tell whether the file system is whole")
	}
	block, err := f.linear(f.logStart, f.logBlocks)
	if err != nil {
		return nil, err
	}
	if f.logBlocks == 0 {
		return nil, corrupt("a log without blocks")
	}
	return &logReader{f, int64(block) * f.block, f.logBlocks << (f.blockLog - 9)}, nil
}

func (l *logReader) sector(number uint64) ([]byte, error) {
	p := make([]byte, logSector)
	return p, filesystem.ReadFull(l.f.r, p, l.start+int64(number)*logSector)
}

// after is the sector that follows count sectors from number on.
func (l *logReader) after(number, count uint64) uint64 { return (number + count) % l.size }

// cycle is the round in which a sector was written; 0 if it never was.
func (l *logReader) cycle(number uint64) (uint32, error) {
	p, err := l.sector(number)
	if first := binary.BigEndian.Uint32(p); err != nil || first != recordMagic {
		return first, err
	}
	return binary.BigEndian.Uint32(p[4:]), err
}

// head finds the sector that will be written next: the first that is of an older
// round than the log's first one. A log of zeros is empty.
func (l *logReader) head() (head uint64, empty bool, err error) {
	first, err := l.cycle(0)
	if err != nil || first == 0 {
		return 0, first == 0, err
	}
	low, high := uint64(0), l.size // of this round, not of it
	for high-low > 1 {
		middle := low + (high-low)/2
		c, err := l.cycle(middle)
		if err != nil {
			return 0, false, err
		}
		if c == first {
			low = middle
		} else {
			high = middle
		}
	}
	return high % l.size, false, nil
}

// record is the header of a record.
type record struct {
	at      uint64 // its sector
	data    uint64 // the first sector of its data
	sectors uint64 // of its data
	ops     uint32
	tail    uint64 // the sector at which a replay would begin
	format  uint32
	header  []byte // all sectors of it
}

// lastRecord finds the record that ends at or reaches closest to the head.
func (l *logReader) lastRecord(head uint64) (record, error) {
	for back := uint64(1); back <= min(maxRecord, l.size); back++ {
		at := l.after(head, l.size-back)
		p, err := l.sector(at)
		if err != nil {
			return record{}, err
		}
		if binary.BigEndian.Uint32(p) == recordMagic {
			return l.record(at)
		}
	}
	return record{}, fmt.Errorf("no record in front of sector %d: %w", head, ErrDirty)
}

// record reads the header of a record.
func (l *logReader) record(at uint64) (record, error) {
	p, err := l.sector(at)
	if err != nil {
		return record{}, err
	}
	be := binary.BigEndian
	if be.Uint32(p) != recordMagic {
		return record{}, fmt.Errorf("no record at sector %d: %w", at, ErrDirty)
	}
	headers, length := uint64(1), uint64(be.Uint32(p[12:]))
	if size := uint64(be.Uint32(p[320:])); be.Uint32(p[8:])&2 != 0 && size > cycleData {
		headers = (size + cycleData - 1) / cycleData
	}
	if headers > maxRecord || length > maxRecord*logSector {
		return record{}, corrupt("a record of %d bytes at sector %d", length, at)
	}
	r := record{
		at: at, data: l.after(at, headers), sectors: (length + logSector - 1) / logSector,
		ops: be.Uint32(p[40:]), tail: uint64(be.Uint32(p[28:])), format: be.Uint32(p[300:]), header: p,
	}
	for i := uint64(1); i < headers; i++ {
		p, err := l.sector(l.after(at, i))
		if err != nil {
			return record{}, err
		}
		r.header = append(r.header, p...)
	}
	return r, nil
}

// content reads the data of a record, with all words in their places.
func (l *logReader) content(r record) ([]byte, error) {
	data := make([]byte, 0, r.sectors*logSector)
	for i := range r.sectors {
		p, err := l.sector(l.after(r.data, i))
		if err != nil {
			return nil, err
		}
		word := 44 + 4*i // the first 64 are in the header itself
		if i >= 64 {
			word = i/64*logSector + 4 + 4*(i%64)
		}
		if word+4 > uint64(len(r.header)) {
			return nil, corrupt("the record at sector %d has more data than its header says", r.at)
		}
		copy(p, r.header[word:word+4])
		data = append(data, p...)
	}
	return data, nil
}

// checkCovered goes through what a replay would go through.
func (l *logReader) checkCovered(last record, head uint64) error {
	at := last.tail
	if at >= l.size {
		return corrupt("the log's tail is sector %d of %d", at, l.size)
	}
	for range maxRecords {
		r, err := l.record(at)
		if err != nil {
			return err
		}
		data, err := l.content(r)
		if err != nil {
			return err
		}
		if r.format != formatLinux || !onlySuperblocks(data, r.ops) {
			return ErrDirty
		}
		if at = l.after(r.data, r.sectors); at == head {
			return nil
		}
	}
	return ErrDirty
}
