package workshop

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/disk"
	"herdbook/internal/growth"
	"herdbook/internal/inspection"
	"herdbook/internal/mapper"
	"herdbook/internal/peer"
	"herdbook/internal/volume"
	"herdbook/internal/wire"
)

// growDisk makes a disk larger, with all that its root lies on.
func growDisk(t *testing.T, path string, size int64, keys ...volume.Key) *growth.Plan {
	t.Helper()
	inspect := func(r io.ReaderAt, size int64) (*inspection.System, error) { return inspection.Disk(r, size, keys...) }
	look := func(fn func(*disk.Image, *inspection.System) error) {
		t.Helper()
		image, err := disk.Open(path, disk.QCOW2)
		peer.Must(t, err)
		defer image.Close()
		system, err := inspect(image, image.Size())
		peer.Must(t, err)
		peer.Must(t, fn(image, system))
	}
	var p *growth.Plan
	look(func(image *disk.Image, system *inspection.System) (err error) {
		p, err = growth.Make(image, image.Size(), system, growth.Request{Size: size}, inspect)
		return err
	})
	peer.Must(t, disk.Resize(t.Context(), path, disk.QCOW2, size))
	if p.Partition != nil {
		peer.Must(t, disk.Apply(t.Context(), path, p.Partition.Writes))
	}
	job := wire.Job{Grow: &wire.Grow{Dir: "/"}}
	if p.Logical != nil {
		job.Grow.Volume, job.Grow.Physical = p.Logical.Volume, p.Logical.Physical
	}
	do(t, path, job, keys...)
	look(func(_ *disk.Image, system *inspection.System) error { return p.Done(system) })
	return p
}

// addProgram gives a guest a program of this machine with its libraries.
func (g guest) addProgram(t *testing.T, name string) {
	t.Helper()
	peer.NeedTool(t, name, "ldd")
	program := strings.TrimSpace(peer.Run(t, "sh", "-c", "command -v "+name))
	for _, file := range append(strings.Fields(peer.Run(t, "ldd", program)), program) {
		if !strings.HasPrefix(file, "/") {
			continue
		}
		to := filepath.Join(g.dir, file)
		peer.Must(t, os.MkdirAll(filepath.Dir(to), 0o755))
		peer.Run(t, "cp", "-L", file, to)
	}
}

// Everything grows on every kind of disk, and the file systems' own tools find
// nothing wrong afterwards.
func TestVMGrow(t *testing.T) {
	_, err := Agent()
	peer.Need(t, err == nil, "the agent is not built: make build")
	peer.NeedTool(t, "e2fsck", "xfs_repair", "btrfs", "sfdisk")
	root := func(format string, g guest) part { return part{mib: 400, format: format, tree: g.dir} }
	for _, c := range []struct {
		name, check string
		make        func(t *testing.T, g guest) string
	}{
		{"GPT, the root is partition 1 and lies last", "e2fsck -fn", func(t *testing.T, g guest) string {
			p := root("-t ext4", g)
			p.number = 1
			return makeDisk(t, "gpt", part{mib: 4, number: 14, content: []byte("boot")}, part{mib: 40, number: 15, format: "vfat"}, p)
		}},
		{"MBR, a logical partition, ext3", "e2fsck -fn", func(t *testing.T, g guest) string {
			p := root("-t ext3", g)
			p.logical, p.number = true, 5
			return makeDisk(t, "dos", part{mib: 40, format: "vfat"}, p)
		}},
		{"no partitions, ext2", "e2fsck -fn", func(t *testing.T, g guest) string { return makeDisk(t, "", root("-t ext2", g)) }},
		{"XFS", "xfs_repair -n", func(t *testing.T, g guest) string { return makeDisk(t, "gpt", root("xfs", g)) }},
		{"btrfs", "btrfs check", func(t *testing.T, g guest) string {
			g.write(t, "etc/fstab", "/dev/vda1 / btrfs subvol=root\n")
			return makeDisk(t, "gpt", root("btrfs", g))
		}},
		{"LVM", "e2fsck -fn", onLVM},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuest(t, "")
			g.write(t, "etc/fstab", "")
			path := c.make(t, g)
			image, err := disk.Open(path, disk.QCOW2)
			peer.Must(t, err)
			size := image.Size() + 700*mib
			peer.Must(t, image.Close())
			p := growDisk(t, path, size)
			if more := p.NewFileSystem - p.FileSystem; more < 690*mib || more > 720*mib {
				t.Errorf("it grew by %d MiB", more/mib)
			}
			checkGrown(t, path, p, c.check)
			if got := work(t, path, "#!/bin/sh\ncat /etc/os-release\n"); !strings.Contains(got, "A small one") {
				t.Errorf("it says %q", got)
			}
		})
	}
}

// onLVM puts a guest on a logical volume.
func onLVM(t *testing.T, g guest) string {
	t.Helper()
	g.addProgram(t, "lvm")
	l := peer.NewLVM(t, 400*mib)
	l.Run("pvcreate", l.Loops[0])
	l.Run("vgcreate", "-s", "1m", "my-vg", l.Loops[0])
	l.Create("-l", "380", "-n", "the-root", "my-vg")
	peer.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-E", fmt.Sprintf("offset=%d", mib), "-d", g.dir, l.Files[0], "380M")
	content, err := os.ReadFile(l.Files[0])
	peer.Must(t, err)
	return makeDisk(t, "gpt", part{mib: 400, content: content})
}

// checkGrown has the tools themselves look at the table and the file system.
func checkGrown(t *testing.T, path string, p *growth.Plan, check string) {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw")
	peer.Run(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
	at := int64(0)
	if p.Partition != nil {
		if out := peer.Run(t, "sfdisk", "--verify", raw); !strings.Contains(out, "No errors detected") {
			t.Errorf("sfdisk says %s", out)
		}
		at = p.Partition.After.Start
	}
	var list []mapper.Target
	if p.Logical != nil { // which lies on two ranges, made one here
		image, err := disk.Open(path, disk.QCOW2)
		peer.Must(t, err)
		defer image.Close()
		system, err := inspection.Disk(image, image.Size())
		peer.Must(t, err)
		list = system.Devices[0].Table
	}
	alone := filepath.Join(t.TempDir(), "alone")
	if list == nil {
		peer.Run(t, "dd", "status=none", "conv=sparse", "iflag=skip_bytes,count_bytes", "bs=1M", "if="+raw, "of="+alone, fmt.Sprint("skip=", at), fmt.Sprint("count=", p.NewFileSystem))
		peer.Must(t, os.Truncate(alone, p.NewFileSystem))
	}
	for _, row := range list {
		peer.Run(t, "dd", "status=none", "conv=sparse,notrunc", "iflag=skip_bytes,count_bytes", "oflag=seek_bytes", "bs=1M", "if="+raw, "of="+alone,
			fmt.Sprint("skip=", at+row.Areas[0].Offset<<9), fmt.Sprint("count=", row.Length<<9), fmt.Sprint("seek=", row.Start<<9))
	}
	words := append(strings.Fields(check), alone)
	peer.Run(t, words[0], words[1:]...)
}

// An encrypted volume grows by itself, and what is in it after it.
func TestVMGrowEncrypted(t *testing.T) {
	_, err := Agent()
	peer.Need(t, err == nil, "the agent is not built: make build")
	g := newGuest(t, "")
	g.write(t, "etc/fstab", "")
	boot := filepath.Join(t.TempDir(), "boot")
	peer.Must(t, os.Rename(filepath.Join(g.dir, "boot"), boot))
	peer.Must(t, os.Mkdir(filepath.Join(g.dir, "boot"), 0o755))
	g.write(t, "etc/fstab", "LABEL=boot /boot ext4 defaults 0 2\n")
	root := filepath.Join(t.TempDir(), "root")
	peer.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-d", g.dir, root, "300M")
	peer.Encrypt(t, root, "sesame")
	content, err := os.ReadFile(root)
	peer.Must(t, err)
	path := makeDisk(t, "gpt", part{mib: 64, format: "-t ext4 -L boot", tree: boot}, part{mib: len(content) / mib, content: content})
	key := volume.Key{Passphrase: []byte("sesame")}
	p := growDisk(t, path, 1000*mib, key)
	if more := p.NewFileSystem - p.FileSystem; !p.Encrypted || more < 500*mib {
		t.Errorf("it grew by %d MiB", more/mib)
	}
	if got := work(t, path, "#!/bin/sh\ncat /etc/os-release\n", key); !strings.Contains(got, "A small one") {
		t.Errorf("it says %q", got)
	}
}
