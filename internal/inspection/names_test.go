package inspection

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"herdbook/internal/disk"
	"herdbook/internal/peer"
)

var releases = []struct {
	id, version, pretty, want string
	later                     bool // than osinfo-db 20221130
}{
	{"debian", "12", "", "debian12", true},
	{"debian", "11", "", "debian11", false},
	{"debian", "", "Debian GNU/Linux trixie/sid", "debiantesting", false},
	{"ubuntu", "22.04", "", "ubuntu22.04", false},
	{"fedora", "40", "", "fedora40", true},
	{"fedora", "37", "", "fedora37", false},
	{"rhel", "9.2", "", "rhel9.2", true},
	{"rhel", "8.7", "", "rhel8.7", false},
	{"centos", "7", "CentOS Linux 7 (Core)", "centos7", false},
	{"centos", "8", "CentOS Linux 8", "centos8", false},
	{"centos", "9", "CentOS Stream 9", "centos-stream9", false},
	{"almalinux", "9.3", "", "almalinux9", false},
	{"rocky", "9.1", "", "rocky9.1", true},
	{"rocky", "8.6", "", "rocky8.6", false},
	{"ol", "8.5", "", "ol8.5", false},
	{"opensuse-leap", "15.5", "", "opensuse15.5", true},
	{"opensuse-leap", "15.4", "", "opensuse15.4", false},
	{"opensuse", "42.3", "", "opensuse42.3", false},
	{"opensuse-tumbleweed", "20240101", "", "opensusetumbleweed", false},
	{"sles", "15.5", "", "sle15sp5", true},
	{"sles", "15.4", "", "sle15sp4", false},
	{"sles", "15", "", "sle15", false},
	{"sles", "12.5", "", "sles12sp5", false},
	{"sled", "12.5", "", "sled12sp5", false},
	{"sled", "15.1", "", "sle15sp1", false},
	{"sle-micro", "5.2", "", "slem5.2", false},
	{"alpine", "3.19.1", "", "alpinelinux3.19", true},
	{"alpine", "3.17.0", "", "alpinelinux3.17", false},
	{"arch", "", "", "archlinux", false},
	{"arch", "20240101.204074", "", "archlinux", false},
	{"gentoo", "2.14", "", "gentoo", false},
	{"void", "", "", "voidlinux", false},
	{"mageia", "8", "", "mageia8", false},
	{"nixos", "22.05", "", "nixos-22.05", false},
	{"pop", "20.04", "", "popos20.04", false},
	{"pureos", "10.0", "", "pureos10", false},
	{"scientific", "7.6", "", "scientificlinux7.6", false},
	{"slackware", "14.2", "", "slackware14.2", false},
	{"cirros", "0.5.2", "", "cirros0.5.2", false},
	{"clear-linux-os", "37000", "", "clearlinux", false},
	{"circle", "8.5", "", "circle8.5", false},
	{"miraclelinux", "8.4", "", "miraclelinux8.4", false},
	{"endless", "4.0.10", "", "eos4.0", false},
	{"trisquel", "9.0", "", "trisquel9", false},
	{"of-my-own", "1", "", "", false},
	{"sles", "", "", "", false},
	{"", "", "", "", false},
}

func TestOSInfo(t *testing.T) {
	for _, c := range releases {
		if got := (Release{ID: c.id, VersionID: c.version, PrettyName: c.pretty}).OSInfo(); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.id, c.version, got, c.want)
		}
	}
}

// What is told must be in libosinfo's own database.
func TestOSInfoIsLibosinfos(t *testing.T) {
	files, err := filepath.Glob("/usr/share/osinfo/os/*/*.xml")
	peer.Must(t, err)
	peer.Need(t, len(files) > 0, "osinfo-db is not installed; make packages installs what the tests need")
	var known []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		peer.Must(t, err)
		for _, m := range regexp.MustCompile(`<short-id>(.*?)</short-id>`).FindAllSubmatch(text, -1) {
			known = append(known, string(m[1]))
		}
	}
	for _, c := range releases {
		if c.want != "" && !c.later && !slices.Contains(known, c.want) {
			t.Errorf("libosinfo knows no %q", c.want)
		}
	}
}

func TestMachine(t *testing.T) {
	for name, c := range map[string]struct {
		class, data byte
		machine     string
		flags       string // at byte 36
		guestfs     string
	}{
		"amd64": {2, 1, "\x3e\x00", "", "x86_64"}, "i386": {1, 1, "\x03\x00", "", "i686"},
		"arm64": {2, 1, "\xb7\x00", "", "aarch64"}, "armhf": {1, 1, "\x28\x00", "\x00\x04\x00\x05", "armv7l"},
		"armel": {1, 1, "\x28\x00", "\x00\x02\x00\x05", ""}, "riscv64": {2, 1, "\xf3\x00", "", "riscv64"},
		"ppc64el": {2, 1, "\x15\x00", "", "ppc64le"}, "ppc64": {2, 2, "\x00\x15", "", "ppc64"},
		"s390x": {2, 2, "\x00\x16", "", "s390x"}, "": {1, 2, "\x00\x16", "", ""},
	} {
		head := make([]byte, 64)
		copy(head, "\x7fELF"+string([]byte{c.class, c.data}))
		copy(head[18:], c.machine)
		copy(head[36:], c.flags)
		if got := machine(head); got != name || (&System{Architecture: got}).GuestfsArchitecture() != c.guestfs {
			t.Errorf("%q, want %q", got, name)
		}
	}
}

func TestExpansion(t *testing.T) {
	root := func() []byte { return ext4Image(t, debian("")) }
	// A group on one partition, and one that is spread over two.
	l := peer.NewLVM(t, 32*unit, 32*unit)
	l.Run("pvcreate", l.Loops[0], l.Loops[1])
	l.Run("vgcreate", "-s", "1m", "the-vg", l.Loops[0], l.Loops[1])
	l.Create("-l", "60", "-n", "the-root", "the-vg")
	halves := [2][]byte{read(t, l.Files[0]), read(t, l.Files[1])}
	if image := root(); len(image) > 30*unit {
		t.Fatalf("%d bytes are too many", len(image))
	} else {
		copy(halves[0][unit:], image)
	}
	for name, c := range map[string]struct {
		disk []byte
		want Expansion
	}{
		"partition":        {table(t, "gpt", partition{"type=uefi", esp(t)}, partition{"type=linux", root()}), Expansion{"/dev/sda2", ""}},
		"mbr":              {table(t, "dos", partition{"type=83", root()}), Expansion{"/dev/sda1", ""}},
		"whole disk":       {root(), Expansion{}},
		"logical volume":   {table(t, "gpt", partition{"type=uefi", esp(t)}, partition{"type=lvm", read(t, group(t, root(), nil))}), Expansion{"/dev/sda2", "/dev/vg/root"}},
		"two physical":     {table(t, "gpt", partition{"type=lvm", halves[0]}, partition{"type=lvm", halves[1]}), Expansion{"/dev/sda2", "/dev/the-vg/the-root"}},
		"the other way":    {table(t, "gpt", partition{"type=lvm", halves[1]}, partition{"type=lvm", halves[0]}), Expansion{"/dev/sda2", "/dev/the-vg/the-root"}},
		"RAID, of nothing": {table(t, "gpt", partition{"type=linux", root()}, partition{"type=raid", make([]byte, unit)}), Expansion{"/dev/sda1", ""}},
	} {
		s, err := inspect(c.disk)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		found, err := disk.ReadTable(bytes.NewReader(c.disk), int64(len(c.disk)))
		if err != nil && name != "whole disk" {
			t.Fatal(err)
		}
		if got := s.Expansion(found); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	// An MBR's logical partition cannot be named.
	s := &System{Mounts: []Mount{{Partition: 5, Dir: "/"}}}
	if got := s.Expansion(&disk.Table{Kind: "mbr"}); got != (Expansion{}) {
		t.Errorf("logical partition: %+v", got)
	}
	if got := s.Expansion(&disk.Table{Kind: "gpt"}); got != (Expansion{Partition: "/dev/sda5"}) {
		t.Errorf("fifth of a GPT: %+v", got)
	}
	s = &System{Mounts: []Mount{{Device: "luks-1", Dir: "/"}}}
	if got := s.Expansion(&disk.Table{Kind: "gpt"}); got != (Expansion{}) {
		t.Errorf("encrypted: %+v", got)
	}
}

// Newest is shared by all who hand a kernel on.
func TestNewest(t *testing.T) {
	s := &System{Kernels: []Kernel{{Version: "2"}, {Version: "1"}}}
	if k, err := s.Newest(); err != nil || k.Version != "2" {
		t.Errorf("%+v, %v", k, err)
	}
	if _, err := (&System{}).Newest(); err == nil || !strings.Contains(err.Error(), "no kernel") {
		t.Error(err)
	}
}
