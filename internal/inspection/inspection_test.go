package inspection

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"herdbook/internal/peer"
)

const (
	rootUUID = "11111111-2222-3333-4444-555555555555"
	bootUUID = "66666666-7777-8888-9999-aaaaaaaaaaaa"
	partUUID = "0fc63daf-8483-4772-8e79-3d69d8477de4"
	release  = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nID_LIKE=\"one two\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n"
)

// program is the header of a program for a machine.
func program(machine uint16) string {
	head := make([]byte, 64)
	copy(head, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(head[18:], machine)
	return string(head)
}

// debian is the tree of a system with three kernels, one of them without modules.
func debian(fstab string) map[string]string {
	return map[string]string{
		"usr/lib/os-release": release, "etc/os-release": "-> ../usr/lib/os-release", "etc/fstab": fstab, "etc/hosts": "127.0.0.1 localhost\n",
		"bin": "-> usr/bin", "lib": "-> usr/lib", "usr/bin/sh": "-> dash", "usr/bin/dash": program(0x3e),
		"boot/vmlinuz-6.1.0-9-amd64": "nine", "boot/vmlinuz-6.1.0-10-amd64": "ten", "boot/vmlinuz-6.1.0-11-amd64": "without modules",
		"boot/initrd.img-6.1.0-10-amd64": "x", "boot/efi/": "", "vmlinuz": "-> boot/vmlinuz-6.1.0-9-amd64",
		"usr/lib/modules/6.1.0-9-amd64/modules.dep": "", "usr/lib/modules/6.1.0-10-amd64/modules.dep": "",
	}
}

// below takes what is below a directory of a tree for a tree.
func below(dir string, tree map[string]string) map[string]string {
	part := map[string]string{}
	for name, content := range tree {
		if name, ok := strings.CutPrefix(name, dir); ok {
			part[name] = content
		}
	}
	return part
}

// without leaves files out of a tree.
func without(tree map[string]string, names ...string) map[string]string {
	for _, name := range names {
		delete(tree, name)
	}
	return tree
}

// lay writes a tree: "-> target" is a link, a name with / at its end a directory.
func lay(t testing.TB, tree map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range tree {
		p := filepath.Join(dir, name)
		peer.Must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			peer.Must(t, os.Symlink(target, p))
		} else if strings.HasSuffix(name, "/") {
			peer.Must(t, os.MkdirAll(p, 0o755))
		} else {
			peer.Must(t, os.WriteFile(p, []byte(content), 0o644))
		}
	}
	return dir
}

// ext4Image makes a file system with a tree as lay has it.
func ext4Image(t testing.TB, tree map[string]string, options ...string) []byte {
	t.Helper()
	peer.NeedTool(t, "mke2fs")
	dir, image := lay(t, tree), filepath.Join(t.TempDir(), "image")
	peer.Run(t, "mke2fs", slices.Concat([]string{"-q", "-F", "-t", "ext4", "-d", dir}, options, []string{image, "3M"})...)
	return read(t, image)
}

// xfsImage makes a file system with a tree as lay has it.
func xfsImage(t testing.TB, tree map[string]string, options ...string) []byte {
	t.Helper()
	peer.NeedTool(t, "mkfs.xfs")
	dir, image := t.TempDir(), filepath.Join(t.TempDir(), "image")
	prototype := filepath.Join(dir, "prototype")
	peer.Must(t, os.WriteFile(prototype, []byte("/\n0 0\n"+prototypeOf(t, "", lay(t, tree))), 0o644))
	peer.Run(t, "truncate", "-s", "20M", image)
	// For tests it makes small ones, too.
	peer.Run(t, "env", slices.Concat([]string{"QA_CHECK_FS=1", "TEST_DIR=1", "TEST_DEV=1", "mkfs.xfs", "-q", "-p", prototype}, options, []string{image})...)
	return read(t, image)
}

// prototypeOf describes a directory as mkfs.xfs wants it.
func prototypeOf(t testing.TB, name, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	peer.Must(t, err)
	text := name + " d--755 0 0\n"
	for _, e := range entries {
		p := filepath.Join(dir, e.Name())
		switch {
		case e.IsDir():
			text += prototypeOf(t, e.Name(), p)
		case e.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			peer.Must(t, err)
			text += e.Name() + " l--777 0 0 " + target + "\n"
		default:
			text += e.Name() + " ---644 0 0 " + p + "\n"
		}
	}
	return text + "$\n"
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	p, err := os.ReadFile(name)
	peer.Must(t, err)
	return p
}

// esp makes a FAT with the serial number ABCD-1234 and a loader.
func esp(t testing.TB) []byte {
	t.Helper()
	peer.NeedTool(t, "mkfs.vfat", "mcopy", "mmd")
	dir := t.TempDir()
	image, loader := filepath.Join(dir, "esp"), filepath.Join(dir, "loader")
	peer.Must(t, os.WriteFile(loader, []byte("MZ"), 0o644))
	peer.Run(t, "mkfs.vfat", "-C", "-i", "abcd1234", "-n", "ESP", image, "4096")
	peer.Run(t, "mmd", "-i", image, "::EFI", "::EFI/BOOT")
	peer.Run(t, "mcopy", "-i", image, loader, "::EFI/BOOT/BOOTX64.EFI")
	return read(t, image)
}

// partition is one for sfdisk: its fields but start and size, and what is on it.
type partition struct {
	fields  string
	content []byte
}

const unit = 1 << 20

// table makes a disk with sfdisk; every partition begins on a MiB.
func table(t testing.TB, label string, partitions ...partition) []byte {
	t.Helper()
	peer.NeedTool(t, "sfdisk")
	script, at := "label: "+label+"\n", int64(unit)
	var starts []int64
	for _, p := range partitions {
		size := (max(int64(len(p.content)), unit) + unit - 1) / unit * unit
		if strings.Contains(p.fields, "type=extended") {
			size = 20 * unit
		}
		script += fmt.Sprintf("start=%d, size=%d, %s\n", at/512, size/512, p.fields)
		starts = append(starts, at)
		if strings.Contains(p.fields, "type=extended") {
			size = unit // the logical partitions lie within it
		}
		at += size + unit
	}
	image := filepath.Join(t.TempDir(), "disk")
	peer.Must(t, os.WriteFile(image, nil, 0o600))
	peer.Must(t, os.Truncate(image, at+21*unit))
	cmd := exec.Command("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", image)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s%s", err, script, out)
	}
	p := read(t, image)
	for i, start := range starts {
		copy(p[start:], partitions[i].content)
	}
	return p
}

func inspect(p []byte) (*System, error) { return Disk(bytes.NewReader(p), int64(len(p))) }

var wantKernels = []Kernel{
	{Version: "6.1.0-10-amd64", Image: "boot/vmlinuz-6.1.0-10-amd64", Initrd: "boot/initrd.img-6.1.0-10-amd64"}, {Version: "6.1.0-9-amd64", Image: "boot/vmlinuz-6.1.0-9-amd64"},
}

func TestDiskFindsTheSystem(t *testing.T) {
	rootOptions := []string{"-U", rootUUID, "-L", "root disk"}
	root := func(fstab string) []byte { return ext4Image(t, debian(fstab), rootOptions...) }
	efi := esp(t)
	for name, c := range map[string]struct {
		disk []byte
		want []Mount
	}{
		"whole disk": {root("/dev/vda / ext4 errors=remount-ro 0 1\n"), []Mount{{0, "/", "ext4", "", ""}}},
		"xfs": {
			table(t, "gpt", partition{"type=linux", xfsImage(t, merge(debian("UUID="+rootUUID+" / xfs defaults 0 0\nLABEL=boot /boot ext4 defaults 0 1\nLABEL=data /srv xfs nofail\n"), "srv/", ""), "-m", "uuid="+rootUUID)},
				partition{"type=linux", ext4Image(t, below("boot/", debian("")), "-L", "boot")}, partition{"type=linux", xfsImage(t, nil, "-L", "data")}),
			[]Mount{{1, "/", "xfs", "", ""}, {3, "/srv", "xfs", "", ""}, {2, "/boot", "ext4", "", ""}},
		},
		"gpt": {
			table(t, "gpt", partition{"type=21686148-6449-6E6F-744E-656564454649", nil}, partition{"type=uefi", efi},
				partition{"type=linux, uuid=" + partUUID, root("UUID=" + rootUUID + " / ext4 defaults 0 1\nUUID=ABCD-1234 /boot/efi vfat umask=0077,shortname=winnt 0 1\n")}),
			[]Mount{{3, "/", "ext4", "", ""}, {2, "/boot/efi", "vfat", "umask=0077", ""}},
		},
		"mbr": {
			table(t, "dos", partition{"type=83, bootable", root("LABEL=root\\040disk / ext4 defaults 0 1\n/dev/vda2 /boot/efi vfat defaults\n")}, partition{"type=ef", efi}),
			[]Mount{{1, "/", "ext4", "", ""}, {2, "/boot/efi", "vfat", "", ""}},
		},
		"logical partition": {
			table(t, "dos", partition{"type=ef", efi}, partition{"type=extended", nil}, partition{"type=82", nil}, partition{"type=83", root("")}, partition{"type=83", nil}),
			[]Mount{{6, "/", "ext4", "", ""}},
		},
		"gpt out of order": {
			table(t, "gpt", partition{"type=linux, name=data", ext4Image(t, map[string]string{"x": ""})}, partition{"type=linux", root("PARTLABEL=data /srv ext4 defaults\nPARTUUID=" + partUUID + " /srv/deep ext4 nofail\n")}, partition{"type=linux, uuid=" + strings.ToUpper(partUUID), ext4Image(t, nil)}),
			[]Mount{{2, "/", "ext4", "", ""}, {1, "/srv", "ext4", "", ""}, {3, "/srv/deep", "ext4", "", ""}},
		},
		"own /usr": {
			table(t, "gpt", partition{"type=linux", ext4Image(t, merge(without(debian("LABEL=usr /usr ext4 defaults\n"), "usr/lib/os-release", "usr/bin/sh", "usr/bin/dash", "usr/lib/modules/6.1.0-9-amd64/modules.dep", "usr/lib/modules/6.1.0-10-amd64/modules.dep"), "usr/", ""))},
				partition{"type=linux", ext4Image(t, below("usr/", debian("")), "-L", "usr")}),
			[]Mount{{1, "/", "ext4", "", ""}, {2, "/usr", "ext4", "", ""}},
		},
		"no fstab": {ext4Image(t, without(debian(""), "etc/fstab")), []Mount{{0, "/", "ext4", "", ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := inspect(c.disk)
			if err != nil {
				t.Fatal(err)
			}
			want := &System{Mounts: c.want, Release: Release{"debian", "12", "bookworm", "Debian GNU/Linux 12 (bookworm)", []string{"one", "two"}}, Architecture: "amd64", Kernels: wantKernels}
			got := &System{Mounts: s.Mounts, Release: s.Release, Architecture: s.Architecture, Kernels: s.Kernels}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(System{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if s.RootPartition() != s.Mounts[0].Partition || s.FileSystems()[0].FS == nil {
				t.Errorf("root partition %d", s.RootPartition())
			}
			if text, err := fs.ReadFile(s.Tree(), "etc/os-release"); err != nil || string(text) != release {
				t.Errorf("etc/os-release: %q, %v", text, err)
			}
		})
	}
}

// The tree is one, whatever file systems it is made of; one on /boot has the
// kernels.
func TestTreeJoinsFileSystems(t *testing.T) {
	system := without(debian("UUID="+bootUUID+" /boot ext4 defaults\nLABEL=deep /srv/a/b ext4 defaults\nLABEL=srv /srv ext4 defaults\n"),
		"boot/vmlinuz-6.1.0-10-amd64", "boot/vmlinuz-6.1.0-11-amd64", "boot/efi/")
	system["srv/hidden"], system["boot/hidden"] = "hidden", "hidden"
	s, err := inspect(table(t, "gpt",
		partition{"type=linux", ext4Image(t, map[string]string{"vmlinuz-6.1.0-10-amd64": "of /boot", "link": "-> vmlinuz-6.1.0-10-amd64", "grub/grub.cfg": "set"}, "-U", bootUUID)},
		partition{"type=linux", ext4Image(t, map[string]string{"file": "deep"}, "-L", "deep")},
		partition{"type=linux", ext4Image(t, map[string]string{"file": "srv", "a/b/": ""}, "-L", "srv")},
		partition{"type=linux", ext4Image(t, system)}))
	if err != nil {
		t.Fatal(err)
	}
	if want := []Mount{{4, "/", "ext4", "", ""}, {3, "/srv", "ext4", "", ""}, {1, "/boot", "ext4", "", ""}, {2, "/srv/a/b", "ext4", "", ""}}; !cmp.Equal(s.Mounts, want) {
		t.Errorf("mounts %v, want %v", s.Mounts, want)
	}
	if want := []Kernel{{Version: "6.1.0-10-amd64", Image: "boot/vmlinuz-6.1.0-10-amd64"}}; !cmp.Equal(s.Kernels, want) {
		t.Errorf("kernels %v, want %v", s.Kernels, want)
	}
	for name, want := range map[string]string{"boot/link": "of /boot", "srv/file": "srv", "srv/a/b/file": "deep", "etc/hosts": "127.0.0.1 localhost\n", "boot/grub/grub.cfg": "set"} {
		if text, err := fs.ReadFile(s.Tree(), name); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v, want %q", name, text, err, want)
		}
	}
	for _, name := range []string{"srv/hidden", "boot/hidden", "boot/boot/link", "srvfile"} {
		if _, err := fs.Stat(s.Tree(), name); err == nil {
			t.Errorf("%s is there", name)
		}
	}
	if info, err := s.Tree().Stat("boot"); err != nil || !info.IsDir() {
		t.Errorf("boot: %v", err)
	}
	if link, err := fs.ReadLink(s.Tree(), "boot/link"); err != nil || link != "vmlinuz-6.1.0-10-amd64" {
		t.Errorf("boot/link: %q, %v", link, err)
	}
	if entries, err := fs.ReadDir(s.Tree(), "srv/a/b"); err != nil || !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "file" }) {
		t.Errorf("srv/a/b: %v, %v", entries, err)
	}
}

func TestAFATIsPartOfTheTree(t *testing.T) {
	s, err := inspect(table(t, "gpt", partition{"type=uefi", esp(t)}, partition{"type=linux", ext4Image(t, debian("LABEL=esp /boot/efi vfat defaults\n"))}))
	if err == nil {
		t.Errorf("a label in lower case is found: %v", s.Mounts)
	}
	s, err = inspect(table(t, "gpt", partition{"type=uefi", esp(t)}, partition{"type=linux", ext4Image(t, debian("LABEL=ESP /boot/efi vfat defaults\n"))}))
	peer.Must(t, err)
	if text, err := fs.ReadFile(s.Tree(), "boot/efi/efi/boot/bootx64.efi"); err != nil || string(text) != "MZ" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestTreeIsAnFS(t *testing.T) {
	s, err := inspect(ext4Image(t, debian("")))
	peer.Must(t, err)
	if err := fstest.TestFS(s.Tree(), "etc/hosts", "usr/bin/dash", "boot/vmlinuz-6.1.0-10-amd64"); err != nil {
		t.Error(err)
	}
}

func TestDiskRefuses(t *testing.T) {
	linux := func(tree map[string]string) partition { return partition{"type=linux", ext4Image(t, tree)} }
	magic := func(at int, text string) partition {
		p := make([]byte, unit)
		copy(p[at:], text)
		return partition{"type=linux", p}
	}
	broken := ext4Image(t, debian(""))
	clear(broken[1024+4 : 1024+40]) // the superblock's counts
	for name, c := range map[string]struct {
		disk []byte
		want string
	}{
		"nothing":           {nil, "no operating system found"},
		"zeros":             {make([]byte, 4*unit), "no operating system found"},
		"noise":             {bytes.Repeat([]byte("noise"), unit), "no operating system found"},
		"empty table":       {table(t, "gpt"), "no operating system found"},
		"no root":           {table(t, "gpt", linux(map[string]string{"data": "x"})), "no ext2, ext3, ext4, XFS or btrfs file system has etc/os-release"},
		"only os-release":   {ext4Image(t, map[string]string{"etc/os-release": release}), "no operating system found"},
		"two roots":         {table(t, "gpt", linux(debian("")), partition{"type=swap", nil}, linux(debian(""))), "it holds 2 systems, on partition 1 and partition 3: herdbook works on one"},
		"broken xfs":        {table(t, "gpt", magic(0, "XFSB")), "partition 1: read superblock: "},
		"luks and squashfs": {table(t, "gpt", magic(0, "LUKS\xba\xbe"), magic(0, "hsqs")), "partition 1: LUKS header is corrupt: version 0; partition 2 is squashfs, which herdbook cannot read yet"},
		"broken btrfs":      {table(t, "gpt", magic(0x10040, "_BHRfS_M")), "partition 1: read superblock: "},
		"lvm":               {magic(512, "LABELONE\x07...............LVM2 001").content, "the whole disk: LVM metadata are corrupt: a label of sector"},
		"swap is no hint":   {table(t, "gpt", magic(4086, "SWAPSPACE2")), "no ext2, ext3, ext4, XFS or btrfs file system has etc/os-release"},
		"not there":         {ext4Image(t, debian("UUID="+bootUUID+" /boot ext4 defaults\n")), "etc/fstab wants UUID=" + bootUUID + " on /boot, which is not on this disk; mark it nofail if it is not needed"},
		"second disk":       {table(t, "gpt", linux(debian("/dev/sdb1 /mnt auto defaults\n"))), "etc/fstab wants /dev/sdb1 on /mnt, which is not on this disk"},
		"nothing's tag":     {table(t, "gpt", linux(debian("LABEL= /mnt ext4 defaults\n"))), "etc/fstab wants LABEL= on /mnt, which is not on this disk"},
		"data on luks":      {table(t, "gpt", linux(debian("/dev/vda2 /srv ext4 defaults\n")), magic(0, "LUKS\xba\xbe")), "etc/fstab wants /dev/vda2 on /srv: partition 2: LUKS header is corrupt"},
		"dangling release":  {ext4Image(t, without(debian(""), "usr/lib/os-release")), "there is no etc/os-release"},
		"broken ext4":       {broken, "superblock"},
		"broken data":       {table(t, "gpt", linux(debian("")), partition{"type=linux", broken}), "inspect disk: partition 2: "},
		"cut short":         {table(t, "gpt", linux(debian("")))[:2*unit], "inspect disk: "},
		"large fstab":       {ext4Image(t, debian(strings.Repeat("#", maxText+1))), "read etc/fstab: it has more than 1048576 bytes"},
		"large release":     {ext4Image(t, merge(debian(""), "usr/lib/os-release", strings.Repeat("#", maxText+1))), "read etc/os-release: it has more than 1048576 bytes"},
		"fstab is a dir":    {ext4Image(t, merge(without(debian(""), "etc/fstab"), "etc/fstab/", "")), "etc/fstab"},
		"boot is a file":    {ext4Image(t, merge(map[string]string{"boot": "x", "etc/os-release": release}, "etc/fstab", "")), "boot"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := inspect(c.disk)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "inspect disk: ") {
				t.Errorf("%+v, %v, want %q", s, err, c.want)
			}
		})
	}
}

func merge(tree map[string]string, name, content string) map[string]string {
	tree[name] = content
	return tree
}

// What cannot be read at all is not taken for a disk without a system.
func TestReadErrorsAreTold(t *testing.T) {
	if _, err := Disk(failing{}, 64*unit); err == nil || !strings.Contains(err.Error(), "input/output error") {
		t.Error(err)
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, fmt.Errorf("input/output error") }

func TestASystemWithoutKernels(t *testing.T) {
	for name, tree := range map[string]map[string]string{
		"no /boot":   {"etc/os-release": release, "etc/hosts": ""},
		"no modules": {"etc/os-release": release, "etc/hosts": "", "boot/vmlinuz-6.1.0-9-amd64": "x", "boot/vmlinuz": "x"},
		"a rescue":   {"etc/os-release": release, "etc/hosts": "", "boot/vmlinuz-0-rescue-0123": "x", "lib/modules/6.1/x": ""},
	} {
		s, err := inspect(ext4Image(t, tree))
		if err != nil || len(s.Kernels) != 0 || s.Architecture != "" {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

func TestArchitecture(t *testing.T) {
	for machine, want := range map[uint16]string{0x3e: "amd64", 0xb7: "arm64", 3: "i386", 0xf3: "riscv64", 0x16: "s390x", 0x2b: ""} {
		if got := architecture(fstest.MapFS{"bin/sh": {Data: []byte(program(machine))}}); got != want {
			t.Errorf("machine %#x: %q, want %q", machine, got, want)
		}
	}
	for name, tree := range map[string]fstest.MapFS{
		"a script first": {"bin/sh": {Data: []byte(strings.Repeat("#!/bin/sh\n", 10))}, "bin/ls": {Data: []byte(program(0xb7))}},
		"a short file":   {"bin/sh": {Data: []byte("\x7fELF")}, "usr/bin/env": {Data: []byte(program(0xb7))}},
	} {
		if got := architecture(tree); got != "arm64" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestKernelsAreOrderedByVersion(t *testing.T) {
	ordered := []string{"4.19.0-27-amd64", "5.10.0-9-amd64", "5.10.0-28-amd64", "6.1", "6.1.0-9-amd64", "6.1.0-09-arm64", "6.1.0-10-amd64", "6.1.0-10-cloud-amd64", "6.1.0-11-amd64", "6.10.3", "6.10.3+1", "18446744073709551616.1"}
	boot := fstest.MapFS{}
	for _, i := range rand.New(rand.NewSource(1)).Perm(len(ordered)) {
		boot["boot/vmlinuz-"+ordered[i]] = &fstest.MapFile{}
		boot["lib/modules/"+ordered[i]+"/modules.dep"] = &fstest.MapFile{}
	}
	boot["boot/Image-6.11.0-1-arm64"], boot["lib/modules/6.11.0-1-arm64/x"] = &fstest.MapFile{}, &fstest.MapFile{}
	list, err := kernels(boot)
	peer.Must(t, err)
	var got []string
	for _, k := range slices.Backward(list) {
		got = append(got, k.Version)
	}
	if want := slices.Insert(slices.Clone(ordered), len(ordered)-1, "6.11.0-1-arm64"); !slices.Equal(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("6.1.0-9-amd64", "6.1.0-10-amd64", "6.1")
	f.Add("01", "1", "001")
	f.Add("", "\xff", "~")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		sign := func(n int) int { return min(1, max(-1, n)) }
		if sign(compareVersions(a, b)) != -sign(compareVersions(b, a)) || compareVersions(a, a) != 0 {
			t.Errorf("%q, %q: no order", a, b)
		}
		if compareVersions(a, b) <= 0 && compareVersions(b, c) <= 0 && compareVersions(a, c) > 0 {
			t.Errorf("%q ≤ %q ≤ %q", a, b, c)
		}
		if x, err := strconv.Atoi(a); err == nil && x >= 0 {
			if y, err := strconv.Atoi(b); err == nil && y >= 0 && !strings.ContainsAny(a+b, "+-") && sign(compareVersions(a, b)) != sign(x-y) {
				t.Errorf("%d, %d", x, y)
			}
		}
	})
}

// patched is a disk of which some bytes were changed.
type patched struct {
	disk  []byte
	at    int64
	patch []byte
}

func (p *patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := bytes.NewReader(p.disk).ReadAt(b, off)
	for i := range p.patch {
		if at := p.at + int64(i) - off; at >= 0 && at < int64(n) {
			b[at] = p.patch[i]
		}
	}
	return n, err
}

// FuzzDisk damages a disk a little: an error or none, but no panic and no end of
// memory.
func FuzzDisk(f *testing.F) {
	p := table(f, "gpt", partition{"type=linux", ext4Image(f, debian("LABEL=boot /boot/efi ext4 defaults\n"), "-b", "1024")}, partition{"type=linux", ext4Image(f, map[string]string{"x": ""}, "-L", "boot", "-b", "1024")})
	random := rand.New(rand.NewSource(1))
	for range 300 {
		patch := make([]byte, 1+random.Intn(8))
		random.Read(patch)
		// The first MiB of table and of file system is where it can hurt.
		f.Add(uint32(random.Intn(2*unit)), patch)
	}
	for _, at := range []uint32{446, 510, 512, 512 + 72, 1024, unit + 1024, unit + 1024 + 24, unit + 2048} {
		f.Add(at, bytes.Repeat([]byte{0xff}, 16))
		f.Add(at, make([]byte, 64))
	}
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		s, err := Disk(&patched{p, int64(at) % int64(len(p)), patch}, int64(len(p)))
		if err == nil && (len(s.Mounts) == 0 || s.FileSystems()[0].FS == nil) {
			t.Errorf("a system without a root: %+v", s)
		}
	})
}
