package iso

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// File is a file for a new disc.
type File struct {
	Name string // in the root; at most 100 bytes, without slashes
	Data []byte
}

const maxFiles = 10 // whose records fit in one sector

// Write writes a disc with a few files in its root, under Rock Ridge's names, to w.
// The same files make the same bytes: it has no dates. A volume's name may have
// lower-case letters, which the standard does not know but every reader takes.
func Write(w io.Writer, volume string, files []File) error {
	if len(volume) > 32 || len(files) > maxFiles {
		return fmt.Errorf("write disc: the name %q or %d files are too much", volume, len(files))
	}
	const (
		pathTableL = firstSector + 2
		pathTableM = pathTableL + 1
		rootAt     = pathTableM + 1
		dataAt     = rootAt + 1
	)
	var root, data bytes.Buffer
	// SP says that there are system use fields, ER which.
	mark := append([]byte("SP\x07\x01\xbe\xef\x00"), []byte("ER\x12\x01\x0a\x00\x00\x01RRIP_1991A")...)
	root.Write(newRecord("\x00", rootAt, sector, flagDirectory, append(mark, posix(0o040755)...)))
	root.Write(newRecord("\x01", rootAt, sector, flagDirectory, posix(0o040755)))
	for i, f := range files {
		if f.Name == "" || len(f.Name) > 100 || strings.ContainsAny(f.Name, "/\x00") {
			return fmt.Errorf("write disc: %q is no name for a file", f.Name)
		}
		use := append(append([]byte{'N', 'M', byte(5 + len(f.Name)), 1, 0}, f.Name...), posix(0o100644)...)
		root.Write(newRecord(fmt.Sprintf("FILE%d.;1", i), uint32(dataAt+data.Len()/sector), uint32(len(f.Data)), 0, use))
		data.Write(f.Data)
		data.Write(make([]byte, -len(f.Data)&(sector-1)))
	}
	if root.Len() > sector {
		return fmt.Errorf("write disc: the names of %d files are too long", len(files))
	}
	var disc bytes.Buffer
	disc.Write(make([]byte, firstSector*sector))
	disc.Write(padded(primary(volume, dataAt+data.Len()/sector, pathTableL, pathTableM, rootAt)))
	disc.Write(padded([]byte("\xffCD001\x01")))
	disc.Write(padded([]byte{1, 0, rootAt, 0, 0, 0, 1, 0, 0, 0}))
	disc.Write(padded([]byte{1, 0, 0, 0, 0, rootAt, 0, 1, 0, 0}))
	disc.Write(padded(root.Bytes()))
	disc.Write(data.Bytes())
	if _, err := w.Write(disc.Bytes()); err != nil {
		return fmt.Errorf("write disc: %w", err)
	}
	return nil
}

// primary is the primary volume descriptor [8.4].
func primary(volume string, sectors, tableL, tableM, root int) []byte {
	d := bytes.Repeat([]byte{' '}, sector)
	copy(d, "\x01CD001\x01\x00")
	copy(d[40:72], volume)
	clear(d[72:80])
	both32(d[80:], uint32(sectors))
	clear(d[88:120])
	both16(d[120:], 1)
	both16(d[124:], 1)
	both16(d[128:], sector)
	both32(d[132:], 10) // bytes of the path table
	binary.LittleEndian.PutUint32(d[140:], uint32(tableL))
	clear(d[144:148])
	binary.BigEndian.PutUint32(d[148:], uint32(tableM))
	clear(d[152:156])
	copy(d[156:190], newRecord("\x00", root, sector, flagDirectory, nil))
	for at := 813; at < 881; at += 17 { // no dates
		copy(d[at:], strings.Repeat("0", 16)+"\x00")
	}
	d[881] = 1
	clear(d[882:])
	return d
}

// newRecord is a directory record.
func newRecord[N int | uint32](name string, at N, size uint32, flags byte, use []byte) []byte {
	n := fixedRecord + len(name)
	n += n & 1
	r := make([]byte, n, n+len(use)+1)
	r = append(r, use...)
	r = append(r, make([]byte, len(r)&1)...)
	r[0] = byte(len(r))
	both32(r[2:], uint32(at))
	both32(r[10:], size)
	r[25] = flags
	both16(r[28:], 1)
	r[32] = byte(len(name))
	copy(r[fixedRecord:], name)
	return r
}

// posix is Rock Ridge's PX: mode, links, owner and group; root's.
func posix(mode uint32) []byte {
	p := make([]byte, 36)
	copy(p, "PX\x24\x01")
	both32(p[4:], mode)
	both32(p[12:], 1)
	return p
}

// both32 writes a number in both orders of bytes [7.3.3].
func both32(p []byte, n uint32) {
	binary.LittleEndian.PutUint32(p, n)
	binary.BigEndian.PutUint32(p[4:], n)
}

func both16(p []byte, n uint16) {
	binary.LittleEndian.PutUint16(p, n)
	binary.BigEndian.PutUint16(p[2:], n)
}

func padded(p []byte) []byte { return append(p, make([]byte, -len(p)&(sector-1))...) }
