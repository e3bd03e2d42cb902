// Package growth plans how a disk grows together with what lies on it: the
// partition, an encrypted volume, a logical volume and the file system of one of
// the system's mounts. It only reads; what a plan says is done by others.
package growth

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"herdbook/internal/disk"
	"herdbook/internal/inspection"
	"herdbook/internal/mapper"
)

// Least is the least that a partition, or a disk without any, grows by, in bytes.
const Least = 1 << 20

// Request is what is wished.
type Request struct {
	Size   int64  // of the disk, in bytes and a multiple of 512
	Expand string // a mount point, partition or logical volume; "" for what holds the root
}

// Plan is how to fulfil a request. It says nothing that is not possible, as far as
// can be read from the disk.
type Plan struct {
	Before, After int64        // bytes of the disk
	Partition     *disk.Growth // nil for a disk without partitions
	Encrypted     bool         // between the partition and the rest is LUKS, which grows by itself
	Logical       *Logical     // nil if the file system is on none
	Mount         inspection.Mount
	FileSystem    int64 // bytes that the file system has

	// Bytes that the two have when it is done; 0 before.
	NewLogical, NewFileSystem int64
}

// Logical is the logical volume that grows.
type Logical struct {
	Volume   string        // group/volume
	Size     int64         // bytes that it has
	Physical mapper.Source // the physical volume that grows for it
}

// Make plans for a disk of size bytes, of which system was found by inspection. Find
// is to inspect the disk as it would be, in the same way.
func Make(r io.ReaderAt, size int64, system *inspection.System, want Request, find func(r io.ReaderAt, size int64) (*inspection.System, error)) (*Plan, error) {
	p, err := plan(r, size, system, want)
	if err == nil && p.Encrypted {
		err = p.check(r, system, find)
	}
	if err != nil {
		return nil, fmt.Errorf("plan to grow: %w", err)
	}
	return p, nil
}

func plan(r io.ReaderAt, size int64, system *inspection.System, want Request) (*Plan, error) {
	if want.Size < size {
		return nil, fmt.Errorf("the disk has %d bytes and would have %d: herdbook makes no disk smaller", size, want.Size)
	}
	mount, err := choose(system.Mounts, want.Expand)
	if err != nil {
		return nil, err
	}
	if !slices.Contains([]string{"ext2", "ext3", "ext4", "xfs", "btrfs"}, mount.Type) {
		return nil, fmt.Errorf("%s is %s, which herdbook cannot grow: ext2, ext3, ext4, XFS and btrfs can", mount.Dir, mount.Type)
	}
	p := &Plan{Before: size, After: want.Size, Mount: mount, FileSystem: Size(system, mount.Dir)}
	w := walk{devices: system.Devices}
	if table, err := disk.ReadTable(r, size); err == nil {
		w.partitions = table.Partitions
	} else if !errors.Is(err, disk.ErrNoTable) {
		return nil, err
	}
	below, err := w.down(mapper.Source{Partition: mount.Partition, Device: mount.Device})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", mount.Dir, err)
	}
	p.Logical, p.Encrypted = below.logical, below.encrypted
	if p.Logical != nil && !hasLVM(system) {
		return nil, fmt.Errorf("%s is on logical volume %s, which only the guest's own LVM can grow, and it has no program lvm: install lvm2 in it", mount.Dir, p.Logical.Volume)
	}
	if below.partition == 0 {
		if want.Size-size < Least {
			return nil, fmt.Errorf("the disk has %d bytes and would have %d: that is less than 1 MiB more", size, want.Size)
		}
		return p, nil
	}
	p.Partition, err = disk.GrowPartition(r, size, want.Size, below.partition)
	switch {
	case errors.Is(err, disk.ErrNoRoom):
		return nil, inTheWay(w.partitions, below.partition, err)
	case err != nil:
		return nil, err
	case p.Partition.After.Size-p.Partition.Before.Size < Least:
		return nil, fmt.Errorf("partition %d would grow by %d bytes, which is less than 1 MiB", below.partition, p.Partition.After.Size-p.Partition.Before.Size)
	}
	return p, nil
}

// inTheWay adds to an error what lies behind a partition.
func inTheWay(partitions []disk.Partition, number int, err error) error {
	i := slices.IndexFunc(partitions, func(p disk.Partition) bool { return p.Number == number })
	end := partitions[i].Start + partitions[i].Size
	var next *disk.Partition
	for i := range partitions {
		if p := &partitions[i]; p.Start >= end && (next == nil || p.Start < next.Start) {
			next = p
		}
	}
	if next == nil {
		return fmt.Errorf("%w; choose a larger size", err)
	}
	return fmt.Errorf("%w; partition %d lies behind it, and herdbook moves none", err, next.Number)
}

// hasLVM tells whether a system has LVM's program.
func hasLVM(system *inspection.System) bool {
	for _, name := range []string{"usr/sbin/lvm", "sbin/lvm", "usr/bin/lvm", "bin/lvm"} {
		if _, err := system.Tree().Stat(name); err == nil {
			return true
		}
	}
	return false
}

// Size is what the file system of a directory says that it spans, in bytes; 0 if
// nothing is mounted there.
func Size(system *inspection.System, dir string) int64 {
	for _, m := range system.FileSystems() {
		if "/"+strings.TrimPrefix(m.Dir, ".") == dir {
			return m.FS.Size
		}
	}
	return 0
}

// Done takes from the system, as it is now, how large all has become. It is the file
// system that must say that it has grown.
func (p *Plan) Done(system *inspection.System) error {
	p.NewFileSystem = Size(system, p.Mount.Dir)
	if p.NewFileSystem <= p.FileSystem {
		return fmt.Errorf("the file system of %s did not grow: it has %d bytes, and had %d", p.Mount.Dir, p.NewFileSystem, p.FileSystem)
	}
	for _, d := range system.Devices {
		if p.Logical != nil && d.Name == p.Mount.Device {
			p.NewLogical = length(d)
		}
	}
	return nil
}

// length is how many bytes a device has.
func length(d mapper.Device) (bytes int64) {
	for _, t := range d.Table {
		bytes += t.Length << 9
	}
	return bytes
}

// check makes sure that what is encrypted grows with its partition: a LUKS2 header
// may say how large it is, whatever it lies on.
func (p *Plan) check(r io.ReaderAt, before *inspection.System, find func(io.ReaderAt, int64) (*inspection.System, error)) error {
	var writes []disk.Write
	if p.Partition != nil {
		writes = p.Partition.Writes
	}
	after, err := find(grown{r, p.Before, p.After, writes}, p.After)
	if err != nil {
		return fmt.Errorf("look at the disk as it would be: %w", err)
	}
	was, is := encrypted(before.Devices), encrypted(after.Devices)
	if is <= was {
		return errors.New("the size of the encrypted volume is fixed by its LUKS header: make its segment dynamic with cryptsetup")
	}
	return nil
}

// encrypted is how many sectors of devices are encrypted.
func encrypted(devices []mapper.Device) (sectors int64) {
	for _, d := range devices {
		for _, t := range d.Table {
			if t.Type == mapper.Crypted {
				sectors += t.Length
			}
		}
	}
	return sectors
}
