package growth

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/disk"
	"herdbook/internal/inspection"
	"herdbook/internal/mapper"
	"herdbook/internal/peer"
)

const mib = 1 << 20

// makeDisk partitions a disk and puts files at offsets, in MiB.
func makeDisk(t *testing.T, size int64, script string, files map[int64]string) []byte {
	t.Helper()
	peer.NeedTool(t, "sfdisk")
	path := filepath.Join(t.TempDir(), "disk")
	peer.Must(t, errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, size)))
	if script != "" {
		cmd := exec.Command("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", path)
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("sfdisk: %v\n%s", err, out)
		}
	}
	p, err := os.ReadFile(path)
	peer.Must(t, err)
	for at, file := range files {
		content, err := os.ReadFile(file)
		peer.Must(t, err)
		copy(p[at*mib:], content)
	}
	return p
}

// root makes an ext4 with a system, in a new file or at an offset of one.
func root(t *testing.T, file string, offset, size int64, files ...string) string {
	t.Helper()
	peer.NeedTool(t, "mke2fs")
	dir := t.TempDir()
	for name, text := range map[string]string{"etc/os-release": "ID=debian\n", "etc/hosts": "", "usr/sbin/lvm": ""} {
		if name == "usr/sbin/lvm" && len(files) == 0 {
			continue
		}
		peer.Must(t, errors.Join(os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755)))
	}
	if file == "" {
		file = filepath.Join(t.TempDir(), "root")
	}
	peer.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-E", fmt.Sprint("offset=", offset), "-d", dir, file, fmt.Sprintf("%dk", size>>10))
	return file
}

// withLVM makes a physical volume whose group has a root.
func withLVM(t *testing.T, program bool) string {
	t.Helper()
	l := peer.NewLVM(t, 24*mib)
	l.Run("pvcreate", l.Loops[0])
	l.Run("vgcreate", "-s", "1m", "my-vg", l.Loops[0])
	l.Create("-l", "16", "-n", "the-root", "my-vg")
	if program {
		return root(t, l.Files[0], mib, 16*mib, "lvm")
	}
	return root(t, l.Files[0], mib, 16*mib)
}

// describe tells a plan in a line.
func describe(p *Plan) string {
	text := fmt.Sprintf("%d → %d MiB", p.Before/mib, p.After/mib)
	if g := p.Partition; g != nil {
		text += fmt.Sprintf(", partition %d %d → %d MiB", g.Before.Number, g.Before.Size/mib, g.After.Size/mib)
	}
	if p.Encrypted {
		text += ", LUKS"
	}
	if l := p.Logical; l != nil {
		text += fmt.Sprintf(", %s %d MiB on %s", l.Volume, l.Size/mib, l.Physical)
	}
	return text + fmt.Sprintf(", %s %s %d MiB", p.Mount.Type, p.Mount.Dir, p.FileSystem/mib)
}

func TestMake(t *testing.T) {
	const cloud = "label: gpt\n1: start=40960, size=40960\n14: start=2048, size=8192\n15: start=10240, size=20480\n"
	const logical = "label: dos\nstart=2048, size=4096\nstart=6144, size=55296, type=5\n5: start=8192, size=53248\n"
	plain := root(t, "", 0, 16*mib)
	for _, c := range []struct {
		name   string
		size   int64 // MiB
		script string
		files  map[int64]string
		want   Request // Size in MiB
		plan   string  // or the end of the error
	}{
		{"cloud image", 48, cloud, map[int64]string{20: plain}, Request{Size: 100}, "48 → 100 MiB, partition 1 20 → 79 MiB, ext4 / 16 MiB"},
		{"by number", 48, cloud, map[int64]string{20: plain}, Request{Size: 100, Expand: "/dev/sda1"}, "48 → 100 MiB, partition 1 20 → 79 MiB, ext4 / 16 MiB"},
		{"another partition", 48, cloud, map[int64]string{20: plain}, Request{Size: 100, Expand: "/dev/sda14"}, "nothing that the system mounts is called /dev/sda14; it mounts / (partition 1)"},
		{"logical", 40, logical, map[int64]string{4: plain}, Request{Size: 80}, "40 → 80 MiB, partition 5 26 → 76 MiB, ext4 / 16 MiB"},
		{"whole disk", 16, "", map[int64]string{0: plain}, Request{Size: 80}, "16 → 80 MiB, ext4 / 16 MiB"},
		{"whole disk, by little", 16, "", map[int64]string{0: plain}, Request{Size: 16}, "that is less than 1 MiB more"},
		{"smaller", 48, cloud, map[int64]string{20: plain}, Request{Size: 47}, "herdbook makes no disk smaller"},
		{"the disk has room already", 100, cloud, map[int64]string{20: plain}, Request{Size: 100}, "100 → 100 MiB, partition 1 20 → 79 MiB, ext4 / 16 MiB"},
		{"swap behind it", 48, "label: gpt\nstart=2048, size=40960\nstart=43008, size=2048\n", map[int64]string{1: plain}, Request{Size: 100}, "partition 2 lies behind it, and herdbook moves none"},
		{"no room at all", 32, "label: dos\nstart=2048, size=63488\n", map[int64]string{1: plain}, Request{Size: 32}, "choose a larger size"},
		{"more than an MBR can", 48, "label: dos\nstart=2048, size=40960\n", map[int64]string{1: plain}, Request{Size: 3 << 20}, "convert the table to GPT with sgdisk -g"},
		{"LVM", 32, "label: gpt\nstart=2048, size=49152\n", map[int64]string{1: withLVM(t, true)}, Request{Size: 64},
			"32 → 64 MiB, partition 1 24 → 62 MiB, my-vg/the-root 16 MiB on partition 1, ext4 / 16 MiB"},
		{"LVM, by name", 32, "label: gpt\nstart=2048, size=49152\n", map[int64]string{1: withLVM(t, true)}, Request{Size: 64, Expand: "my-vg/the-root"},
			"32 → 64 MiB, partition 1 24 → 62 MiB, my-vg/the-root 16 MiB on partition 1, ext4 / 16 MiB"},
		{"LVM, without its program", 32, "label: gpt\nstart=2048, size=49152\n", map[int64]string{1: withLVM(t, false)}, Request{Size: 64}, "install lvm2 in it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := makeDisk(t, c.size*mib, c.script, c.files)
			c.want.Size *= mib
			find := func(r io.ReaderAt, size int64) (*inspection.System, error) { return inspection.Disk(r, size) }
			system, err := find(bytes.NewReader(p), int64(len(p)))
			peer.Must(t, err)
			got, err := Make(bytes.NewReader(p), int64(len(p)), system, c.want, find)
			if err != nil {
				if !strings.HasSuffix(err.Error(), c.plan) {
					t.Errorf("%v, want %s", err, c.plan)
				}
				return
			}
			if diff := cmp.Diff(c.plan, describe(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatLiesBelow(t *testing.T) {
	on := func(t mapper.Type, sources ...mapper.Source) []mapper.Target {
		var list []mapper.Target
		for _, s := range sources {
			list = append(list, mapper.Target{Length: 2048, Type: t, Areas: []mapper.Area{{Source: s}}})
		}
		return list
	}
	one, two, three := mapper.Source{Partition: 1}, mapper.Source{Partition: 2}, mapper.Source{Partition: 3}
	w := walk{
		partitions: []disk.Partition{{Number: 1, Start: 1}, {Number: 2, Start: 3}, {Number: 3, Start: 2}},
		devices: []mapper.Device{
			{Name: "crypt", UUID: "CRYPT-LUKS2-0", Table: on(mapper.Crypted, three)},
			{Name: "v-on--crypt", UUID: "LVM-0", Table: on(mapper.Linear, mapper.Source{Device: "crypt"})},
			{Name: "v-several", UUID: "LVM-1", Table: on(mapper.Linear, one, two, three)},
			{Name: "v-striped", UUID: "LVM-2", Table: on(mapper.Striped, one)},
			{Name: "v-within", UUID: "LVM-3", Table: on(mapper.Linear, mapper.Source{Device: "v-several"})},
			{Name: "md-0", Table: on(mapper.Mirror, one)},
			{Name: "v-later", UUID: "LVM-4", Table: on(mapper.Linear, mapper.Source{Device: "v-later"})},
		},
	}
	for _, c := range []struct{ device, want string }{
		{"crypt", "partition 3, encrypted"},
		{"v-on--crypt", "partition 3, encrypted, v/on-crypt of 1 MiB on /dev/mapper/crypt"},
		{"v-several", "partition 2, v/several of 3 MiB on partition 2"},
		{"v-striped", "logical volume v/striped is striped, and herdbook grows linear ones"},
		{"v-within", "logical volume v/within lies on another one, which herdbook does not grow"},
		{"md-0", "it is on a RAID array, which herdbook cannot grow: mdadm can, on the running system"},
		{"v-later", "there is no device v-later"},
	} {
		b, err := w.down(mapper.Source{Device: c.device})
		got := fmt.Sprint("partition ", b.partition)
		if b.encrypted {
			got += ", encrypted"
		}
		if l := b.logical; l != nil {
			got += fmt.Sprintf(", %s of %d MiB on %s", l.Volume, l.Size/mib, l.Physical)
		}
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.device, got, c.want)
		}
	}
}

func TestVolumeName(t *testing.T) {
	for device, want := range map[string]string{"vg-root": "vg/root", "my--vg-the--root": "my-vg/the-root", "a---b": "a-/b"} {
		if got := volumeName(device); got != want {
			t.Errorf("%s: %s, want %s", device, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	mounts := []inspection.Mount{{Dir: "/", Device: "my--vg-root"}, {Dir: "/boot", Partition: 2}, {Dir: "/srv", Partition: 12}}
	for name, want := range map[string]string{
		"": "/", "/": "/", "my-vg/root": "/", "/dev/my-vg/root": "/", "/dev/mapper/my--vg-root": "/", "mapper/my--vg-root": "/",
		"2": "/boot", "sda2": "/boot", "/dev/vda2": "/boot", "/dev/nvme0n1p2": "/boot", "mmcblk0p12": "/srv", "/srv": "/srv",
		"0": "", "sda": "", "sda1": "", "/var": "", "nvme0n12": "",
	} {
		m, err := choose(mounts, name)
		if m.Dir != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", name, m.Dir, err)
		}
	}
}

func TestGrown(t *testing.T) {
	g := grown{bytes.NewReader([]byte("abcdef")), 6, 10, []disk.Write{{Offset: 4, Bytes: []byte("XYZ")}, {Offset: 9, Bytes: []byte("!")}}}
	whole := "abcdXYZ\x00\x00!"
	for from := range 10 {
		for to := from; to <= 12; to++ {
			p := bytes.Repeat([]byte{7}, to-from)
			n, err := g.ReadAt(p, int64(from))
			if want := whole[from:min(to, 10)]; string(p[:n]) != want || (err == io.EOF) != (to > 10) {
				t.Errorf("%d to %d: %q, %v, want %q", from, to, p[:n], err, want)
			}
		}
	}
	if _, err := g.ReadAt(make([]byte, 1), 10); err != io.EOF {
		t.Error(err)
	}
}
