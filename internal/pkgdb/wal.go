package pkgdb

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The write-ahead log of SQLite (sqlite.org/fileformat2.html#walformat): pages that
// are newer than those of the file. It is there after an unclean shutdown; what was
// committed in it counts.
const (
	walSuffix    = "-wal" // of its name, after the database's
	walHead      = 32
	walFrameHead = 24
	walMagic     = 0x377f0682 // with the last bit set, checksums are of big endian numbers
	walVersion   = 3007000
)

// wal is what a log holds.
type wal struct {
	*file
	page   int              // bytes
	pages  int64            // of the database after the last commit
	frames map[uint32]int64 // where the newest state of a page is
}

// openWAL reads the frames of a log up to the last commit. A log without one is nil.
func openWAL(f *file) (*wal, error) {
	if f.size == 0 {
		return nil, nil
	}
	head, err := f.at(0, walHead)
	if err != nil {
		return nil, err
	}
	be := binary.BigEndian
	magic, version, size := be.Uint32(head), be.Uint32(head[4:]), be.Uint32(head[8:])
	if magic&^1 != walMagic || version != walVersion || size < 512 || size > 64<<10 || size&(size-1) != 0 {
		return nil, fmt.Errorf("it has magic %#x, version %d, pages of %d bytes", magic, version, size)
	}
	sum := walSum{order: binary.LittleEndian}
	if magic&1 != 0 {
		sum.order = binary.BigEndian
	}
	if sum.add(head[:24]); !sum.is(head[24:]) {
		return nil, nil // SQLite takes it for empty, too
	}
	w := &wal{file: f, page: int(size), frames: map[uint32]int64{}}
	if err := w.read(sum, [8]byte(head[16:24])); err != nil || w.pages == 0 {
		return nil, err
	}
	return w, nil
}

// read reads frames until one is not of this log.
func (w *wal) read(sum walSum, salt [8]byte) error {
	open := map[uint32]int64{} // since the last commit
	length := walFrameHead + w.page
	for at := int64(walHead); w.size-at >= int64(length); at += int64(length) {
		frame, err := w.at(at, length)
		if err != nil {
			return err
		}
		sum.add(frame[:8])
		sum.add(frame[walFrameHead:])
		if [8]byte(frame[8:16]) != salt || !sum.is(frame[16:24]) {
			return nil // of an older log, or torn
		}
		number, pages := binary.BigEndian.Uint32(frame), binary.BigEndian.Uint32(frame[4:])
		if number == 0 {
			return errors.New("a frame is of page 0")
		}
		open[number] = at + walFrameHead
		if pages == 0 {
			continue
		}
		for n, at := range open {
			w.frames[n] = at
		}
		w.pages = int64(pages)
		clear(open)
	}
	return nil
}

// walSum is the running checksum of a log.
type walSum struct {
	order binary.ByteOrder
	a, b  uint32
}

func (s *walSum) add(p []byte) {
	for ; len(p) >= 8; p = p[8:] {
		s.a += s.order.Uint32(p) + s.b
		s.b += s.order.Uint32(p[4:]) + s.a
	}
}

func (s *walSum) is(p []byte) bool {
	return s.a == binary.BigEndian.Uint32(p) && s.b == binary.BigEndian.Uint32(p[4:])
}
