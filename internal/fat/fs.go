package fat

import (
	"encoding/binary"
	"errors"
	"time"

	"herdbook/internal/filesystem"
)

// driver is the file system as package filesystem wants it. FAT has no inodes:
// the number of a file tells where its entry lies, in units of entries.
type driver struct{ f *FS }

func (d driver) About() filesystem.About {
	return filesystem.About{Kind: "vfat", UUID: d.f.uuid(), Label: d.f.label, Size: d.f.size, Used: d.f.used}
}

func (d driver) Root() uint64 { return rootInode }

func (d driver) IdleRanges(fn func(start, length int64) error) error { return d.f.IdleRanges(fn) }

func (d driver) Inode(number uint64) (filesystem.Inode, error) {
	if number == rootInode {
		stat := filesystem.Stat{Ino: rootInode, Nlink: 1, Mode: filesystem.ModeDir | 0o755}
		return &node{d.f, stat, d.f.root}, nil
	}
	if number > uint64(d.f.size)/entrySize-1 || int64(number)*entrySize < d.f.rootAt {
		return nil, corrupt("an entry at %d times %d bytes", number, entrySize)
	}
	raw := make([]byte, entrySize)
	if err := d.f.readAt(raw, int64(number)*entrySize); err != nil {
		return nil, err
	}
	return d.f.parseEntry(number, raw)
}

// node is a file, a directory, or the root.
type node struct {
	f     *FS
	stat  filesystem.Stat
	first uint32 // cluster
}

func (f *FS) parseEntry(number uint64, raw []byte) (*node, error) {
	le := binary.LittleEndian
	n := &node{f: f, first: uint32(le.Uint16(raw[26:]))}
	if f.bits == 32 {
		n.first |= uint32(le.Uint16(raw[20:])) << 16
	}
	n.stat = filesystem.Stat{
		Ino: number, Nlink: 1, Mode: filesystem.ModeRegular | 0o755, Size: int64(le.Uint32(raw[28:])),
		Mtime:  date(le.Uint16(raw[24:]), le.Uint16(raw[22:]), 0),
		Atime:  date(le.Uint16(raw[18:]), 0, 0),
		Crtime: date(le.Uint16(raw[16:]), le.Uint16(raw[14:]), raw[13]),
	}
	n.stat.Ctime = n.stat.Mtime
	switch {
	case raw[11]&attrDir != 0:
		n.stat.Mode, n.stat.Size = filesystem.ModeDir|0o755, 0
		if !f.valid(n.first) {
			return nil, corrupt("a directory in cluster %d of %d", n.first, f.clusters)
		}
	case raw[11]&attrReadOnly != 0:
		n.stat.Mode &^= 0o222
	}
	return n, nil
}

// date reads a date of years since 1980, months and days, and a time of hours,
// minutes and pairs of seconds, with the hundredths that may come with it. The zero
// time stands for none.
func date(day, clock uint16, hundredths byte) time.Time {
	if day == 0 {
		return time.Time{}
	}
	t := time.Date(1980+int(day>>9), time.Month(day>>5&15), int(day&31), int(clock>>11), int(clock>>5&63), int(clock&31)*2, 0, time.UTC)
	return t.Add(time.Duration(hundredths) * 10 * time.Millisecond)
}

func (n *node) Stat() *filesystem.Stat { return &n.stat }

func (n *node) dir() directory { return directory{n.stat.Ino, n.first} }

func (n *node) Names() ([]filesystem.Name, error) { return n.f.names(n.dir()) }

func (n *node) Lookup(name string) (uint64, error) { return n.f.lookup(n.dir(), name) }

func (n *node) Link() (string, error) { return "", errors.New("not a symbolic link") }

func (n *node) Content() (filesystem.Content, error) {
	runs, err := n.f.runs(n.first, n.stat.Size)
	if err != nil {
		return nil, err
	}
	return &content{n.f, runs, n.stat.Size}, nil
}

func (n *node) Xattrs() (map[string][]byte, error) { return nil, nil }
