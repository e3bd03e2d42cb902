package volume

import (
	"fmt"
	"slices"

	"herdbook/internal/disk"
	"herdbook/internal/mapper"
)

// Places are the ranges of the disk that a range of a volume's bytes lies on: more
// than one where it is scattered, or held twice. Of an encrypted volume they hold
// what its bytes were encrypted to.
func (s *Set) Places(v Volume, at disk.Range) ([]disk.Range, error) {
	if v.Err != nil {
		return nil, v.Err
	}
	if at.Start < 0 || at.Size < 0 || at.Start > v.Size-at.Size {
		return nil, fmt.Errorf("%d bytes at %d do not lie in %s", at.Size, at.Start, v.Name)
	}
	return s.places(v.Source, at)
}

func (s *Set) places(source mapper.Source, at disk.Range) ([]disk.Range, error) {
	if source.Device == "" {
		start := s.starts[source.Partition]
		return []disk.Range{{Start: start + at.Start, Size: at.Size}}, nil
	}
	i := slices.IndexFunc(s.devices, func(d mapper.Device) bool { return d.Name == source.Device })
	if i < 0 {
		return nil, fmt.Errorf("there is no device %s", source.Device)
	}
	var list []disk.Range
	for _, t := range s.devices[i].Table {
		start := max(at.Start, t.Start*sector)
		end := min(at.Start+at.Size, (t.Start+t.Length)*sector)
		if start >= end {
			continue
		}
		inside := disk.Range{Start: start - t.Start*sector, Size: end - start}
		for _, share := range shares(t, inside) {
			below, err := s.places(share.source, share.at)
			if err != nil {
				return nil, err
			}
			list = append(list, below...)
		}
	}
	return list, nil
}

// share is a range of what a target stands on.
type share struct {
	source mapper.Source
	at     disk.Range
}

// shares are the ranges on which a range of a target lies.
func shares(t mapper.Target, at disk.Range) []share {
	var list []share
	if t.Type != mapper.Striped {
		for _, a := range t.Areas { // all of them hold it: a mirror has several
			list = append(list, share{a.Source, disk.Range{Start: a.Offset*sector + at.Start, Size: at.Size}})
		}
		return list
	}
	chunk, count := t.Chunk*sector, int64(len(t.Areas))
	for at.Size > 0 {
		number, skip := at.Start/chunk, at.Start%chunk
		n := min(at.Size, chunk-skip)
		a := t.Areas[number%count]
		list = append(list, share{a.Source, disk.Range{Start: a.Offset*sector + number/count*chunk + skip, Size: n}})
		at = disk.Range{Start: at.Start + n, Size: at.Size - n}
	}
	return list
}
