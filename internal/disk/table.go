package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"
)

// ErrNoTable says that a disk has no partition table that is known here.
var ErrNoTable = errors.New("no partition table")

const (
	sector        = 512
	maxPartitions = 128
	gptSignature  = "EFI PART"
)

// Table is a partition table.
type Table struct {
	Kind       string // gpt or mbr
	ID         string // the disk's identifier
	Partitions []Partition
}

// Partition is a part of a disk.
type Partition struct {
	Number int    // as the kernel counts: vda3 is 3
	Start  int64  // bytes
	Size   int64  // bytes
	Type   string // a GUID in upper case, or 0x83
	ID     string // PARTUUID as udev writes it, in lower case
	Name   string // GPT only
	Active bool   // MBR only: the boot flag
}

// Section reads one partition.
func Section(r io.ReaderAt, p Partition) *io.SectionReader {
	return io.NewSectionReader(r, p.Start, p.Size)
}

// ReadTable reads the partition table of a disk of size bytes: GPT, from its
// backup if the first is damaged, or MBR with its logical partitions. Sectors
// have 512 bytes.
func ReadTable(r io.ReaderAt, size int64) (*Table, error) {
	mbr := make([]byte, sector)
	if size < 3*sector {
		return nil, ErrNoTable
	}
	if err := readFull(r, mbr, 0); err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	if mbr[510] != 0x55 || mbr[511] != 0xAA {
		return nil, ErrNoTable
	}
	if !protective(mbr) {
		return readMBR(r, size, mbr)
	}
	table, err := readGPT(r, size, sector)
	if err == nil {
		return table, nil
	}
	if table, backup := readGPT(r, size, size-sector); backup == nil {
		return table, nil
	}
	return nil, fmt.Errorf("read partition table: %w", err)
}

// protective tells whether an MBR only stands guard for a GPT.
func protective(mbr []byte) bool {
	for i := range 4 {
		if mbr[446+16*i+4] == 0xEE {
			return true
		}
	}
	return false
}

// gpt is one of the two copies of a GPT as it is on the disk.
type gpt struct {
	header  []byte // a sector
	entries []byte
	entry   int64 // bytes of an entry
}

// loadGPT reads the copy whose header is at a byte, and checks its checksums.
func loadGPT(r io.ReaderAt, size, at int64) (*gpt, error) {
	h := make([]byte, sector)
	if err := readFull(r, h, at); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	length := le.Uint32(h[12:])
	if string(h[:8]) != gptSignature || length < 92 || length > sector {
		return nil, corrupt("no GPT header at byte %d", at)
	}
	sum := le.Uint32(h[16:])
	if sealGPT(h); le.Uint32(h[16:]) != sum {
		return nil, corrupt("checksum of the GPT header at byte %d", at)
	}
	start, count, entry := int64(le.Uint64(h[72:]))*sector, int64(le.Uint32(h[80:])), int64(le.Uint32(h[84:]))
	if int64(le.Uint64(h[24:]))*sector != at {
		return nil, corrupt("the GPT header at byte %d says that it is at sector %d", at, le.Uint64(h[24:]))
	}
	if count > 1024 || entry < 128 || entry > 4096 || start < 0 || start > size-count*entry {
		return nil, corrupt("%d partition entries of %d bytes", count, entry)
	}
	entries := make([]byte, count*entry)
	if err := readFull(r, entries, start); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(entries) != le.Uint32(h[88:]) {
		return nil, corrupt("checksum of the GPT's entries")
	}
	return &gpt{header: h, entries: entries, entry: entry}, nil
}

// sealGPT sets the checksum of a header.
func sealGPT(h []byte) {
	le := binary.LittleEndian
	le.PutUint32(h[16:], 0)
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:le.Uint32(h[12:])]))
}

func readGPT(r io.ReaderAt, size, at int64) (*Table, error) {
	g, err := loadGPT(r, size, at)
	if err != nil {
		return nil, err
	}
	return g.table(size)
}

// table is what the entries say of a disk of size bytes.
func (g *gpt) table(size int64) (*Table, error) {
	le := binary.LittleEndian
	t := &Table{Kind: "gpt", ID: strings.ToLower(guid(g.header[56:72]))}
	for i := range int64(len(g.entries)) / g.entry {
		e := g.entries[i*g.entry:][:g.entry]
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if last < first || last >= uint64(size/sector) {
			return nil, corrupt("partition %d spans sectors %d to %d of %d", i+1, first, last, size/sector)
		}
		t.Partitions = append(t.Partitions, Partition{
			Number: int(i) + 1, Start: int64(first) * sector, Size: int64(last-first+1) * sector,
			Type: guid(e[:16]), ID: strings.ToLower(guid(e[16:32])), Name: gptName(e[56:128]),
		})
	}
	return t, nil
}

// guid writes the mixed-endian form of the disk for people.
func guid(p []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08X-%04X-%04X-%X-%X", le.Uint32(p), le.Uint16(p[4:]), le.Uint16(p[6:]), p[8:10], p[10:16])
}

func gptName(p []byte) string {
	units := make([]uint16, 0, len(p)/2)
	for ; len(p) >= 2; p = p[2:] {
		u := binary.LittleEndian.Uint16(p)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

func readMBR(r io.ReaderAt, size int64, mbr []byte) (*Table, error) {
	id := binary.LittleEndian.Uint32(mbr[440:])
	t := &Table{Kind: "mbr", ID: fmt.Sprintf("%08x", id)}
	for i := range 4 {
		e := mbr[446+16*i:][:16]
		if e[0]&0x7f != 0 {
			return nil, ErrNoTable // a boot sector of a file system, not a table
		}
		p, ok := mbrEntry(e, 0)
		if !ok {
			continue
		}
		p.Number, p.ID = i+1, fmt.Sprintf("%08x-%02x", id, i+1)
		if p.Start+p.Size > size {
			return nil, corrupt("partition %d ends at %d of %d", p.Number, p.Start+p.Size, size)
		}
		t.Partitions = append(t.Partitions, p)
		if isExtended(p) {
			logical, err := readLogical(r, p, id)
			if err != nil {
				return nil, err
			}
			for _, l := range logical {
				if l.Number != 0 {
					t.Partitions = append(t.Partitions, l.Partition)
				}
			}
		}
	}
	return t, nil
}

func isExtended(p Partition) bool { return p.Type == "0x05" || p.Type == "0x0f" || p.Type == "0x85" }

// logical is a logical partition with the table that it has of its own.
type logical struct {
	Partition       // Number is 0 if the table has none
	table     int64 // byte of the disk
}

// readLogical follows the chain of tables in an extended partition.
func readLogical(r io.ReaderAt, extended Partition, id uint32) ([]logical, error) {
	var list []logical
	ebr, number := make([]byte, sector), 5
	for at := extended.Start; ; {
		if len(list) > maxPartitions {
			return nil, corrupt("more than %d logical partitions", maxPartitions)
		}
		if at < extended.Start || at > extended.Start+extended.Size-sector {
			return nil, corrupt("a logical partition's table at byte %d", at)
		}
		if err := readFull(r, ebr, at); err != nil {
			return nil, fmt.Errorf("read logical partition: %w", err)
		}
		if ebr[510] != 0x55 || ebr[511] != 0xAA {
			return list, nil
		}
		l := logical{table: at}
		if p, ok := mbrEntry(ebr[446:462], at); ok {
			p.Number, p.ID = number, fmt.Sprintf("%08x-%02x", id, number)
			if p.Start+p.Size > extended.Start+extended.Size {
				return nil, corrupt("logical partition %d ends outside the extended one", p.Number)
			}
			l.Partition = p
			number++
		}
		list = append(list, l)
		next, ok := mbrEntry(ebr[462:478], extended.Start)
		if !ok {
			return list, nil
		}
		at = next.Start
	}
}

// mbrEntry reads an entry whose start counts from base; false for an empty one.
func mbrEntry(e []byte, base int64) (Partition, bool) {
	start, count := binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])
	if e[4] == 0 || count == 0 {
		return Partition{}, false
	}
	return Partition{
		Start: base + int64(start)*sector, Size: int64(count) * sector,
		Type: fmt.Sprintf("0x%02x", e[4]), Active: e[0] == 0x80,
	}, true
}

// WriteGPT writes a GPT with its backup and a protective MBR for a disk of size
// bytes. The partitions must have numbers, types, identifiers (UUIDs) and not
// overlap; nothing else on the disk is touched.
func WriteGPT(w io.WriterAt, size int64, id string, partitions []Partition) error {
	const first, entrySectors = 34, 32
	last := uint64(size/sector) - 1
	entries := make([]byte, maxPartitions*128)
	le := binary.LittleEndian
	for _, p := range partitions {
		if p.Number < 1 || p.Number > maxPartitions || p.Start%sector != 0 || p.Size%sector != 0 || p.Size <= 0 ||
			p.Start < first*sector || p.Start+p.Size > int64(last-entrySectors)*sector {
			return fmt.Errorf("write partition table: partition %d from %d with %d bytes does not fit a disk of %d", p.Number, p.Start, p.Size, size)
		}
		e := entries[(p.Number-1)*128:][:128]
		for at, text := range map[int]string{0: p.Type, 16: p.ID} {
			if err := putGUID(e[at:], text); err != nil {
				return fmt.Errorf("write partition table: partition %d: %w", p.Number, err)
			}
		}
		le.PutUint64(e[32:], uint64(p.Start/sector))
		le.PutUint64(e[40:], uint64((p.Start+p.Size)/sector-1))
		for i, u := range utf16.Encode([]rune(p.Name)) {
			if i < 36 {
				le.PutUint16(e[56+2*i:], u)
			}
		}
	}
	header := func(at, other, table uint64) ([]byte, error) {
		h := make([]byte, sector)
		copy(h, gptSignature)
		le.PutUint32(h[8:], 0x00010000)
		le.PutUint32(h[12:], 92)
		le.PutUint64(h[24:], at)
		le.PutUint64(h[32:], other)
		le.PutUint64(h[40:], first)
		le.PutUint64(h[48:], last-entrySectors-1)
		le.PutUint64(h[72:], table)
		le.PutUint32(h[80:], maxPartitions)
		le.PutUint32(h[84:], 128)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
		err := putGUID(h[56:], id)
		sealGPT(h)
		return h, err
	}
	primary, err1 := header(1, last, 2)
	backup, err2 := header(last, 1, last-entrySectors)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	for at, p := range map[uint64][]byte{0: protectiveMBR(last), 1: primary, 2: entries, last - entrySectors: entries, last: backup} {
		if _, err := w.WriteAt(p, int64(at)*sector); err != nil {
			return fmt.Errorf("write partition table: %w", err)
		}
	}
	return nil
}

func protectiveMBR(last uint64) []byte {
	mbr := make([]byte, sector)
	copy(mbr[446:], []byte{0, 0, 2, 0, 0xEE, 0xff, 0xff, 0xff, 1, 0, 0, 0})
	binary.LittleEndian.PutUint32(mbr[458:], uint32(min(last, 0xffffffff)))
	mbr[510], mbr[511] = 0x55, 0xAA
	return mbr
}

// putGUID writes a UUID in the mixed-endian form of the disk.
func putGUID(p []byte, text string) error {
	var a uint32
	var b, c uint16
	var d, e []byte
	if n, err := fmt.Sscanf(text, "%8x-%4x-%4x-%4x-%12x", &a, &b, &c, &d, &e); err != nil || n != 5 || len(d) != 2 || len(e) != 6 {
		return fmt.Errorf("%q is not a UUID", text)
	}
	binary.LittleEndian.PutUint32(p, a)
	binary.LittleEndian.PutUint16(p[4:], b)
	binary.LittleEndian.PutUint16(p[6:], c)
	copy(p[8:], d)
	copy(p[10:], e)
	return nil
}
