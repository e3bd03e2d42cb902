// Package survey tells what is on a disk image: its partitions and file systems,
// and of the system its release, mounts, kernels, packages, accounts, units and
// where its bytes are. A survey is a value that is read as text or as JSON. What a
// disk holds is found out by package inspection; nothing of the guest is run.
package survey

import (
	"fmt"

	"herdbook/internal/disk"
	"herdbook/internal/inspection"
	"herdbook/internal/pkgdb"
)

// Survey is all that is told of an image.
type Survey struct {
	Image       Image        `json:"image"`
	Partitions  []Partition  `json:"partitions"`   // empty for a file system on the whole disk
	FileSystems []FileSystem `json:"file_systems"` // those of the system, the root first
	System      System       `json:"system"`
}

// Image is the image as a file, and its table.
type Image struct {
	Path   string      `json:"path"`
	Format disk.Format `json:"format"`
	Size   int64       `json:"size"`            // bytes that the guest sees
	Table  string      `json:"table,omitempty"` // gpt or mbr
	ID     string      `json:"id,omitempty"`    // of the table
}

// Partition is a part of the disk.
type Partition struct {
	Number   int    `json:"number"`
	Start    int64  `json:"start"` // bytes
	Size     int64  `json:"size"`  // bytes
	Type     string `json:"type"`  // a GUID, or 0x83
	TypeName string `json:"type_name,omitempty"`
	ID       string `json:"id,omitempty"` // PARTUUID
	Name     string `json:"name,omitempty"`
	Active   bool   `json:"active,omitempty"`
}

// FileSystem is one of those that the system has in its tree.
type FileSystem struct {
	Partition int    `json:"partition"`        // 0 is the whole disk
	Device    string `json:"device,omitempty"` // below /dev/mapper, of a file system that is deeper than on a partition
	Dir       string `json:"dir"`              // absolute
	Kind      string `json:"kind"`             // as for mount(8)
	UUID      string `json:"uuid,omitempty"`
	Label     string `json:"label,omitempty"`
	Size      int64  `json:"size,omitempty"` // bytes; 0 where it cannot be read here
	Used      int64  `json:"used,omitempty"` // bytes, 0 where that is not known
}

// System is what the tree says.
type System struct {
	Release      inspection.Release `json:"release"`
	Architecture string             `json:"architecture,omitempty"`
	Hostname     string             `json:"hostname,omitempty"`
	Fstab        []FstabLine        `json:"fstab"`
	Kernels      []Kernel           `json:"kernels"` // newest first
	Databases    []pkgdb.Database   `json:"package_databases"`
	Users        []User             `json:"users"`
	Groups       []Group            `json:"groups"`
	Units        []Unit             `json:"units"`
	Sizes        []DirectorySize    `json:"sizes"`
}

// Kernel is a kernel and what belongs to it; paths are absolute.
type Kernel struct {
	Version string `json:"version"`
	Image   string `json:"image"`
	Initrd  string `json:"initrd,omitempty"`
	Modules string `json:"modules"`
}

// Take surveys an image whose system and table were found; table is nil if it has
// none. It reads the names and inodes of the whole tree, and no file but a few.
func Take(image Image, table *disk.Table, system *inspection.System) (*Survey, error) {
	s := &Survey{Image: image, FileSystems: fileSystems(system)}
	if table != nil {
		s.Image.Table, s.Image.ID = table.Kind, table.ID
		for _, p := range table.Partitions {
			s.Partitions = append(s.Partitions, Partition{p.Number, p.Start, p.Size, p.Type, typeNames[p.Type], p.ID, p.Name, p.Active})
		}
	}
	inside, err := Look(system)
	if err != nil {
		return nil, err
	}
	s.System = *inside
	return s.whole(), nil
}

// whole makes lists of what is none, so that JSON has no null among its lists.
func (s *Survey) whole() *Survey {
	s.Partitions, s.FileSystems = orEmpty(s.Partitions), orEmpty(s.FileSystems)
	in := &s.System
	in.Fstab, in.Kernels, in.Databases = orEmpty(in.Fstab), orEmpty(in.Kernels), orEmpty(in.Databases)
	in.Users, in.Groups, in.Units, in.Sizes = orEmpty(in.Users), orEmpty(in.Groups), orEmpty(in.Units), orEmpty(in.Sizes)
	return s
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// Look surveys the system alone.
func Look(system *inspection.System) (*System, error) {
	tree := system.Tree()
	s := &System{Release: system.Release, Architecture: system.Architecture}
	for _, k := range system.Kernels {
		kernel := Kernel{Version: k.Version, Image: "/" + k.Image, Modules: "/lib/modules/" + k.Version}
		if k.Initrd != "" {
			kernel.Initrd = "/" + k.Initrd
		}
		s.Kernels = append(s.Kernels, kernel)
	}
	var err error
	if s.Databases, err = pkgdb.Read(tree); err != nil {
		return nil, fmt.Errorf("survey system: %w", err)
	}
	if err := s.readConfiguration(tree); err != nil {
		return nil, fmt.Errorf("survey system: %w", err)
	}
	if s.Sizes, err = sizes(tree); err != nil {
		return nil, fmt.Errorf("survey system: %w", err)
	}
	return s, nil
}

// fileSystems joins what fstab wants with what the file systems say of themselves.
func fileSystems(system *inspection.System) []FileSystem {
	var list []FileSystem
	for _, m := range system.Mounts {
		f := FileSystem{Partition: m.Partition, Device: m.Device, Dir: m.Dir, Kind: m.Type}
		for _, mounted := range system.FileSystems() {
			if "/"+mounted.Dir == m.Dir || mounted.Dir == "." && m.Dir == "/" {
				about := mounted.FS.About
				f.Kind, f.UUID, f.Label, f.Size, f.Used = about.Kind, about.UUID, about.Label, about.Size, about.Used
			}
		}
		list = append(list, f)
	}
	return list
}
