package ext4

import (
	"fmt"

	"herdbook/internal/filesystem"
)

// IdleRanges implements filesystem.Idler: the free blocks, and those of the
// journal but for its superblock.
func (f *FS) IdleRanges(fn func(start, length int64) error) error {
	if f.incompat&incompatRecover != 0 {
		return filesystem.ErrDirty
	}
	if err := filesystem.Between(f.Size, f.UsedRanges, fn); err != nil {
		return err
	}
	if f.compat&compatHasJournal == 0 || f.journalInode == 0 {
		return nil
	}
	j, err := f.openJournal()
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	if j.start != 0 {
		return filesystem.ErrDirty
	}
	for _, e := range j.file.extents {
		first := max(e.logical, uint64(j.first)) // what lies before is the superblock's
		if end := e.logical + e.count; first < end {
			if err := fn(int64(e.physical+first-e.logical)*f.block, int64(end-first)*f.block); err != nil {
				return err
			}
		}
	}
	return nil
}
