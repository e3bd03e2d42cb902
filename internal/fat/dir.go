package fat

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf16"

	"herdbook/internal/filesystem"
)

// Attributes of an entry.
const (
	attrReadOnly = 0x01
	attrVolume   = 0x08
	attrDir      = 0x10
	attrLong     = 0x0F // of an entry that holds a piece of a long name
	attrMask     = 0x3F
)

const (
	deleted    = 0xE5
	notDeleted = 0x05 // stands for a name that begins with 0xE5
	lowerBase  = 0x08 // the eight are to be shown in lower case
	lowerExt   = 0x10 // the three are
	perPiece   = 13   // characters of a long name in one entry
	maxPieces  = 20
	lastPiece  = 0x40
	maxDirSize = 65536 * entrySize
	maxName    = 255 // UTF-16 units
)

// directory is where a directory lies.
type directory struct {
	number  uint64 // its inode
	cluster uint32 // the first; 0 for the root of FAT12 and FAT16
}

func (f *FS) rootDir() directory { return directory{rootInode, f.root} }

// entry is one entry of a directory, with the long name before it.
type entry struct {
	short      [11]byte
	attributes byte
	lower      byte
	long       string // "" if there is none
	at         int64
}

// name is what the kernel shows.
func (e *entry) name() string {
	if e.long != "" {
		return e.long
	}
	return e.shortName()
}

func (e *entry) shortName() string {
	raw := e.short
	if raw[0] == notDeleted {
		raw[0] = deleted
	}
	base := strings.TrimRight(codePage(raw[:8]), " ")
	ext := strings.TrimRight(codePage(raw[8:]), " ")
	if e.lower&lowerBase != 0 {
		base = strings.ToLower(base)
	}
	if e.lower&lowerExt != 0 {
		ext = strings.ToLower(ext)
	}
	if ext == "" {
		return base
	}
	return base + "." + ext
}

func (e *entry) inode() uint64 { return uint64(e.at / entrySize) }

// eachEntry calls fn for every entry of a directory, with volume labels and the
// entries . and .., until it returns false.
func (f *FS) eachEntry(d directory, fn func(e entry) bool) error {
	var long pieces
	size, done := int64(0), false
	block := func(at, length int64) error {
		if size += length; size > maxDirSize {
			return corrupt("a directory of more than %d bytes", int64(maxDirSize))
		}
		p := make([]byte, length)
		if err := f.readAt(p, at); err != nil {
			return err
		}
		for off := int64(0); off+entrySize <= length && !done; off += entrySize {
			raw := p[off:][:entrySize]
			switch {
			case raw[0] == 0: // nothing was ever behind it
				done = true
			case raw[0] == deleted:
				long = pieces{}
			case raw[11]&attrMask == attrLong:
				long.add(raw)
			default:
				e := entry{attributes: raw[11], lower: raw[12], at: at + off}
				copy(e.short[:], raw)
				e.long = long.take(e.short)
				done = !fn(e)
			}
		}
		return nil
	}
	if d.cluster == 0 {
		return block(f.rootAt, f.rootLen)
	}
	return f.chain(d.cluster, func(cluster uint32) error {
		if err := f.claim(cluster, d.number); err != nil || done {
			return err
		}
		return block(f.clusterAt(cluster), f.cluster)
	})
}

// claim notes that a cluster belongs to a directory. Two that share one would
// show a tree without an end.
func (f *FS) claim(cluster uint32, number uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if owner, ok := f.owners[cluster]; ok && owner != number {
		return corrupt("cluster %d belongs to two directories", cluster)
	}
	f.owners[cluster] = number
	return nil
}

// files calls fn for what a directory shows, by its name.
func (f *FS) files(d directory, fn func(name string, e entry) bool) error {
	bad := ""
	err := f.eachEntry(d, func(e entry) bool {
		name := e.name()
		if e.attributes&attrVolume != 0 || name == "." || name == ".." {
			return true
		}
		if name == "" || strings.ContainsAny(name, "/\x00") {
			bad = name
			return false
		}
		return fn(name, e)
	})
	if err == nil && bad != "" {
		err = corrupt("the name %q in a directory", bad)
	}
	if err != nil {
		err = fmt.Errorf("read directory in cluster %d: %w", d.cluster, err)
	}
	return err
}

func (f *FS) names(d directory) (list []filesystem.Name, err error) {
	err = f.files(d, func(name string, e entry) bool {
		list = append(list, filesystem.Name{Name: name, Inode: e.inode()})
		return true
	})
	return list, err
}

// lookup finds a file by its long or its short name.
func (f *FS) lookup(d directory, name string) (number uint64, err error) {
	name = strings.TrimRight(name, ".")
	err = f.files(d, func(have string, e entry) bool {
		if strings.EqualFold(have, name) || strings.EqualFold(e.shortName(), name) {
			number = e.inode()
		}
		return number == 0
	})
	if err == nil && number == 0 {
		err = fs.ErrNotExist
	}
	return number, err
}

// pieces collects the long name that stands before an entry, from its end to its
// start.
type pieces struct {
	units    []uint16
	expect   int  // number of the next piece; 0 after the last
	checksum byte // of the short name that it belongs to
}

func (l *pieces) add(raw []byte) {
	number := int(raw[0])
	if number&lastPiece != 0 {
		*l = pieces{expect: number &^ lastPiece, checksum: raw[13]}
	}
	if number&^lastPiece != l.expect || l.expect == 0 || l.expect > maxPieces || raw[13] != l.checksum {
		*l = pieces{}
		return
	}
	var units []uint16
	for _, field := range [][]byte{raw[1:11], raw[14:26], raw[28:32]} {
		for i := 0; i < len(field); i += 2 {
			units = append(units, binary.LittleEndian.Uint16(field[i:]))
		}
	}
	l.units = append(units, l.units...)
	l.expect--
	if l.expect == 0 {
		l.expect = -1 // whole
	}
}

// take returns the name if it is whole and belongs to the short one; else it was
// left behind by a program that does not know long names.
func (l *pieces) take(short [11]byte) string {
	units, whole := l.units, l.expect == -1 && l.checksum == checksum(short)
	*l = pieces{}
	if !whole {
		return ""
	}
	for i, u := range units {
		if u == 0 {
			units = units[:i]
			break
		}
	}
	if len(units) > maxName {
		return ""
	}
	return string(utf16.Decode(units))
}

// checksum is that of a short name, which its long one repeats.
func checksum(short [11]byte) (sum byte) {
	for _, c := range short {
		sum = sum<<7 | sum>>1
		sum += c
	}
	return sum
}

// upper is the upper half of code page 437.
var upper = []rune("ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀" +
	"αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0")

func codePage(p []byte) string {
	var b strings.Builder
	for _, c := range p {
		if c < 0x80 {
			b.WriteByte(c)
		} else {
			b.WriteRune(upper[c-0x80])
		}
	}
	return b.String()
}
