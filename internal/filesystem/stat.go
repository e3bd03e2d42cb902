package filesystem

import (
	"io/fs"
	"time"
)

// Mode bits of an inode, as in stat(2).
const (
	ModeType    = 0xF000 // the mask of those that follow
	ModeSocket  = 0xC000
	ModeSymlink = 0xA000
	ModeRegular = 0x8000
	ModeBlock   = 0x6000
	ModeDir     = 0x4000
	ModeChar    = 0x2000
	ModeFIFO    = 0x1000
)

// Stat is what an inode says beside name and content; FileInfo.Sys returns it.
type Stat struct {
	Ino          uint64
	Nlink        uint32
	Mode         uint16 // as in stat(2): type and permissions
	UID, GID     uint32
	Major, Minor uint32 // of a device node
	Size         int64  // bytes
	Atime        time.Time
	Mtime        time.Time
	Ctime        time.Time
	Crtime       time.Time // zero where the file system does not know
}

// FileMode translates the mode to Go's.
func (s *Stat) FileMode() fs.FileMode {
	mode := fs.FileMode(s.Mode & 0o777)
	if s.Mode&0o4000 != 0 {
		mode |= fs.ModeSetuid
	}
	if s.Mode&0o2000 != 0 {
		mode |= fs.ModeSetgid
	}
	if s.Mode&0o1000 != 0 {
		mode |= fs.ModeSticky
	}
	switch s.Mode & ModeType {
	case ModeDir:
		mode |= fs.ModeDir
	case ModeSymlink:
		mode |= fs.ModeSymlink
	case ModeBlock:
		mode |= fs.ModeDevice
	case ModeChar:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case ModeFIFO:
		mode |= fs.ModeNamedPipe
	case ModeSocket:
		mode |= fs.ModeSocket
	case ModeRegular:
	default:
		mode |= fs.ModeIrregular
	}
	return mode
}

// info is an fs.FileInfo.
type info struct {
	name string
	stat *Stat
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.stat.Size }
func (i info) Mode() fs.FileMode  { return i.stat.FileMode() }
func (i info) ModTime() time.Time { return i.stat.Mtime }
func (i info) IsDir() bool        { return i.stat.FileMode().IsDir() }
func (i info) Sys() any           { s := *i.stat; return &s }
