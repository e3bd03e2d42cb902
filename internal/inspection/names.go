package inspection

import (
	"cmp"
	"fmt"
	"strings"

	"herdbook/internal/disk"
	"herdbook/internal/mapper"
	"herdbook/internal/volume"
)

// guestfsNames are libguestfs' names of architectures for Debian's.
var guestfsNames = map[string]string{
	"amd64": "x86_64", "arm64": "aarch64", "armhf": "armv7l", "i386": "i686",
	"ppc64": "ppc64", "ppc64el": "ppc64le", "riscv64": "riscv64", "s390x": "s390x",
}

// GuestfsArchitecture is what libguestfs, and with it virt-builder, calls a system's
// architecture; "" if it is not known.
func (s *System) GuestfsArchitecture() string { return guestfsNames[s.Architecture] }

// shortID is how libosinfo makes a short-id for a distribution's releases.
type shortID struct {
	name  string
	parts int    // of VERSION_ID that follow the name
	none  string // the short-id of what has no VERSION_ID
}

// shortIDs are those of osinfo-db, by os-release's ID.
var shortIDs = map[string]shortID{
	"almalinux":           {"almalinux", 1, ""},
	"alpine":              {"alpinelinux", 2, ""},
	"arch":                {"", 0, "archlinux"},
	"centos":              {"centos", 1, ""},
	"circle":              {"circle", 2, ""},
	"cirros":              {"cirros", 3, ""},
	"clear-linux-os":      {"clearlinux", 0, ""},
	"debian":              {"debian", 1, "debiantesting"},
	"endless":             {"eos", 2, ""},
	"fedora":              {"fedora", 1, ""},
	"gentoo":              {"gentoo", 0, "gentoo"},
	"mageia":              {"mageia", 1, ""},
	"miraclelinux":        {"miraclelinux", 2, ""},
	"nixos":               {"nixos-", 2, ""},
	"ol":                  {"ol", 2, ""},
	"opensuse":            {"opensuse", 2, ""},
	"opensuse-leap":       {"opensuse", 2, ""},
	"opensuse-tumbleweed": {"opensusetumbleweed", 0, ""},
	"pop":                 {"popos", 2, ""},
	"pureos":              {"pureos", 1, ""},
	"rhel":                {"rhel", 2, ""},
	"rocky":               {"rocky", 2, ""},
	"scientific":          {"scientificlinux", 2, ""},
	"slackware":           {"slackware", 2, ""},
	"sle-micro":           {"slem", 2, ""},
	"trisquel":            {"trisquel", 1, ""},
	"ubuntu":              {"ubuntu", 2, ""},
	"void":                {"", 0, "voidlinux"},
}

// OSInfo is libosinfo's short-id of the release, such as debian12; "" for a
// distribution that libosinfo does not have.
func (r Release) OSInfo() string {
	if r.ID == "sles" || r.ID == "sled" {
		return r.suse()
	}
	form, known := shortIDs[r.ID]
	switch {
	case !known:
		return ""
	case r.VersionID == "":
		return form.none
	case r.ID == "centos" && strings.Contains(r.PrettyName, "Stream"):
		form.name = "centos-stream"
	}
	version := strings.Split(r.VersionID, ".")
	id := form.name + strings.Join(version[:min(form.parts, len(version))], ".")
	return cmp.Or(id, form.none)
}

// suse names a SUSE Linux Enterprise, of which a minor version is a service pack. Since
// 15 all products have one name.
func (r Release) suse() string {
	if r.VersionID == "" {
		return ""
	}
	major, pack, _ := strings.Cut(r.VersionID, ".")
	name := r.ID
	if len(major) > 1 && major >= "15" {
		name = "sle"
	}
	if pack == "" || pack == "0" {
		return name + major
	}
	return name + major + "sp" + pack
}

// Expansion is what virt-resize must make larger for the root to grow: the values of
// its --expand and --lv-expand. Empty fields say that it cannot.
type Expansion struct {
	Partition string // such as /dev/sda3
	Logical   string // such as /dev/vg/root; "" if the root is on no logical volume
}

// Expansion finds out what must grow for the root to grow, on a disk with a table; nil
// for one without. Of several physical volumes it is the one that lies last. There is
// nothing that virt-resize could do for a root on the whole disk, on RAID, on what is
// encrypted, or on a logical partition of an MBR, which it cannot name.
func (s *System) Expansion(table *disk.Table) Expansion {
	root := s.Mounts[0]
	if table == nil {
		return Expansion{}
	}
	if root.Device == "" {
		return Expansion{Partition: expandable(table, root.Partition)}
	}
	var found disk.Partition
	for _, d := range s.Devices {
		if d.Name != root.Device || !strings.HasPrefix(d.UUID, "LVM-") {
			continue
		}
		for _, target := range d.Table {
			p, ok := physical(table, target)
			if !ok {
				return Expansion{}
			}
			if p.Start >= found.Start {
				found = p
			}
		}
	}
	partition := expandable(table, found.Number)
	if partition == "" {
		return Expansion{}
	}
	for _, v := range s.volumes {
		if v.Kind == volume.Logical && v.Source.Device == root.Device {
			return Expansion{partition, "/dev/" + v.Paths[0]}
		}
	}
	return Expansion{}
}

// physical is the partition that a row of a logical volume's table lies on.
func physical(table *disk.Table, target mapper.Target) (disk.Partition, bool) {
	if target.Type != mapper.Linear || target.Areas[0].Source.Device != "" {
		return disk.Partition{}, false
	}
	for _, p := range table.Partitions {
		if p.Number == target.Areas[0].Source.Partition {
			return p, true
		}
	}
	return disk.Partition{}, false
}

// expandable is what virt-resize calls a partition.
func expandable(table *disk.Table, number int) string {
	if number == 0 || table.Kind == "mbr" && number > 4 {
		return ""
	}
	return fmt.Sprintf("/dev/sda%d", number)
}
