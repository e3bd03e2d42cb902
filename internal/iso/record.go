package iso

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"strings"
)

// record is a directory record [9.1].
type record []byte

const (
	fixedRecord    = 33 // bytes before the name
	flagDirectory  = 0x02
	flagAssociated = 0x04 // not a file, but what belongs to one, such as a resource fork
	flagMore       = 0x80 // the file goes on in the next record
)

func (r record) extent() extent {
	start := int64(binary.LittleEndian.Uint32(r[2:])) + int64(r[1]) // behind the extended attributes
	return extent{start * sector, int64(binary.LittleEndian.Uint32(r[10:]))}
}

func (r record) flags() byte { return r[25] }

// interleaved tells whether the file lies in pieces with gaps between.
func (r record) interleaved() bool { return r[26] != 0 || r[27] != 0 }

// name is the identifier; "\x00" and "\x01" are the directory and its parent.
func (r record) name() []byte { return r[fixedRecord : fixedRecord+int(r[32])] }

// systemUse is what stands behind the name, which is padded to an even length.
func (r record) systemUse(skip int) []byte {
	at := fixedRecord + int(r[32])
	at += at&1 + skip
	return r[min(at, len(r)):]
}

// records cuts a directory into its records: none crosses a sector, and a length of
// zero ends one.
func records(p []byte) ([]record, error) {
	var list []record
	for at := 0; at < len(p); {
		n := int(p[at])
		if n == 0 {
			at = (at/sector + 1) * sector
			continue
		}
		if n < fixedRecord+1 || at%sector+n > sector || at+n > len(p) || fixedRecord+int(p[at+32]) > n {
			return nil, corrupt("a directory record of %d bytes at %d", n, at)
		}
		if len(list) >= maxEntries {
			return nil, corrupt("a directory of more than %d entries", maxEntries)
		}
		list = append(list, record(p[at:at+n]))
		at += n
	}
	return list, nil
}

// directory reads the records of a directory.
func (f *FS) directory(e entry) ([]record, error) {
	if len(e.extents) != 1 || e.extents[0].length > maxDirectory {
		return nil, corrupt("a directory of %d bytes", e.size())
	}
	p, err := f.read(e.extents[0])
	if err != nil {
		return nil, err
	}
	return records(p)
}

// detectRockRidge looks for the mark of the System Use Sharing Protocol in the
// root's record of itself: SP with the bytes BE EF and what to skip.
func (f *FS) detectRockRidge() error {
	list, err := f.directory(f.root)
	if err != nil || len(list) == 0 {
		return err
	}
	use := list[0].systemUse(0)
	if len(use) >= 7 && string(use[:2]) == "SP" && use[4] == 0xbe && use[5] == 0xef {
		f.names, f.skip = rockRidge, int(use[6])
	}
	return nil
}

// list reads a directory's entries.
func (f *FS) list(dir entry) ([]entry, error) {
	all, err := f.directory(dir)
	if err != nil {
		return nil, err
	}
	var list []entry
	more, kept := false, false // of the file that the last record is of
	for _, r := range all {
		if id := r.name(); len(id) == 1 && id[0] <= 1 {
			continue
		}
		first := !more
		more = r.flags()&flagMore != 0
		var err error
		switch {
		case first && r.flags()&flagAssociated != 0:
			kept = false
		case first:
			list, kept, err = f.add(list, r)
		case kept:
			err = f.extend(&list[len(list)-1], r)
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// add adds a record to a list, unless it has no usable name.
func (f *FS) add(list []entry, r record) ([]entry, bool, error) {
	x, err := f.part(r)
	if err != nil {
		return nil, false, err
	}
	e, err := f.entry(r, x)
	if err != nil || e.name == "" {
		return list, false, err
	}
	return append(list, e), true, nil
}

// extend adds another part to a file.
func (f *FS) extend(e *entry, r record) error {
	x, err := f.part(r)
	if err != nil {
		return err
	}
	if len(e.extents) >= maxExtents {
		return corrupt("a file of more than %d parts", maxExtents)
	}
	e.extents = append(e.extents, x)
	return nil
}

// part is where the part of a file lies that a record tells.
func (f *FS) part(r record) (extent, error) {
	if r.interleaved() {
		return extent{}, fmt.Errorf("read the disc: the file %q is interleaved, which this reader does not know", r.name())
	}
	return r.extent(), f.inside(r.extent())
}

// entry reads one record. One without a usable name has none.
func (f *FS) entry(r record, x extent) (entry, error) {
	e := entry{mode: 0o444, extents: []extent{x}}
	if r.flags()&flagDirectory != 0 {
		e.mode = fs.ModeDir | 0o555
	}
	switch f.names {
	case rockRidge:
		if err := f.rockRidge(&e, r); err != nil {
			return e, err
		}
		if e.name == "" {
			e.name = strings.ToLower(withoutVersion(string(r.name())))
		}
	case joliet:
		e.name = withoutVersion(unicodeName(r.name()))
	default:
		e.name = strings.ToLower(withoutVersion(string(r.name())))
	}
	if e.name == "." || e.name == ".." || strings.ContainsAny(e.name, "/\x00") {
		e.name = "" // it could not be opened by it
	}
	return e, nil
}

// rockRidge reads the fields of Rock Ridge: the name (NM), the mode (PX) and the
// target of a symbolic link (SL), which may go on elsewhere (CE).
func (f *FS) rockRidge(e *entry, r record) error {
	use := r.systemUse(f.skip)
	link := linkTarget{}
	for areas := 0; ; areas++ {
		var next extent
		for len(use) >= 4 {
			n := int(use[2])
			if n < 4 || n > len(use) {
				break // padding
			}
			field := use[4:n]
			switch string(use[:2]) {
			case "NM":
				if len(field) > 0 && field[0]&6 == 0 && len(e.name)+len(field) < maxName {
					e.name += string(field[1:])
				}
			case "PX":
				if len(field) >= 4 {
					e.setMode(binary.LittleEndian.Uint32(field))
				}
			case "SL":
				link.add(field)
			case "CE":
				if len(field) >= 24 {
					block, offset, length := binary.LittleEndian.Uint32(field), binary.LittleEndian.Uint32(field[8:]), binary.LittleEndian.Uint32(field[16:])
					next = extent{int64(block)*sector + int64(offset), int64(length)}
				}
			}
			use = use[n:]
		}
		if next.length == 0 || next.length > sector {
			break
		}
		if areas == maxAreas {
			return corrupt("a record that goes on in more than %d places", maxAreas)
		}
		var err error
		if use, err = f.read(next); err != nil {
			return err
		}
	}
	if e.mode&fs.ModeSymlink != 0 {
		e.link, e.extents = link.String(), nil
	}
	return nil
}

// setMode takes the mode of POSIX (RRIP 4.1.1).
func (e *entry) setMode(mode uint32) {
	kinds := map[uint32]fs.FileMode{
		0o040000: fs.ModeDir, 0o120000: fs.ModeSymlink, 0o020000: fs.ModeDevice | fs.ModeCharDevice, 0o060000: fs.ModeDevice,
		0o010000: fs.ModeNamedPipe, 0o140000: fs.ModeSocket,
	}
	kind := kinds[mode&0o170000]
	if e.mode.IsDir() != (kind == fs.ModeDir) {
		return // the record itself is right about what is a directory
	}
	e.mode = kind | fs.FileMode(mode&0o777)
}

// linkTarget gathers the components of a symbolic link (RRIP 4.1.3).
type linkTarget struct {
	parts  []string
	goesOn bool // the last part is not whole
}

func (l *linkTarget) add(field []byte) {
	if len(field) < 1 {
		return
	}
	for p := field[1:]; len(p) >= 2; {
		flags, n := p[0], int(p[1])
		if 2+n > len(p) {
			return
		}
		text := string(p[2 : 2+n])
		switch {
		case flags&0x02 != 0:
			text = "."
		case flags&0x04 != 0:
			text = ".."
		case flags&0x08 != 0:
			text = ""
		}
		if l.goesOn && len(l.parts) > 0 {
			l.parts[len(l.parts)-1] += text
		} else {
			l.parts = append(l.parts, text)
		}
		l.goesOn = flags&0x01 != 0
		p = p[2+n:]
	}
}

// String is the target.
func (l *linkTarget) String() string {
	text := strings.Join(l.parts, "/")
	return text[:min(len(text), maxName)]
}
