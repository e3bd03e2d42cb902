// Package lvm reads the metadata of LVM2: the label of a physical volume, its
// metadata areas, and the text in them that says which volume group it belongs to
// and which logical volumes lie where. Of what is on a disk it changes nothing but
// identifiers; where the bytes of a logical volume are is left to its caller.
//
// The format is that of LVM2's lib/format_text: layout.h for the headers,
// import_vsn1.c for the text. Nothing in an image is taken on trust: checksums
// are verified and every number is bounded.
package lvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ErrNotLVM says that there is no label of a physical volume.
var ErrNotLVM = errors.New("not an LVM physical volume")

// ErrCorrupt is wrapped by every error that says that metadata contradict
// themselves or the format.
var ErrCorrupt = errors.New("LVM metadata are corrupt")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

const (
	sector   = 512
	idLength = 32
	// maxText bounds the text of a volume group, in bytes. A group of a thousand
	// volumes has half of one MiB.
	maxText  = 4 << 20
	maxAreas = 16
	// firstSum is what LVM begins a CRC with.
	firstSum = 0xf597a6cf
	ignored  = 1 // flag of a metadata area that is not in use
	magic    = " LVM2 x[5A%r0N*>"
)

// PhysicalVolume is a disk or a partition with a label.
type PhysicalVolume struct {
	ID    string // as LVM writes it, with dashes
	Group *Group // what its own metadata say; nil if it keeps none
}

// Open reads a physical volume of size bytes.
func Open(r io.ReaderAt, size int64) (*PhysicalVolume, error) {
	label, err := findLabel(r, size)
	if err != nil {
		return nil, err
	}
	pv := &PhysicalVolume{ID: dashed(string(label[:idLength]))}
	areas, err := metadataAreas(label)
	if err != nil {
		return nil, fmt.Errorf("physical volume %s: %w", pv.ID, err)
	}
	var failed error
	for _, a := range areas {
		text, err := a.read(r, size)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("physical volume %s: %w", pv.ID, err))
			continue
		}
		if text == nil {
			continue
		}
		g, err := parseGroup(text)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("physical volume %s: %w", pv.ID, err))
			continue
		}
		if pv.Group == nil || g.Sequence > pv.Group.Sequence {
			pv.Group = g
		}
	}
	// A damaged area is no matter as long as another is sound.
	if pv.Group == nil && failed != nil {
		return nil, failed
	}
	return pv, nil
}

// findLabel looks for the label in the first four sectors and returns the
// physical volume's header, which stands in the same sector.
func findLabel(r io.ReaderAt, size int64) ([]byte, error) {
	head := make([]byte, 4*sector)
	n, err := r.ReadAt(head[:min(size, int64(len(head)))], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read LVM label: %w", err)
	}
	i, at, err := labelIn(head[:n])
	if err != nil {
		return nil, err
	}
	return head[i*sector:][:sector][at:], nil
}

// labelIn finds the label's sector, and where in it the header begins.
func labelIn(head []byte) (number int, header uint32, err error) {
	le := binary.LittleEndian
	for i := range len(head) / sector {
		s := head[i*sector:][:sector]
		if string(s[:8]) != "LABELONE" || string(s[24:32]) != "LVM2 001" {
			continue
		}
		if le.Uint64(s[8:]) != uint64(i) {
			return 0, 0, corrupt("a label of sector %d in sector %d", le.Uint64(s[8:]), i)
		}
		if sum(s[20:]) != le.Uint32(s[16:]) {
			return 0, 0, corrupt("checksum of the label")
		}
		at := le.Uint32(s[20:])
		if at < 32 || at > sector-idLength-8 {
			return 0, 0, corrupt("a header at byte %d of its sector", at)
		}
		return i, at, nil
	}
	return 0, 0, ErrNotLVM
}

// sum is LVM's CRC: the common polynomial, without the inversions.
func sum(p []byte) uint32 { return ^crc32.Update(^uint32(firstSum), crc32.IEEETable, p) }

// area is a part of a physical volume, in bytes.
type area struct{ offset, size int64 }

// metadataAreas reads the lists of areas that follow the header: first those of
// data, then those of metadata, each ended by an empty one.
func metadataAreas(header []byte) ([]area, error) {
	rest := header[idLength+8:]
	var lists [2][]area
	for i := range lists {
		for {
			if len(rest) < 16 || len(lists[i]) > maxAreas {
				return nil, corrupt("a list of areas without an end")
			}
			offset, size := binary.LittleEndian.Uint64(rest), binary.LittleEndian.Uint64(rest[8:])
			rest = rest[16:]
			if offset == 0 {
				break
			}
			if offset > 1<<62 || size > 1<<62 {
				return nil, corrupt("an area at byte %d", offset)
			}
			lists[i] = append(lists[i], area{int64(offset), int64(size)})
		}
	}
	return lists[1], nil
}

// read reads the text of a metadata area, a ring buffer behind a header of one
// sector; nil if it holds none.
func (a area) read(r io.ReaderAt, size int64) ([]byte, error) {
	if a.size < 2*sector || a.offset > size-a.size {
		return nil, corrupt("a metadata area of %d bytes at byte %d of %d", a.size, a.offset, size)
	}
	h := make([]byte, sector)
	if _, err := r.ReadAt(h, a.offset); err != nil {
		return nil, fmt.Errorf("read metadata area: %w", err)
	}
	le := binary.LittleEndian
	switch {
	case string(h[4:20]) != magic:
		return nil, corrupt("no metadata area at byte %d", a.offset)
	case sum(h[4:]) != le.Uint32(h):
		return nil, corrupt("checksum of the metadata area at byte %d", a.offset)
	case le.Uint32(h[20:]) != 1 || le.Uint64(h[24:]) != uint64(a.offset) || le.Uint64(h[32:]) != uint64(a.size):
		return nil, corrupt("the metadata area at byte %d describes another", a.offset)
	}
	offset, length, want, flags := le.Uint64(h[40:]), le.Uint64(h[48:]), le.Uint32(h[56:]), le.Uint32(h[60:])
	if offset == 0 || flags&ignored != 0 {
		return nil, nil
	}
	if offset < sector || offset >= uint64(a.size) || length == 0 || length > min(maxText, uint64(a.size-sector)) {
		return nil, corrupt("metadata of %d bytes at byte %d of their area", length, offset)
	}
	text := make([]byte, length)
	first := min(int64(length), a.size-int64(offset))
	if _, err := r.ReadAt(text[:first], a.offset+int64(offset)); err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	if first < int64(length) {
		if _, err := r.ReadAt(text[first:], a.offset+sector); err != nil {
			return nil, fmt.Errorf("read metadata: %w", err)
		}
	}
	if sum(text) != want {
		return nil, corrupt("checksum of the metadata")
	}
	return text, nil
}

// dashed writes an identifier of 32 characters as LVM does.
func dashed(id string) string {
	return id[:6] + "-" + id[6:10] + "-" + id[10:14] + "-" + id[14:18] + "-" + id[18:22] + "-" + id[22:26] + "-" + id[26:]
}
