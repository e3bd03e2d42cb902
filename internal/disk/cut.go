package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Cut is how a disk loses its end, which no partition takes.
type Cut struct {
	Size   int64   // bytes that the disk is left with
	Writes []Write // to be made in this order, before or after the cut
}

// ldm is the type of an MBR's partitions that are Windows' dynamic disk, which keeps
// its database behind them.
const ldm = "0x42"

// CutTail tells how small a disk of size bytes can be without a partition being moved,
// renumbered or made smaller: it ends behind the last of them and the GPT's backup,
// which goes to the new end, at a multiple of 1 MiB. All else that the table says stays
// as it is.
//
// Where there is nothing to gain the cut has the disk's size and no writes: so it is
// with a file system on the whole disk, a table without partitions, and what herdbook
// does not change (a hybrid MBR, a dynamic disk).
func CutTail(r io.ReaderAt, size int64) (*Cut, error) {
	c, err := cutTail(r, size)
	if err != nil {
		return nil, fmt.Errorf("cut the end of a disk: %w", err)
	}
	if c.Size >= size {
		c = &Cut{Size: size}
	}
	return c, nil
}

func cutTail(r io.ReaderAt, size int64) (*Cut, error) {
	whole := &Cut{Size: size}
	table, err := ReadTable(r, size)
	if errors.Is(err, ErrNoTable) {
		return whole, nil
	}
	if err != nil {
		return nil, err
	}
	end := int64(0)
	for _, p := range table.Partitions {
		if p.Type == ldm {
			return whole, nil
		}
		end = max(end, p.Start+p.Size)
	}
	switch {
	case end == 0:
		return whole, nil
	case table.Kind == "gpt":
		return cutGPT(r, size, end)
	}
	return &Cut{Size: aligned(end)}, nil
}

// aligned rounds up to 1 MiB.
func aligned(n int64) int64 { return (n + alignment - 1) / alignment * alignment }

// cutGPT goes by the first copy, which must be good; see growGPT. The last partition
// ends at a byte.
func cutGPT(r io.ReaderAt, size, end int64) (*Cut, error) {
	first, err := loadGPT(r, size, sector)
	if err != nil {
		return nil, fmt.Errorf("the first GPT is damaged; repair it with gdisk: %w", err)
	}
	c := &Cut{Size: aligned(max(end, first.end()) + (first.sectors()+1)*sector)}
	if c.Size >= size {
		return c, nil
	}
	mbr := make([]byte, sector)
	if err := readFull(r, mbr, 0); err != nil {
		return nil, err
	}
	if growProtective(mbr, c.Size/sector) != nil {
		return &Cut{Size: size}, nil // a hybrid one
	}
	table, err := first.table(size)
	if err != nil {
		return nil, err
	}
	stale, err := first.stale(r, size, table)
	if err != nil {
		return nil, err
	}
	last := c.Size/sector - 1
	backup := last - first.sectors()
	c.Writes = append(first.placed(uint64(last), uint64(backup)), Write{0, mbr})
	if stale.Size = min(stale.Size, backup*sector-stale.Start); stale.Size > 0 {
		c.Writes = append(c.Writes, Write{stale.Start, make([]byte, stale.Size)})
	}
	return c, nil
}

// CutOverlay makes a qcow2 overlay at dst on the qcow2 image src, with the disk as
// CutTail cuts it, and returns dst. Where there is nothing to cut none is made, and it
// returns src.
func CutOverlay(ctx context.Context, src, dst string) (string, error) {
	path, err := cutOverlay(ctx, src, dst)
	if err != nil {
		return "", fmt.Errorf("cut disk image %s: %w", src, err)
	}
	return path, nil
}

func cutOverlay(ctx context.Context, src, dst string) (_ string, err error) {
	image, err := Open(src, QCOW2)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, image.Close()) }()
	cut, err := CutTail(image, image.Size())
	if err != nil || cut.Size == image.Size() {
		return src, err
	}
	backing, err := filepath.Abs(src)
	if err != nil {
		return "", err
	}
	if err := CreateOverlay(ctx, dst, backing, QCOW2, cut.Size); err != nil {
		return "", err
	}
	if err := Apply(ctx, dst, cut.Writes); err != nil {
		return "", errors.Join(err, os.Remove(dst))
	}
	return dst, nil
}
