package btrfs

import (
	"cmp"
	"fmt"
	"slices"
)

// span is a run of bytes of the device.
type span struct{ start, end int64 }

// superblocks are where the first MiB and the copies of the superblock lie.
var superblocks = []span{{0, 1 << 20}, {64 << 20, 64<<20 + 64<<10}, {256 << 30, 256<<30 + 64<<10}}

// UsedRanges calls fn for every run of bytes of the device that the file system has
// in use, in order and without overlap: data, metadata with their copies, and the
// superblocks. What lies between was freed or never used.
func (f *FS) UsedRanges(fn func(start, length int64) error) error {
	v := f.v
	root, err := v.treeRoot(extentTree)
	if err != nil {
		return fmt.Errorf("find extent tree: %w", err)
	}
	var used []span
	for _, s := range superblocks {
		if s = (span{s.start, min(s.end, v.total)}); s.start < s.end {
			used = append(used, s)
		}
	}
	open := map[int]int{} // number of a copy → where the run is that may grow
	err = v.scan(root, key{}, func(k key, _ []byte) (bool, error) {
		length := int64(k.offset)
		switch k.kind {
		case metadataItem:
			length = v.nodeSize
		case extentItem:
		default:
			return true, nil
		}
		c, err := v.chunkAt(k.object, max(length, 0))
		if err != nil || length <= 0 {
			return false, err
		}
		for i, at := range c.copies {
			s := span{start: at + int64(k.object) - c.logical}
			s.end = s.start + length
			if j, ok := open[i]; ok && used[j].end == s.start {
				used[j].end = s.end
				continue
			}
			open[i] = len(used)
			used = append(used, s)
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("read extent tree: %w", err)
	}
	return merge(used, fn)
}

// merge calls fn for runs in order, those that touch as one.
func merge(list []span, fn func(start, length int64) error) error {
	slices.SortFunc(list, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	var run span
	for _, s := range list {
		if s.start <= run.end {
			run.end = max(run.end, s.end)
			continue
		}
		if err := fn(run.start, run.end-run.start); err != nil {
			return err
		}
		run = s
	}
	if run.end > run.start {
		return fn(run.start, run.end-run.start)
	}
	return nil
}
