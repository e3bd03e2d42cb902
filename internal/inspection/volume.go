package inspection

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"herdbook/internal/btrfs"
	"herdbook/internal/disk"
	"herdbook/internal/ext4"
	"herdbook/internal/fat"
	"herdbook/internal/filesystem"
	"herdbook/internal/uuid"
	"herdbook/internal/volume"
	"herdbook/internal/xfs"
)

// fileSystem is what a volume of the disk holds.
type fileSystem struct {
	volume.Volume
	fs      *filesystem.FS // nil if it cannot be read here
	kind    string         // as for mount(8), or a description of what cannot be mounted
	uuid    string
	label   string
	btrfs   *btrfs.FS // the same, if it has subvolumes to choose from
	options string    // of the mount that shows fs; "" if the default does
}

// findFileSystems looks at every volume of a disk, and keeps their order.
func findFileSystems(r io.ReaderAt, size int64, keys []volume.Key) (*volume.Set, []fileSystem, error) {
	partitions := []disk.Partition{{Size: size}}
	table, err := disk.ReadTable(r, size)
	switch {
	case err == nil:
		partitions = table.Partitions
	case !errors.Is(err, disk.ErrNoTable):
		return nil, nil, err
	}
	set, err := volume.Find(r, partitions, keys)
	if err != nil {
		return nil, nil, err
	}
	var list []fileSystem
	for _, v := range set.Volumes {
		f, err := readVolume(v)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", v.Name, err)
		}
		list = append(list, f)
	}
	return set, list, nil
}

// reader is a reader of one kind of file system.
type reader struct {
	names []string // of the file systems that can hold a system, for messages
	open  func(r io.ReaderAt, size int64) (fileSystem, error)
	not   error // of open: it is another one
}

// readers are tried in this order.
var readers = []reader{
	{[]string{"ext2", "ext3", "ext4"}, func(r io.ReaderAt, size int64) (fileSystem, error) {
		f, err := ext4.Open(r, size)
		if err != nil {
			return fileSystem{}, err
		}
		return fileSystem{fs: f.FS}, nil
	}, ext4.ErrNotExt},
	{[]string{"XFS"}, func(r io.ReaderAt, size int64) (fileSystem, error) {
		f, err := xfs.Open(r, size)
		if err != nil {
			return fileSystem{}, err
		}
		return fileSystem{fs: f.FS}, nil
	}, xfs.ErrNotXFS},
	{[]string{"btrfs"}, func(r io.ReaderAt, size int64) (fileSystem, error) {
		f, err := btrfs.Open(r, size)
		if err != nil {
			return fileSystem{}, err
		}
		return fileSystem{fs: f.FS, btrfs: f}, nil
	}, btrfs.ErrNotBtrfs},
	{nil, func(r io.ReaderAt, size int64) (fileSystem, error) {
		f, err := fat.Open(r, size)
		if err != nil {
			return fileSystem{}, err
		}
		return fileSystem{fs: f.FS}, nil
	}, fat.ErrNotFAT},
}

// readable names the file systems that can hold a system.
func readable() string {
	var names []string
	for _, r := range readers {
		names = append(names, r.names...)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

func readVolume(of volume.Volume) (fileSystem, error) {
	if of.Err != nil {
		return fileSystem{Volume: of}, nil
	}
	for _, reader := range readers {
		v, err := reader.open(of, of.Size)
		if errors.Is(err, reader.not) {
			continue
		}
		v.Volume = of
		if err == nil {
			v.kind, v.uuid, v.label = v.fs.Kind, v.fs.UUID, v.fs.Label
		}
		return v, err
	}
	v := fileSystem{Volume: of, kind: foreign(of)}
	if v.kind == string(uuid.Swap) {
		v.uuid = uuid.ReadSwap(of)
	}
	return v, nil
}

// rootSubvolumes are those in which installers put the root, where the default
// subvolume is another: of Fedora, Ubuntu, Debian and openSUSE.
var rootSubvolumes = []string{"root", "@", "@rootfs", "@/.snapshots/1/snapshot"}

// root finds the root of a system on a volume; false if there is none.
func (v fileSystem) root() (fileSystem, bool, error) {
	if v.fs == nil || isRoot(v.fs) || v.btrfs == nil {
		return v, v.fs != nil && isRoot(v.fs), nil
	}
	for _, name := range rootSubvolumes {
		option := "subvol=" + name
		found, err := v.mounted([]string{option})
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return v, false, err
		case isRoot(found.fs):
			found.options = option
			return found, true, nil
		}
	}
	return v, false, nil
}

// mounted is what a mount with options shows of a volume.
func (v fileSystem) mounted(options []string) (fileSystem, error) {
	if v.btrfs == nil {
		return v, nil
	}
	var sub *btrfs.FS
	var err error
	for _, o := range options {
		if name, ok := strings.CutPrefix(o, "subvol="); ok {
			sub, err = v.btrfs.Subvolume(name)
			break // it says more than a number, which is to say the same
		}
		if number, ok := strings.CutPrefix(o, "subvolid="); ok {
			var id uint64
			if id, err = strconv.ParseUint(number, 0, 64); err == nil {
				sub, err = v.btrfs.SubvolumeID(id)
			}
		}
	}
	if err != nil {
		return v, err
	}
	if sub != nil {
		v.fs, v.btrfs = sub.FS, sub
	}
	return v, nil
}

// hibernated is the kind of swap that holds a system's memory, by the kernel's
// signature or that of uswsusp.
const hibernated = "hibernated swap"

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
		{4086, "SWAPSPACE2", "swap"}, {4086, "S1SUSPEND", hibernated}, {4086, "ULSUSPEND", hibernated}, {0, "hsqs", "squashfs"},
	} {
		if m.at+len(m.magic) <= len(head) && string(head[m.at:m.at+len(m.magic)]) == m.magic {
			return m.name
		}
	}
	return ""
}
