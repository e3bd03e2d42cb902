package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxDiscard is how much is given back at a time, in bytes: QEMU takes less than
// 2 GiB, and no cluster lies across a multiple of this.
const maxDiscard = 1 << 30

// Discard makes byte ranges of a raw or qcow2 image read as zeros and gives what is
// whole of their blocks back to the host's file system. What an image behind it
// holds stays there. On an error some of the ranges may have been done.
//
// The file of a qcow2 image loses all that was left in clusters which belong to
// nothing. An image with internal snapshots is refused, since those keep the bytes.
// Of a compressed cluster the packed bytes stay as long as another one shares their
// block; Flatten gets rid of them.
func Discard(ctx context.Context, path string, format Format, ranges []Range) error {
	err := checkDiscard(path, format, ranges)
	switch {
	case err != nil:
	case format == Raw:
		err = discardRaw(ctx, path, ranges)
	default:
		err = discardQCOW2(ctx, path, ranges)
	}
	if err != nil {
		return fmt.Errorf("discard in disk image %s: %w", path, err)
	}
	return nil
}

// checkDiscard refuses before anything is touched.
func checkDiscard(path string, format Format, ranges []Range) (err error) {
	if format != Raw && format != QCOW2 {
		return fmt.Errorf("format %q is none that herdbook discards in: raw, qcow2", format)
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := sizeAlone(file, format)
	if err != nil {
		return err
	}
	if format == QCOW2 {
		snapshots := make([]byte, 4)
		if err := readFull(file, snapshots, 60); err != nil {
			return err
		}
		if n := binary.BigEndian.Uint32(snapshots); n > 0 {
			return refuse("it has %d internal snapshots, which keep what is discarded; see qemu-img snapshot -d", n)
		}
	}
	return checkRanges(ranges, size)
}

func checkRanges(ranges []Range, size int64) error {
	for _, r := range ranges {
		if r.Start < 0 || r.Size < 0 || r.Start > size-r.Size {
			return fmt.Errorf("%d bytes at %d do not lie on a disk of %d", r.Size, r.Start, size)
		}
	}
	return nil
}

// sizeAlone is the size of the disk in an image, whatever stands behind it.
func sizeAlone(file *os.File, format Format) (int64, error) {
	stat, err := file.Stat()
	if err != nil {
		return 0, err
	}
	if !stat.Mode().IsRegular() {
		return 0, errors.New("it is no regular file")
	}
	if format == Raw {
		return stat.Size(), nil
	}
	b, _, err := newImage(file, stat.Size(), format)
	if err != nil {
		return 0, err
	}
	return b.size, nil
}

// discardRaw punches holes. The kernel writes zeros where a range covers a part of
// a block; where the file system has no holes, we do.
func discardRaw(ctx context.Context, path string, ranges []Range) (err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := lock(file); err != nil {
		return err
	}
	for _, r := range split(ranges, maxDiscard) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := punch(ctx, file, r); err != nil {
			return err
		}
	}
	return file.Sync()
}

// lock keeps QEMU away from an image until the file is closed. QEMU locks some of the
// bytes from 100 on, by what it does with an image and what others may do.
func lock(file *os.File) error {
	all := unix.Flock_t{Type: unix.F_WRLCK, Start: 100, Len: 200}
	err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &all)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return errors.New("another process has locked it: is a machine running on it?")
	}
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	return nil
}

func punch(ctx context.Context, file *os.File, r Range) error {
	err := unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, r.Start, r.Size)
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = writeZeros(ctx, file, r)
	}
	if err != nil {
		return fmt.Errorf("punch a hole of %d bytes at %d: %w", r.Size, r.Start, err)
	}
	return nil
}

func writeZeros(ctx context.Context, file *os.File, r Range) error {
	zeros := make([]byte, pageSize)
	for _, part := range split([]Range{r}, pageSize) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, err := file.WriteAt(zeros[:part.Size], part.Start); err != nil {
			return err
		}
	}
	return nil
}

// split cuts ranges at the multiples of a size, and leaves out those of no bytes.
func split(ranges []Range, at int64) []Range {
	var parts []Range
	for _, r := range ranges {
		for r.Size > 0 {
			n := min(r.Size, at-r.Start%at)
			parts = append(parts, Range{r.Start, n})
			r.Start, r.Size = r.Start+n, r.Size-n
		}
	}
	return parts
}

// discardQCOW2 has qemu-io write zeros, which unmaps whole clusters. It does so only
// where the image has something, since zeros take tables, too. What QEMU frees when
// a cluster gets another place it leaves in the file, as do some of its commands.
func discardQCOW2(ctx context.Context, path string, ranges []Range) error {
	image, err := Open(path, QCOW2)
	if err != nil {
		return err
	}
	var commands bytes.Buffer
	for _, r := range ranges {
		err := maybeData(image.ReaderAt, r, func(part Range) error {
			for _, p := range split([]Range{part}, maxDiscard) {
				fmt.Fprintf(&commands, "write -q -z -u %d %d\n", p.Start, p.Size)
			}
			return nil
		})
		if err != nil {
			return errors.Join(err, image.Close())
		}
	}
	if err := image.Close(); err != nil {
		return err
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if commands.Len() > 0 {
		if err := qemuIO(ctx, absolute, &commands); err != nil {
			return err
		}
	}
	// The counts of references must be right before they are trusted.
	if _, err := qemuImg(ctx, "check", "-q", "-f", string(QCOW2), "-r", "leaks", absolute); err != nil {
		return err
	}
	return punchFree(ctx, path)
}

// qemuIO runs commands on a qcow2 image. With -q one that does what it shall says
// nothing after the prompt; after one that fails qemu-io goes on.
func qemuIO(ctx context.Context, path string, commands *bytes.Buffer) error {
	var out bytes.Buffer
	err := runQEMU(ctx, "qemu-io", commands, &out, "-f", string(QCOW2), "-d", "unmap", path)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	said := strings.TrimSpace(strings.ReplaceAll(out.String(), "qemu-io> ", ""))
	if err != nil || said != "" {
		return errors.Join(err, fmt.Errorf("qemu-io said %.200q", said))
	}
	return nil
}

// punchFree punches holes where the file of a qcow2 image has what belongs to nothing.
func punchFree(ctx context.Context, path string) (err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := lock(file); err != nil {
		return err
	}
	stat, err := file.Stat()
	if err != nil {
		return err
	}
	q, err := newQCOW2(file, stat.Size())
	if err != nil {
		return err
	}
	err = q.free(func(r Range) error {
		return dataOfFile(file, r, func(part Range) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return punch(ctx, file, part)
		})
	})
	if err != nil {
		return err
	}
	return file.Sync()
}
