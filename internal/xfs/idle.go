package xfs

import (
	"bytes"
	"fmt"

	"herdbook/internal/filesystem"
)

// logKept is what is kept of each sector of the log, in bytes: in which round it was
// written. XFS finds the log's head by it.
const logKept = 8

// IdleRanges implements filesystem.Idler: the free blocks, and what the log
// holds but for its last record, which says that it is clean.
func (f *FS) IdleRanges(fn func(start, length int64) error) error {
	if f.log.logReader != nil && !f.log.unmounted {
		return ErrDirty
	}
	if err := filesystem.Between(f.Size, f.UsedRanges, fn); err != nil || f.log.logReader == nil {
		return err
	}
	l := f.log
	p := make([]byte, 128*logSector)
	for first := uint64(0); first < l.size; first += 128 {
		part := p[:min(128, l.size-first)*logSector]
		if err := filesystem.ReadFull(f.r, part, l.start+int64(first)*logSector); err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		for i := range uint64(len(part)) / logSector {
			number, sector := first+i, part[i*logSector:][:logSector]
			behind := (number + l.size - l.last) % l.size // the last record's first sector
			if behind < (l.head+l.size-l.last)%l.size || len(bytes.Trim(sector[logKept:], "\x00")) == 0 {
				continue
			}
			if err := fn(l.start+int64(number)*logSector+logKept, logSector-logKept); err != nil {
				return err
			}
		}
	}
	return nil
}
