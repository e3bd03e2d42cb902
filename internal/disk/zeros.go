package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ReadsZero returns nil if every byte of the ranges reads as zero, and otherwise an
// error that names the first that does not. It reads only what is no hole in a raw
// file, and no zeros by the tables of another image.
func ReadsZero(image *Image, ranges []Range) error {
	if err := checkRanges(ranges, image.size); err != nil {
		return fmt.Errorf("read zeros: %w", err)
	}
	p, zeros := make([]byte, 4*pageSize), make([]byte, 4*pageSize)
	for _, r := range ranges {
		err := maybeData(image.ReaderAt, r, func(part Range) error {
			for _, s := range split([]Range{part}, int64(len(p))) {
				if err := readFull(image, p[:s.Size], s.Start); err != nil {
					return err
				}
				if !bytes.Equal(p[:s.Size], zeros[:s.Size]) {
					first := bytes.IndexFunc(p[:s.Size], func(r rune) bool { return r != 0 })
					return fmt.Errorf("byte %d is not zero", s.Start+int64(first))
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("read zeros: %w", err)
		}
	}
	return nil
}

// Data calls f for all parts of an image that may have other bytes than zeros, in order.
func Data(image *Image, f func(Range) error) error {
	return maybeData(image.ReaderAt, Range{0, image.size}, f)
}

// maybeData calls f for all parts of a range that may have other bytes than zeros.
func maybeData(r io.ReaderAt, in Range, f func(Range) error) error {
	switch r := r.(type) {
	case *os.File:
		return dataOfFile(r, in, f)
	case *blocks:
		return dataOfBlocks(r, in, f)
	}
	return f(in)
}

// dataOfFile asks the kernel for holes.
func dataOfFile(file *os.File, in Range, f func(Range) error) error {
	for off, end := in.Start, in.Start+in.Size; off < end; {
		data, err := file.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && data >= end {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for holes: %w", err)
		}
		hole, err := file.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("look for holes: %w", err)
		}
		if off = min(hole, end); off <= data {
			return fmt.Errorf("look for holes: one at %d behind data at %d", hole, data)
		}
		if err := f(Range{data, off - data}); err != nil {
			return err
		}
	}
	return nil
}

// dataOfBlocks goes by the tables, also by those of what is behind.
func dataOfBlocks(b *blocks, in Range, f func(Range) error) error {
	for off, end := in.Start, in.Start+in.Size; off < end; {
		from, n, err := b.run(off, end-off)
		if err != nil {
			return err
		}
		switch here := (Range{off, n}); from.kind {
		case blockZero:
		case blockBehind:
			if here.Size = min(n, b.behindSize-off); here.Size > 0 {
				err = maybeData(b.behind, here, f)
			}
		default:
			err = f(here)
		}
		if err != nil {
			return err
		}
		off += n
	}
	return nil
}

// Own returns the parts of the ranges that the image's own file has data for, and
// not one of those behind it: what was written since the overlay was made.
func Own(image *Image, ranges []Range) ([]Range, error) {
	b, ok := image.ReaderAt.(*blocks)
	if !ok { // a raw file stands on no other
		return ranges, nil
	}
	var own []Range
	for _, r := range ranges {
		for off, end := r.Start, r.Start+r.Size; off < end; {
			from, n, err := b.run(off, end-off)
			if err != nil {
				return nil, fmt.Errorf("find what an overlay has: %w", err)
			}
			if from.kind == blockData || from.kind == blockPacked {
				own = append(own, Range{off, n})
			}
			off += n
		}
	}
	return own, nil
}
