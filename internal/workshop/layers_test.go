package workshop

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"herdbook/internal/disk"
	"herdbook/internal/inspection"
	"herdbook/internal/peer"
	"herdbook/internal/volume"
	"herdbook/internal/wire"
)

// layered makes a disk of which /boot is plain, and the root a logical volume on LUKS on
// a mirror.
func layered(t *testing.T, passphrase string) (path string) {
	t.Helper()
	g := newGuest(t, "")
	boot := filepath.Join(t.TempDir(), "boot")
	peer.Must(t, os.Rename(filepath.Join(g.dir, "boot"), boot))
	peer.Must(t, os.Mkdir(filepath.Join(g.dir, "boot"), 0o755))
	peer.Must(t, os.Mkdir(filepath.Join(g.dir, "srv"), 0o755))
	g.write(t, "etc/fstab", "/dev/mapper/vg-root / ext4 defaults 0 1\nLABEL=boot /boot ext4 defaults 0 2\n/dev/vg/srv /srv ext4 defaults 0 2\n")
	l := peer.NewLVM(t, 300*mib)
	l.Run("pvcreate", l.Loops[0])
	l.Run("vgcreate", "-s", "1m", "vg", l.Loops[0])
	l.Create("-l", "250", "-n", "root", "vg")
	l.Create("-l", "40", "-n", "srv", "vg")
	peer.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-E", fmt.Sprintf("offset=%d", mib), "-d", g.dir, l.Files[0], "250M")
	peer.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-E", fmt.Sprintf("offset=%d", 251*mib), l.Files[0], "40M")
	peer.Encrypt(t, l.Files[0], passphrase)
	content, err := os.ReadFile(l.Files[0])
	peer.Must(t, err)
	packed, err := os.ReadFile("../md/testdata/arrays.img.zst")
	peer.Must(t, err)
	d, err := zstd.NewReader(nil)
	peer.Must(t, err)
	defer d.Close()
	arrays, err := d.DecodeAll(packed, nil)
	peer.Must(t, err)
	members := peer.RAID1(t, content, arrays[43*mib:49*mib])
	return makeDisk(t, "gpt", part{mib: 64, format: "-t ext4 -L boot", tree: boot}, part{mib: len(members[0]) / mib, content: members[0]}, part{mib: len(members[1]) / mib, content: members[1]})
}

// The kernel of the guest assembles what the host found, and both members of the
// mirror and every other tool see what was written.
func TestVMLayers(t *testing.T) {
	_, err := Agent()
	peer.Need(t, err == nil, "the agent is not built: make build")
	const passphrase = "sesame"
	path := layered(t, passphrase)
	said := work(t, path, "#!/bin/sh\ncat /proc/mounts\nls -l /dev/mapper\necho written >/written\necho also >/srv/also\n", volume.Key{Passphrase: []byte(passphrase)})
	for _, want := range []string{"/dev/mapper/vg-root / ext4", "/dev/mapper/vg-srv /srv ext4", "/dev/vda1 /boot ext4"} {
		if !strings.Contains("\n"+said, "\n"+want) {
			t.Errorf("%q is not mounted:\n%s", want, said)
		}
	}
	// What is free is given back through all layers.
	if _, result := do(t, path, wire.Job{Trim: true}, volume.Key{Passphrase: []byte(passphrase)}); result.Trimmed < 50*mib {
		t.Errorf("trimmed %d bytes", result.Trimmed)
	}
	raw := filepath.Join(t.TempDir(), "raw")
	peer.Run(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
	f, err := os.Open(raw)
	peer.Must(t, err)
	defer f.Close()
	stat, err := f.Stat()
	peer.Must(t, err)
	table, err := disk.ReadTable(f, stat.Size())
	peer.Must(t, err)
	if got := readElsewhere(t, raw, passphrase, "written", "srv/also"); !strings.Contains(got, "written\n") || !strings.Contains(got, "also\n") {
		t.Errorf("the tools themselves see %q", got)
	}
	// With either member alone in its place: they are the same.
	for member := range 2 {
		for name, want := range map[string]string{"written": "written\n", "srv/also": "also\n"} {
			p := table.Partitions[1+member]
			other := table.Partitions[2-member]
			s, err := inspection.Disk(swapped{f, p.Start + mib, other.Start + mib, p.Size - mib}, stat.Size(), volume.Key{Passphrase: []byte(passphrase)})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := fs.ReadFile(s.Tree(), name); err != nil || string(got) != want {
				t.Errorf("%s of member %d: %q, %v", name, member, got, err)
			}
		}
	}
}

// readElsewhere has the tools themselves, and the kernel's own RAID, read a file.
func readElsewhere(t *testing.T, raw, passphrase string, names ...string) string {
	t.Helper()
	peer.NeedTool(t, "guestfish")
	args := []string{"--ro", "-a", raw, "run", ":", "debug", "sh", "printf " + passphrase + " | cryptsetup open --readonly --key-file=- /dev/md127 it",
		":", "lvm-scan", "true", ":", "mount-ro", "/dev/vg/root", "/", ":", "mount-ro", "/dev/vg/srv", "/srv"}
	for _, name := range names {
		args = append(args, ":", "cat", "/"+name)
	}
	cmd := exec.Command("guestfish", args...)
	cmd.Env = append(os.Environ(), "LIBGUESTFS_BACKEND=direct", "LIBGUESTFS_BACKEND_SETTINGS=force_tcg")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("guestfish: %v\n%s", err, out)
	}
	return string(out)
}

// swapped is a disk of which one range shows another.
type swapped struct {
	io.ReaderAt
	from, to, size int64
}

func (s swapped) ReadAt(p []byte, off int64) (int, error) {
	if off >= s.to && off+int64(len(p)) <= s.to+s.size {
		off += s.from - s.to
	}
	return s.ReaderAt.ReadAt(p, off)
}
