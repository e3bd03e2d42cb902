// Package inspection finds out what is on a disk: the root file system, what
// its fstab mounts where, which distribution it is and which kernels it has. It
// reads the image itself and starts nothing.
package inspection

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"herdbook/internal/filesystem"
	"herdbook/internal/mapper"
	"herdbook/internal/uuid"
	"herdbook/internal/volume"
)

// System is an installed operating system on a disk.
type System struct {
	Mounts       []Mount // the root first, then in the order in which they must be mounted
	Release      Release
	Architecture string   // as Debian names it: amd64, arm64 …
	Kernels      []Kernel // newest first
	// Devices are those that a kernel must make before it can mount, in this order.
	// They hold the keys of encrypted volumes.
	Devices []mapper.Device

	hibernated bool
	tree       *filesystem.FS
	mounted    []filesystem.Mounted
	set        *volume.Set
	volumes    []fileSystem
}

// Mount is one file system of the disk and where it belongs.
type Mount struct {
	Partition int    `json:"partition"` // number on the disk; 0 is the whole disk
	Dir       string `json:"dir"`       // absolute
	Type      string `json:"type"`      // as for mount(8)
	Options   string `json:"options,omitempty"`
	Device    string `json:"device,omitempty"` // name of one of Devices; then there is no partition
}

// Release is what os-release says.
type Release struct {
	ID         string   `json:"id"`
	VersionID  string   `json:"version_id,omitempty"`
	Codename   string   `json:"codename,omitempty"`
	PrettyName string   `json:"pretty_name,omitempty"`
	Like       []string `json:"like,omitempty"`
}

// Kernel is a kernel that has its modules.
type Kernel struct {
	Version string
	Image   string // path in the tree
	Initrd  string // the initrd that goes with it; "" if there is none
}

// Tree is the system's file tree with all file systems that can be read on the
// host in their places.
func (s *System) Tree() *filesystem.FS { return s.tree }

// FileSystems are those of the system that can be read on the host, the root
// first. What a later one hides is still in an earlier one.
func (s *System) FileSystems() []filesystem.Mounted { return s.mounted }

// Quiet returns ErrHibernated for a system that sleeps; to change what it has mounted
// would break it.
func (s *System) Quiet() error {
	if s.hibernated {
		return ErrHibernated
	}
	return nil
}

// RootPartition is the number of the root's partition; 0 if it is the whole disk or
// lies deeper than on a partition.
func (s *System) RootPartition() int { return s.Mounts[0].Partition }

// Disk inspects a disk of size bytes. It must hold exactly one system. The keys
// are for its encrypted volumes.
func Disk(r io.ReaderAt, size int64, keys ...volume.Key) (*System, error) {
	s, err := inspectDisk(r, size, keys)
	if err != nil {
		return nil, fmt.Errorf("inspect disk: %w", err)
	}
	return s, nil
}

func inspectDisk(r io.ReaderAt, size int64, keys []volume.Key) (*System, error) {
	set, volumes, err := findFileSystems(r, size, keys)
	if err != nil {
		return nil, err
	}
	root, at, err := findRoot(volumes)
	if err != nil {
		return nil, err
	}
	if err := nameDevices(set, volumes, root.fs); err != nil {
		return nil, err
	}
	root.Volume = set.Volumes[at]
	s := &System{set: set, volumes: volumes}
	s.hibernated = slices.ContainsFunc(volumes, func(v fileSystem) bool { return v.kind == hibernated })
	if err := s.mount(root, volumes); err != nil {
		return nil, err
	}
	s.Devices = s.devices(nil)
	if s.Release, err = readRelease(s.tree); err != nil {
		return nil, err
	}
	s.Architecture = architecture(s.tree)
	s.Kernels, err = kernels(s.tree)
	return s, err
}

// devices are those that mounts need, and identities besides.
func (s *System) devices(ids []uuid.Change) []mapper.Device {
	var sources []mapper.Source
	for _, m := range s.Mounts {
		sources = append(sources, mapper.Source{Partition: m.Partition, Device: m.Device})
	}
	for _, id := range ids {
		sources = append(sources, id.Source)
	}
	return s.set.Devices(sources...)
}

// findRoot finds the file system that is the root of a system, and the index of its
// volume.
func findRoot(volumes []fileSystem) (root fileSystem, at int, err error) {
	var found []fileSystem
	var others []string
	for i, v := range volumes {
		r, ok, err := v.root()
		switch {
		case err != nil:
			return fileSystem{}, 0, fmt.Errorf("%s: %w", v.Name, err)
		case ok:
			found, at = append(found, r), i
		case v.Err != nil:
			others = append(others, fmt.Sprintf("%s: %v", v.Name, v.Err))
		case v.fs == nil && v.kind != "" && v.kind != "swap":
			others = append(others, fmt.Sprintf("%s is %s, which herdbook cannot read yet", v.Name, v.kind))
		}
	}
	switch {
	case len(found) == 1:
		return found[0], at, nil
	case len(found) > 1:
		return fileSystem{}, 0, fmt.Errorf("it holds %d systems, on %s and %s: herdbook works on one", len(found), found[0].Name, found[1].Name)
	case len(others) > 0:
		return fileSystem{}, 0, fmt.Errorf("no %s file system holds a system; %s", readable(), strings.Join(others, "; "))
	}
	return fileSystem{}, 0, fmt.Errorf("no operating system found: no %s file system has etc/os-release", readable())
}

// nameDevices gives encrypted volumes the names that the system's crypttab has for them.
func nameDevices(set *volume.Set, volumes []fileSystem, root *filesystem.FS) error {
	text, err := filesystem.ReadFile(root, "etc/crypttab", maxText)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for uuid, name := range parseCrypttab(text) {
		set.Rename(uuid, name)
	}
	for i := range volumes {
		volumes[i].Volume = set.Volumes[i]
	}
	return nil
}

func isRoot(f *filesystem.FS) bool {
	// Where /usr is a file system of its own, os-release is a link into it.
	has := func(name string) bool { _, err := f.Lstat(name); return err == nil }
	return (has("etc/os-release") || has("usr/lib/os-release")) && (has("etc/fstab") || has("etc/hosts"))
}

// mount puts the volumes to where fstab wants them.
func (s *System) mount(root fileSystem, volumes []fileSystem) error {
	s.Mounts = []Mount{{root.Source.Partition, "/", root.kind, root.options, root.Source.Device}}
	s.mounted = []filesystem.Mounted{{Dir: ".", FS: root.fs}}
	text, err := filesystem.ReadFile(root.fs, "etc/fstab", maxText)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries := parseFstab(text)
	slices.SortStableFunc(entries, func(a, b fstabEntry) int { return len(a.dir) - len(b.dir) })
	for _, e := range entries {
		v, ok := e.find(volumes)
		if e.dir == "/" {
			v, ok = root, true // whatever it is called there
		}
		switch {
		case !ok && e.mayFail():
			continue
		case !ok:
			return fmt.Errorf("etc/fstab wants %s on %s, which is not on this disk%s; mark it nofail if it is not needed", e.spec, e.dir, unknown(volumes))
		case v.Err != nil:
			return fmt.Errorf("etc/fstab wants %s on %s: %s: %w", e.spec, e.dir, v.Name, v.Err)
		case v.fs == nil:
			return fmt.Errorf("etc/fstab wants %s on %s, a file system (%s) that herdbook cannot mount yet", e.spec, e.dir, v.kind)
		}
		if v, err = v.mounted(e.options); err != nil {
			return fmt.Errorf("etc/fstab wants %s on %s: %w", e.spec, e.dir, err)
		}
		if e.dir == "/" {
			s.Mounts[0].Options, s.mounted[0].FS = cmp.Or(e.mountOptions(), root.options), v.fs
			continue
		}
		s.Mounts = append(s.Mounts, Mount{v.Source.Partition, e.dir, v.kind, e.mountOptions(), v.Source.Device})
		s.mounted = append(s.mounted, filesystem.Mounted{Dir: strings.TrimPrefix(e.dir, "/"), FS: v.fs})
	}
	s.tree, err = filesystem.Join(s.mounted)
	return err
}

// unknown tells of volumes that may hold what was not found.
func unknown(volumes []fileSystem) string {
	text := ""
	for _, v := range volumes {
		if v.Err != nil {
			text += fmt.Sprintf(" (%s: %v)", v.Name, v.Err)
		}
	}
	return text
}

// architecture looks at the header of a program that every system has.
func architecture(tree fs.FS) string {
	for _, name := range []string{"bin/sh", "usr/bin/sh", "bin/ls", "usr/bin/env"} {
		opened, err := tree.Open(name)
		if err != nil {
			continue
		}
		head := make([]byte, 64)
		_, err = io.ReadFull(opened, head)
		if err := errors.Join(err, opened.Close()); err != nil || !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
			continue
		}
		if name := machine(head); name != "" {
			return name
		}
	}
	return ""
}

// armHardFloat marks programs for armhf (the ABI's EF_ARM_ABI_FLOAT_HARD).
const armHardFloat = 0x400

// machine tells from an ELF header, as Debian names it.
func machine(head []byte) string {
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	wide := elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS64
	little := order == binary.LittleEndian
	switch m := elf.Machine(order.Uint16(head[18:])); {
	case m == elf.EM_X86_64:
		return "amd64"
	case m == elf.EM_AARCH64:
		return "arm64"
	case m == elf.EM_386:
		return "i386"
	case m == elf.EM_RISCV && wide:
		return "riscv64"
	case m == elf.EM_S390 && wide:
		return "s390x"
	case m == elf.EM_PPC64 && little:
		return "ppc64el"
	case m == elf.EM_PPC64:
		return "ppc64"
	case m == elf.EM_ARM && order.Uint32(head[36:])&armHardFloat != 0:
		return "armhf"
	case m == elf.EM_ARM:
		return "armel"
	}
	return ""
}
