package workshop

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/machine"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/volume"
	"herdbook/internal/wire"
)

// guest is a file tree with the kernel of this host's package, and busybox for
// everything else.
type guest struct {
	dir, version string
}

func newGuest(t *testing.T, compress string) guest {
	t.Helper()
	peer.NeedTool(t, "busybox", "mke2fs", "sfdisk", "mkfs.vfat", "qemu-img")
	kernels, err := filepath.Glob("/boot/vmlinuz-*")
	peer.Must(t, err)
	peer.Need(t, len(kernels) > 0, "this host has no kernel in /boot")
	version := strings.TrimPrefix(kernels[len(kernels)-1], "/boot/vmlinuz-")
	f, err := os.Open(kernels[len(kernels)-1])
	peer.Need(t, err == nil, "the kernel of this host cannot be read")
	peer.Must(t, f.Close())
	g := guest{t.TempDir(), version}
	for _, dir := range []string{"bin", "boot", "dev", "etc", "home", "proc", "run", "sys", "tmp", "usr/sbin", "lib/modules"} {
		peer.Must(t, os.MkdirAll(filepath.Join(g.dir, dir), 0o755))
	}
	busybox, err := exec.LookPath("busybox")
	peer.Must(t, err)
	peer.Run(t, "cp", "-L", busybox, filepath.Join(g.dir, "bin/busybox"))
	for _, name := range []string{"sh", "cat", "grep", "touch", "test", "mount", "uname"} {
		peer.Must(t, os.Symlink("busybox", filepath.Join(g.dir, "bin", name)))
	}
	g.write(t, "etc/os-release", "ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"A small one\"\n")
	g.write(t, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
	peer.Run(t, "cp", "-L", kernels[len(kernels)-1], filepath.Join(g.dir, "boot/vmlinuz-"+version))
	modules := filepath.Join(g.dir, "lib/modules", version)
	peer.Run(t, "cp", "-r", "/lib/modules/"+version, modules)
	if compress != "" {
		g.compress(t, modules, compress)
	}
	return g
}

// compress packs the modules as other distributions do.
func (g guest) compress(t *testing.T, modules, how string) {
	t.Helper()
	program, ending := map[string]string{"xz": "xz --check=crc32 -0", "zst": "zstd -q --rm", "gz": "gzip -1"}[how], "."+how
	peer.NeedTool(t, strings.Fields(program)[0])
	// Only what the workshop loads, for the sake of time.
	for _, dir := range []string{"drivers/block", "drivers/char", "drivers/virtio", "fs/ext4", "fs/fat", "fs/jbd2", "fs/nls", "fs/mbcache.ko", "lib", "crypto", "arch"} {
		peer.Run(t, "sh", "-c", fmt.Sprintf("find %s/kernel/%s -name '*.ko' 2>/dev/null | xargs -r -n 50 %s", modules, dir, program))
	}
	dep, err := os.ReadFile(filepath.Join(modules, "modules.dep"))
	peer.Must(t, err)
	var out strings.Builder
	for word := range strings.FieldsFuncSeq(string(dep), func(r rune) bool { return r == '\n' }) {
		for i, name := range strings.Fields(word) {
			file, colon := strings.CutSuffix(name, ":")
			if _, err := os.Stat(filepath.Join(modules, file+ending)); err == nil {
				file += ending
			}
			if colon {
				file += ":"
			}
			if i > 0 {
				file = " " + file
			}
			out.WriteString(file)
		}
		out.WriteByte('\n')
	}
	peer.Must(t, os.WriteFile(filepath.Join(modules, "modules.dep"), []byte(out.String()), 0o644))
}

func (g guest) write(t *testing.T, name, content string) {
	t.Helper()
	peer.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(g.dir, name)), 0o755))
	peer.Must(t, os.WriteFile(filepath.Join(g.dir, name), []byte(content), 0o644))
}

// part is a partition of a test's disk.
type part struct {
	mib     int
	format  string // mke2fs options, "vfat", "xfs" or "btrfs"
	tree    string // below the guest; "" for an empty file system
	content []byte // instead of a file system
	number  int    // 0: the next one
	logical bool   // in an extended partition
}

// mib is where the first partition begins, and the grain of all.
const mib = 1 << 20

// makeDisk partitions a disk with sfdisk and fills it; a label "" is a disk
// without partitions.
func makeDisk(t *testing.T, label string, parts ...part) string {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw")
	offset, script := 1, "label: "+label+"\n"
	if label == "" {
		offset = 0
	}
	for i, p := range parts {
		if p.logical {
			if !parts[max(0, i-1)].logical {
				script += fmt.Sprintf("start=%d, type=5\n", offset*2048)
			}
			offset++
		}
		if p.number > 0 {
			script += fmt.Sprintf("%d: ", p.number)
		}
		script += fmt.Sprintf("start=%d, size=%d\n", offset*2048, p.mib*2048)
		offset += p.mib
	}
	peer.Run(t, "truncate", "-s", fmt.Sprintf("%dM", offset+1), raw)
	at := 0
	if label != "" {
		at = 1
		cmd := exec.Command("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", raw)
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("sfdisk: %v\n%s", err, out)
		}
	}
	for _, p := range parts {
		if p.logical {
			at++
		}
		switch {
		case p.content != nil:
			f, err := os.OpenFile(raw, os.O_WRONLY, 0)
			peer.Must(t, err)
			_, err = f.WriteAt(p.content, int64(at)*mib)
			peer.Must(t, errors.Join(err, f.Close()))
		case p.format == "vfat":
			alone := raw + ".vfat"
			peer.Run(t, "mkfs.vfat", "-C", "-i", "CAFE0001", alone, fmt.Sprint(p.mib*1024))
			peer.Run(t, "dd", "status=none", "conv=notrunc", "bs=1M", "if="+alone, "of="+raw, fmt.Sprintf("seek=%d", at))
		case p.format == "xfs":
			peer.Run(t, "dd", "status=none", "conv=notrunc,sparse", "bs=1M", "if="+xfsOf(t, p), "of="+raw, fmt.Sprintf("seek=%d", at))
		case p.format == "btrfs":
			peer.Run(t, "dd", "status=none", "conv=notrunc,sparse", "bs=1M", "if="+btrfsOf(t, p), "of="+raw, fmt.Sprintf("seek=%d", at))
		default:
			args := append(strings.Fields(p.format), "-q", "-F", "-E", fmt.Sprintf("offset=%d", at*mib))
			if p.tree != "" {
				args = append(args, "-d", p.tree)
			}
			peer.Run(t, "mke2fs", append(args, raw, fmt.Sprintf("%dk", p.mib*1024))...)
		}
		at += p.mib
	}
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path)
	return path
}

// xfsOf makes an XFS of a part alone, which the kernel fills.
func xfsOf(t *testing.T, p part) string {
	t.Helper()
	peer.NeedTool(t, "mkfs.xfs")
	peer.NeedRoot(t, "mounting")
	peer.OwnMounts(t)
	alone, dir := filepath.Join(t.TempDir(), "xfs"), t.TempDir()
	peer.Run(t, "truncate", "-s", fmt.Sprintf("%dM", p.mib), alone)
	peer.Run(t, "mkfs.xfs", "-q", alone)
	peer.Run(t, "mount", "-o", "loop", alone, dir) // by this thread, and so in its namespace
	peer.Run(t, "cp", "-a", p.tree+"/.", dir)
	peer.Must(t, unix.Unmount(dir, 0))
	return alone
}

// btrfsOf makes a btrfs of a part alone: the tree in the subvolume root, and an
// empty one for home.
func btrfsOf(t *testing.T, p part) string {
	t.Helper()
	peer.NeedTool(t, "mkfs.btrfs", "btrfs")
	peer.NeedRoot(t, "mounting")
	peer.OwnMounts(t)
	alone, dir := filepath.Join(t.TempDir(), "btrfs"), t.TempDir()
	peer.Run(t, "truncate", "-s", fmt.Sprintf("%dM", p.mib), alone)
	peer.Run(t, "mkfs.btrfs", "-q", "--csum", "xxhash64", alone)
	peer.Run(t, "mount", "-o", "loop", alone, dir) // by this thread, and so in its namespace
	for _, name := range []string{"root", "home"} {
		peer.Run(t, "btrfs", "subvolume", "create", filepath.Join(dir, name))
	}
	peer.Run(t, "cp", "-a", p.tree+"/.", filepath.Join(dir, "root"))
	peer.Must(t, unix.Unmount(dir, 0))
	return alone
}

// hostSees makes sure that a file is on a disk.
func hostSees(t *testing.T, path, name string) {
	t.Helper()
	image, err := disk.Open(path, disk.QCOW2)
	peer.Must(t, err)
	defer image.Close()
	system, err := inspection.Disk(image, image.Size())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := system.Tree().Stat(name); err != nil {
		t.Error(err)
	}
}

// work runs a script in the workshop and returns what it said.
func work(t *testing.T, disk, script string, keys ...volume.Key) string {
	t.Helper()
	said, _ := do(t, disk, wire.Job{Operations: []op.Envelope{{Operation: &op.Run{Script: script}}}}, keys...)
	return said
}

// do has a job done in the workshop.
func do(t *testing.T, disk string, job wire.Job, keys ...volume.Key) (string, wire.Result) {
	t.Helper()
	agent, err := Agent()
	peer.Must(t, err)
	verdict, err := machine.Probe(t.Context(), t.TempDir())
	peer.Must(t, err)
	var mu sync.Mutex
	var said strings.Builder
	result, err := Run(t.Context(), Session{
		Disk: disk, Keys: keys, Scratch: t.TempDir(), Agent: agent, Accelerator: verdict.Accelerator, Memory: 512, CPUs: 1, Timeout: 5 * time.Minute,
		Job: job,
		Sink: func(e event.Event) {
			if e.Kind == event.Log {
				mu.Lock()
				defer mu.Unlock()
				said.WriteString(e.Text + "\n")
			}
		},
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	return said.String(), result
}

// Every way in which a system can lie on its disk, and modules be packed.
func TestVMLayouts(t *testing.T) {
	_, err := Agent()
	peer.Need(t, err == nil, "the agent is not built: make build")
	for _, c := range []struct {
		name, compress, label, fstab string
		split                        bool // /boot is a partition of its own
		root, boot                   string
		esp                          bool
		want                         []string // lines of /proc/mounts begin so
	}{
		{name: "no partitions, ext2", label: "", root: "-t ext2", want: []string{"/dev/vda / ext"}},
		{name: "MBR, ext3, modules as xz", compress: "xz", label: "dos", root: "-t ext3", want: []string{"/dev/vda1 / ext"}},
		{
			name: "MBR, /boot apart by label, modules as zst", compress: "zst", label: "dos", root: "-t ext4", boot: "-t ext2 -L boot", split: true,
			fstab: "LABEL=boot /boot ext2 defaults 0 2\n", want: []string{"/dev/vda2 / ext4", "/dev/vda1 /boot ext"},
		},
		{
			name: "GPT, /boot and /boot/efi apart, modules as gz", compress: "gz", label: "gpt", root: "-t ext4 -O metadata_csum", boot: "-t ext4", split: true, esp: true,
			fstab: "UUID=CAFE-0001 /boot/efi vfat umask=0077 0 1\nPARTLABEL=nothing /opt ext4 noauto 0 0\n/dev/vda1 /boot ext4 defaults 0 2\ntmpfs /tmp tmpfs size=10% 0 0\n",
			want:  []string{"/dev/vda3 / ext4", "/dev/vda1 /boot ext4", "/dev/vda2 /boot/efi vfat"},
		},
		{
			name: "GPT, XFS", label: "gpt", root: "xfs", fstab: "/dev/vda1 / xfs defaults 0 0\n", want: []string{"/dev/vda1 / xfs"},
		},
		{
			name: "GPT, btrfs, /home another subvolume", label: "gpt", root: "btrfs", fstab: "/dev/vda1 / btrfs subvol=root\n/dev/vda1 /home btrfs subvol=home\n",
			want: []string{"/dev/vda1 / btrfs", "/dev/vda1 /home btrfs"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuest(t, c.compress)
			g.write(t, "etc/fstab", c.fstab)
			var parts []part
			if c.split {
				tree := t.TempDir()
				peer.Run(t, "cp", "-r", filepath.Join(g.dir, "boot")+"/.", tree)
				peer.Must(t, os.RemoveAll(filepath.Join(g.dir, "boot")))
				peer.Must(t, os.Mkdir(filepath.Join(g.dir, "boot"), 0o755))
				if c.esp {
					peer.Must(t, os.Mkdir(filepath.Join(tree, "efi"), 0o755))
				}
				parts = append(parts, part{mib: 64, format: c.boot, tree: tree})
			}
			if c.esp {
				parts = append(parts, part{mib: 40, format: "vfat"})
			}
			parts = append(parts, part{mib: 500, format: c.root, tree: g.dir})
			disk := makeDisk(t, c.label, parts...)
			said := work(t, disk, "#!/bin/sh\ncat /proc/mounts\ntest -e /boot/vmlinuz-$(uname -r)\ntouch /boot/here /home/here\n")
			for _, want := range c.want {
				if !strings.Contains("\n"+said, "\n"+want) {
					t.Errorf("%q is not mounted:\n%s", want, said)
				}
			}
			// It is on the disk: the host and the next machine see it.
			hostSees(t, disk, "boot/here")
			hostSees(t, disk, "home/here")
			work(t, disk, "#!/bin/sh\ntest -e /boot/here\ntest -e /home/here\n")
		})
	}
}

// A /usr of its own has the programs and the modules, to which links of the root
// lead; what lies on it and on /var is reached by operations as anything else.
func TestVMUsrAndVarApart(t *testing.T) {
	_, err := Agent()
	peer.Need(t, err == nil, "the agent is not built: make build")
	g := newGuest(t, "")
	g.write(t, "etc/fstab", "LABEL=usr /usr ext4 defaults 0 2\nLABEL=var /var ext4 defaults 0 2\n")
	at := func(name string) string { return filepath.Join(g.dir, name) }
	usr, data := t.TempDir(), t.TempDir()
	for _, dir := range []string{"bin", "lib"} {
		peer.Must(t, os.Rename(at(dir), at(filepath.Join("usr", dir))))
		peer.Must(t, os.Symlink("usr/"+dir, at(dir)))
	}
	peer.Run(t, "cp", "-a", at("usr")+"/.", usr)
	peer.Must(t, errors.Join(os.RemoveAll(at("usr")), os.Mkdir(at("usr"), 0o755), os.Mkdir(at("var"), 0o755)))
	peer.Must(t, errors.Join(os.MkdirAll(filepath.Join(data, "log"), 0o755), os.WriteFile(filepath.Join(data, "log/syslog"), []byte("x"), 0o644)))
	path := makeDisk(t, "gpt", part{mib: 400, format: "-t ext4 -L usr", tree: usr}, part{mib: 40, format: "-t ext4 -L var", tree: data}, part{mib: 64, format: "-t ext4", tree: g.dir})
	hostSees(t, path, "var/log/syslog")
	do(t, path, wire.Job{Operations: []op.Envelope{{Operation: &op.Sysprep{Enable: []string{"logfiles"}}}}})
	said := work(t, path, "#!/bin/sh\ncat /proc/mounts\ntest -e /var/log || exit 1\ntest ! -e /var/log/syslog || exit 1\ntouch /usr/here\n")
	for _, want := range []string{"/dev/vda3 / ext4", "/dev/vda1 /usr ext4", "/dev/vda2 /var ext4"} {
		if !strings.Contains("\n"+said, "\n"+want) {
			t.Errorf("%q is not mounted:\n%s", want, said)
		}
	}
	hostSees(t, path, "usr/here")
}

// An agent that is never heard gets a second machine, and no third.
func TestVMAMachineThatStandsStillIsStartedOnceMore(t *testing.T) {
	agent, err := Agent()
	peer.Need(t, err == nil, "the agent is not built: make build")
	g := newGuest(t, "")
	g.write(t, "etc/fstab", "LABEL=root / ext4 defaults 0 1\n")
	path := makeDisk(t, "gpt", part{mib: 400, format: "-t ext4 -L root", tree: g.dir})
	verdict, err := machine.Probe(t.Context(), t.TempDir())
	peer.Must(t, err)
	var mu sync.Mutex
	boots, notices := 0, 0
	_, err = Run(t.Context(), Session{
		Disk: path, Scratch: t.TempDir(), Agent: agent, Accelerator: verdict.Accelerator, Memory: 512, CPUs: 1,
		Job:   wire.Job{Trim: true},
		Terms: wire.Terms{Hello: 10 * time.Millisecond}, // no kernel is that fast
		Sink: func(e event.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind == event.Phase && e.Text == "boot" {
				boots++
			}
			if e.Kind == event.Notice && strings.Contains(e.Text, "is started once more") {
				notices++
			}
		},
	})
	if _, unheard := errors.AsType[wire.UnheardError](err); !unheard || boots != 2 || notices != 1 {
		t.Errorf("%v, %d boots, %d notices", err, boots, notices)
	}
}
