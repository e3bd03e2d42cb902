// Package inspection finds out what is on a disk: the root file system, what
// its fstab mounts where, which distribution it is and which kernels it has. It
// reads the image itself and starts nothing.
package inspection

import (
	"bytes"
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"herdbook/internal/disk"
	"herdbook/internal/filesystem"
)

// System is an installed operating system on a disk.
type System struct {
	Mounts       []Mount // the root first, then in the order in which they must be mounted
	Release      Release
	Architecture string   // as Debian names it: amd64, arm64 …
	Kernels      []Kernel // newest first

	tree    *filesystem.FS
	mounted []filesystem.Mounted
}

// Mount is one file system of the disk and where it belongs.
type Mount struct {
	Partition int    `json:"partition"` // number on the disk; 0 is the whole disk
	Dir       string `json:"dir"`       // absolute
	Type      string `json:"type"`      // as for mount(8)
	Options   string `json:"options,omitempty"`
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

// RootPartition is the number of the root's partition; 0 is the whole disk.
func (s *System) RootPartition() int { return s.Mounts[0].Partition }

// Disk inspects a disk of size bytes. It must hold exactly one system.
func Disk(r io.ReaderAt, size int64) (*System, error) {
	volumes, err := findVolumes(r, size)
	if err != nil {
		return nil, fmt.Errorf("inspect disk: %w", err)
	}
	root, err := findRoot(volumes)
	if err != nil {
		return nil, fmt.Errorf("inspect disk: %w", err)
	}
	s := &System{}
	if err := s.mount(root, volumes); err != nil {
		return nil, fmt.Errorf("inspect disk: %w", err)
	}
	if s.Release, err = readRelease(s.tree); err != nil {
		return nil, fmt.Errorf("inspect disk: %w", err)
	}
	s.Architecture = architecture(s.tree)
	if s.Kernels, err = kernels(s.tree); err != nil {
		return nil, fmt.Errorf("inspect disk: %w", err)
	}
	return s, nil
}

func findVolumes(r io.ReaderAt, size int64) ([]volume, error) {
	table, err := disk.ReadTable(r, size)
	if errors.Is(err, disk.ErrNoTable) {
		v, err := readVolume(r, disk.Partition{Size: size})
		return []volume{v}, err
	}
	if err != nil {
		return nil, err
	}
	var volumes []volume
	for _, p := range table.Partitions {
		v, err := readVolume(r, p)
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", p.Number, err)
		}
		volumes = append(volumes, v)
	}
	return volumes, nil
}

// findRoot finds the volume that holds an operating system.
func findRoot(volumes []volume) (volume, error) {
	var found []volume
	var others []string
	for _, v := range volumes {
		root, ok, err := v.root()
		switch {
		case err != nil:
			return volume{}, fmt.Errorf("partition %d: %w", v.partition.Number, err)
		case ok:
			found = append(found, root)
		case v.fs == nil && v.kind != "" && v.kind != "swap":
			others = append(others, fmt.Sprintf("partition %d is %s", v.partition.Number, v.kind))
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return volume{}, fmt.Errorf("it holds %d systems, on partitions %d and %d: herdbook works on one", len(found), found[0].partition.Number, found[1].partition.Number)
	case len(others) > 0:
		return volume{}, fmt.Errorf("no %s file system holds a system; %s, which herdbook cannot read yet", readable(), strings.Join(others, ", "))
	}
	return volume{}, fmt.Errorf("no operating system found: no %s file system has etc/os-release", readable())
}

func isRoot(f *filesystem.FS) bool {
	// Where /usr is a file system of its own, os-release is a link into it.
	has := func(name string) bool { _, err := f.Lstat(name); return err == nil }
	return (has("etc/os-release") || has("usr/lib/os-release")) && (has("etc/fstab") || has("etc/hosts"))
}

// mount puts the volumes to where fstab wants them.
func (s *System) mount(root volume, volumes []volume) error {
	s.Mounts = []Mount{{root.partition.Number, "/", root.kind, root.options}}
	s.mounted = []filesystem.Mounted{{Dir: ".", FS: root.fs}}
	text, err := readText(root.fs, "etc/fstab")
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
			return fmt.Errorf("etc/fstab wants %s on %s, which is not on this disk; mark it nofail if it is not needed", e.spec, e.dir)
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
		s.Mounts = append(s.Mounts, Mount{v.partition.Number, e.dir, v.kind, e.mountOptions()})
		s.mounted = append(s.mounted, filesystem.Mounted{Dir: strings.TrimPrefix(e.dir, "/"), FS: v.fs})
	}
	s.tree, err = filesystem.Join(s.mounted)
	return err
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
		switch elf.Machine(uint16(head[18]) | uint16(head[19])<<8) {
		case elf.EM_X86_64:
			return "amd64"
		case elf.EM_AARCH64:
			return "arm64"
		case elf.EM_386:
			return "i386"
		case elf.EM_RISCV:
			return "riscv64"
		}
	}
	return ""
}
