package inspection

import (
	"errors"
	"io"
	"strings"

	"herdbook/internal/disk"
	"herdbook/internal/ext4"
	"herdbook/internal/fat"
	"herdbook/internal/filesystem"
	"herdbook/internal/xfs"
)

// volume is one file system on the disk.
type volume struct {
	partition disk.Partition
	fs        *filesystem.FS // nil if it cannot be read here
	kind      string         // as for mount(8), or a description of what cannot be mounted
	uuid      string
	label     string
}

// reader is a reader of one kind of file system.
type reader struct {
	names []string // of the file systems that can hold a system, for messages
	open  func(r io.ReaderAt, size int64) (*filesystem.FS, error)
	not   error // of open: it is another one
}

// readers are tried in this order.
var readers = []reader{
	{[]string{"ext2", "ext3", "ext4"}, func(r io.ReaderAt, size int64) (*filesystem.FS, error) {
		f, err := ext4.Open(r, size)
		if err != nil {
			return nil, err
		}
		return f.FS, nil
	}, ext4.ErrNotExt},
	{[]string{"XFS"}, func(r io.ReaderAt, size int64) (*filesystem.FS, error) {
		f, err := xfs.Open(r, size)
		if err != nil {
			return nil, err
		}
		return f.FS, nil
	}, xfs.ErrNotXFS},
	{nil, func(r io.ReaderAt, size int64) (*filesystem.FS, error) {
		f, err := fat.Open(r, size)
		if err != nil {
			return nil, err
		}
		return f.FS, nil
	}, fat.ErrNotFAT},
}

// readable names the file systems that can be read here.
func readable() string {
	var names []string
	for _, r := range readers {
		names = append(names, r.names...)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

func readVolume(r io.ReaderAt, p disk.Partition) (volume, error) {
	section := disk.Section(r, p)
	v := volume{partition: p}
	for _, reader := range readers {
		f, err := reader.open(section, p.Size)
		if errors.Is(err, reader.not) {
			continue
		}
		if err == nil {
			v.fs, v.kind, v.uuid, v.label = f, f.Kind, f.UUID, f.Label
		}
		return v, err
	}
	v.kind = foreign(section)
	return v, nil
}

// foreign names what cannot be read here, by its magic.
func foreign(r io.ReaderAt) string {
	head := make([]byte, 68<<10)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	head = head[:n]
	for _, m := range []struct {
		at          int
		magic, name string
	}{
		{0x10040, "_BHRfS_M", "btrfs"}, {0, "LUKS\xba\xbe", "LUKS"},
		{512, "LABELONE", "LVM"}, {4086, "SWAPSPACE2", "swap"}, {0, "hsqs", "squashfs"},
	} {
		if m.at+len(m.magic) <= len(head) && string(head[m.at:m.at+len(m.magic)]) == m.magic {
			return m.name
		}
	}
	return ""
}
