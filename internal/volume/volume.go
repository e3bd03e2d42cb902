// Package volume finds everything on a disk image that may hold a file system:
// partitions, and what lies in them, in any order: logical volumes of LVM, disks
// encrypted by LUKS, and mirrors of Linux's software RAID. Each can be read here,
// and says how the kernel of a guest gets at it: which devices of device-mapper it
// must make. Both follow from the same table, so that one sees what the other does.
//
// A volume that cannot be had is listed with the reason, for whoever needs it.
package volume

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"herdbook/internal/disk"
	"herdbook/internal/luks"
	"herdbook/internal/mapper"
	"herdbook/internal/md"
)

// Kind is what a volume is made by.
type Kind string

// The kinds of volume.
const (
	Partition Kind = "partition" // or the whole disk, if it has none
	Logical   Kind = "logical volume"
	Encrypted Kind = "encrypted volume"
	RAID      Kind = "RAID array"
)

// Volume is something that may hold a file system.
type Volume struct {
	io.ReaderAt // nil if Err is not
	Kind        Kind
	Name        string        // for people: partition 3, logical volume vg/root
	UUID        string        // of the logical volume, the LUKS header or the array, as its tools write it
	Size        int64         // bytes
	Source      mapper.Source // how the kernel gets at it, once Set.Devices are made
	Paths       []string      // what it is called below /dev, when a system runs
	Err         error         // why it cannot be had; says what to do
	// The partition that it is, if it is one.
	Partition disk.Partition
}

// Key is what unlocks encrypted volumes. It is a secret.
type Key struct {
	Volume     string // UUID of the volume; "" for any
	Passphrase []byte // or all bytes of a key file
}

// Format implements fmt.Formatter: a key is shown nowhere.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "key of %q", k.Volume) }

// Set is everything that was found on a disk.
type Set struct {
	Volumes  []Volume // without those that only hold others
	Physical []Physical
	devices  []mapper.Device
	starts   map[int]int64 // of partitions by their numbers, in bytes
}

// Physical is a physical volume of LVM.
type Physical struct {
	Source  mapper.Source
	ID      string // as LVM writes it
	GroupID string // of its volume group; "" if it has none
	Err     error  // why its volume group is not whole
}

// Devices are the devices that must be made, in this order, for a kernel to get at
// the sources. They hold the keys of encrypted volumes.
func (s *Set) Devices(sources ...mapper.Source) []mapper.Device {
	return mapper.Needed(s.devices, sources...)
}

// deviceName is what a device may be called: what crypttab(5) can hold.
var deviceName = regexp.MustCompile(`^[a-zA-Z0-9+_.:][a-zA-Z0-9+_.:-]{0,100}$`)

// Rename gives the device of an encrypted volume the name that the system's crypttab
// has for it, by which its own programs know it. A name that cannot be, or is
// taken, is not given.
func (s *Set) Rename(uuid, name string) {
	if !deviceName.MatchString(name) || name == "." || name == ".." || name == "control" {
		return
	}
	old := ""
	for _, v := range s.Volumes {
		if v.Source.Device == name {
			return
		}
	}
	for i := range s.devices {
		d := &s.devices[i]
		if d.Name == name {
			return
		}
		for _, version := range []int{1, 2} {
			if id := cryptID(version, uuid); strings.HasPrefix(d.UUID, id) {
				old, d.Name, d.UUID = d.Name, name, id+name
			}
		}
	}
	if old == "" {
		return
	}
	for i := range s.Volumes {
		if v := &s.Volumes[i]; v.Source.Device == old {
			v.Source.Device, v.Paths = name, append(v.Paths, "mapper/"+name)
		}
	}
	for i := range s.Physical {
		if p := &s.Physical[i]; p.Source.Device == old {
			p.Source.Device = name
		}
	}
	for _, d := range s.devices {
		for _, t := range d.Table {
			for i := range t.Areas {
				if a := &t.Areas[i]; a.Source.Device == old {
					a.Source.Device = name
				}
			}
		}
	}
}

// cryptID begins the identifier that cryptsetup gives a device.
func cryptID(version int, uuid string) string {
	return fmt.Sprintf("CRYPT-LUKS%d-%s-", version, strings.ReplaceAll(uuid, "-", ""))
}

// Find finds what is on the partitions of a disk. An error is one of reading; what
// is wrong with one volume stands in its Err.
func Find(r io.ReaderAt, partitions []disk.Partition, keys []Key) (*Set, error) {
	f := &finder{keys: keys, readers: map[mapper.Source]io.ReaderAt{}}
	f.starts = map[int]int64{}
	for _, p := range partitions {
		if slices.Contains([]string{"0x05", "0x0f", "0x85"}, p.Type) {
			continue // an extended one only holds others
		}
		source := mapper.Source{Partition: p.Number}
		f.readers[source], f.starts[p.Number] = disk.Section(r, p), p.Start
		f.pending = append(f.pending, candidate{Volume: Volume{
			Kind: Partition, Name: source.String(), Size: p.Size, Source: source, Partition: p, ReaderAt: f.readers[source],
		}})
	}
	for len(f.pending) > 0 {
		for len(f.pending) > 0 {
			next := f.pending[0]
			f.pending = f.pending[1:]
			if err := f.look(next); err != nil {
				return nil, fmt.Errorf("find volumes: %s: %w", next.Name, err)
			}
		}
		f.assembleArrays(false)
		f.assembleGroups(false)
	}
	f.assembleArrays(true)
	f.assembleGroups(true)
	f.listPhysical()
	return &f.Set, nil
}

const (
	maxDepth   = 8    // of volumes within one another
	maxVolumes = 4096 // of a disk
)

// candidate is a volume that has not been looked into.
type candidate struct {
	Volume
	depth int
}

// finder goes from the partitions inward.
type finder struct {
	Set
	keys    []Key
	readers map[mapper.Source]io.ReaderAt
	pending []candidate
	arrays  []*array // in the order in which they were met
	groups  []*group
	members []physical
	count   int
}

// look finds out what a volume holds: other volumes, or maybe a file system.
func (f *finder) look(c candidate) error {
	if f.count++; f.count > maxVolumes {
		return fmt.Errorf("the disk has more than %d volumes", maxVolumes)
	}
	for _, inside := range []func(candidate) (is bool, err error){f.lookForRAID, f.lookForLUKS, f.lookForLVM} {
		is, err := inside(c)
		if !is {
			continue
		}
		if err == nil && c.depth >= maxDepth {
			err = fmt.Errorf("it lies within %d others, more than herdbook looks into", c.depth)
		}
		if err == nil {
			return nil
		}
		c.ReaderAt, c.Err = nil, err
		break
	}
	f.Volumes = append(f.Volumes, c.Volume)
	return nil
}

// add makes a device, and a volume to be looked into, of what was found in others.
// Without a table, the volume says why it cannot be had.
func (f *finder) add(v Volume, d mapper.Device, depth int) {
	v.Source = mapper.Source{Device: d.Name}
	if _, twice := f.readers[v.Source]; twice && v.Err == nil {
		v.Err = fmt.Errorf("another volume has the name %s, too", d.Name)
	}
	if v.Err == nil {
		t, err := newTable(d, func(s mapper.Source) io.ReaderAt { return f.readers[s] })
		if err == nil {
			f.readers[v.Source], v.ReaderAt = t, t
			f.devices = append(f.devices, d)
			f.pending = append(f.pending, candidate{v, depth})
			return
		}
		v.Err = err
	}
	f.Volumes = append(f.Volumes, v)
}

// lookForLUKS unlocks an encrypted volume.
func (f *finder) lookForLUKS(c candidate) (bool, error) {
	h, err := luks.Open(c.ReaderAt, c.Size)
	if errors.Is(err, luks.ErrNotLUKS) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	if c.depth >= maxDepth {
		return true, nil
	}
	v := Volume{Kind: Encrypted, Name: "encrypted volume " + h.UUID, UUID: h.UUID, Size: h.Size, Paths: []string{"mapper/luks-" + h.UUID}}
	d := mapper.Device{Name: "luks-" + h.UUID, UUID: cryptID(h.Version, h.UUID) + "luks-" + h.UUID}
	if !deviceName.MatchString(d.Name) {
		return true, fmt.Errorf("it is encrypted and has the UUID %q", h.UUID)
	}
	key, err := f.unlock(h, c.ReaderAt)
	if err != nil {
		v.Err = err
		f.add(v, d, c.depth+1)
		return true, nil
	}
	m := h.Mapping(key)
	d.Table = []mapper.Target{{Length: m.Size / sector, Type: mapper.Crypted, Areas: []mapper.Area{{Source: c.Source, Offset: m.Offset / sector}},
		Crypt: &mapper.Crypt{Cipher: m.Cipher, Key: m.Key, IVOffset: m.IVOffset, SectorSize: m.SectorSize}}}
	f.add(v, d, c.depth+1)
	return true, nil
}

// unlock tries the keys that are for a volume.
func (f *finder) unlock(h *luks.Header, r io.ReaderAt) ([]byte, error) {
	failed := fmt.Errorf("it is encrypted (LUKS%d); give the key of %s", h.Version, h.UUID)
	for _, k := range f.keys {
		if k.Volume != "" && !strings.EqualFold(k.Volume, h.UUID) {
			continue
		}
		key, err := h.Unlock(r, k.Passphrase)
		if err == nil {
			return key, nil
		}
		failed = fmt.Errorf("it is encrypted (LUKS%d) and could not be unlocked: %w", h.Version, err)
	}
	return nil, failed
}

// array is a RAID array of which members have been found.
type array struct {
	members []*md.Member
	on      []candidate
	done    bool
}
