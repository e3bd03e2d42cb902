package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"herdbook/internal/disk"
	"herdbook/internal/ext4"
	"herdbook/internal/mapper"
	"herdbook/internal/md"
	"herdbook/internal/peer"
)

// parts lays files behind one another, as the partitions of a disk.
func parts(t testing.TB, files ...[]byte) (io.ReaderAt, []disk.Partition) {
	t.Helper()
	var image []byte
	var list []disk.Partition
	for i, f := range files {
		list = append(list, disk.Partition{Number: i + 1, Start: int64(len(image)), Size: int64(len(f))})
		image = append(image, f...)
	}
	return bytes.NewReader(image), list
}

func find(t testing.TB, keys []Key, files ...[]byte) *Set {
	t.Helper()
	r, list := parts(t, files...)
	s, err := Find(r, list, keys)
	peer.Must(t, err)
	return s
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	p, err := os.ReadFile(file)
	peer.Must(t, err)
	return p
}

// withExt4 makes a file system with one file at an offset of a file, in bytes.
func withExt4(t testing.TB, file string, offset, size int64, content string) {
	t.Helper()
	peer.NeedTool(t, "mke2fs")
	dir := t.TempDir()
	peer.Must(t, os.WriteFile(filepath.Join(dir, "file"), []byte(content), 0o644))
	peer.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", fmt.Sprintf("offset=%d", offset), "-d", dir, file, fmt.Sprintf("%dk", size>>10))
}

// describe tells a set's volumes, with the content of their file, or why they cannot be had.
func describe(s *Set) []string {
	var lines []string
	for _, v := range s.Volumes {
		line := fmt.Sprintf("%s %d %v: ", v.Name, v.Size, v.Paths)
		if v.Err != nil {
			lines = append(lines, line+v.Err.Error())
			continue
		}
		f, err := ext4.Open(v, v.Size)
		if errors.Is(err, ext4.ErrNotExt) {
			lines = append(lines, line+"nothing")
			continue
		}
		text := []byte(nil)
		if err == nil {
			text, err = fs.ReadFile(f, "file")
		}
		if err != nil {
			text = []byte(err.Error())
		}
		lines = append(lines, line+string(text))
	}
	return lines
}

// names are the devices needed for a volume.
func names(s *Set, v Volume) string {
	var names []string
	for _, d := range s.Devices(v.Source) {
		names = append(names, d.Name)
	}
	return strings.Join(names, " ")
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

const extent = 1 << 20

// makeGroup makes a volume group on two physical volumes: root is linear, in two pieces on
// both, and data is striped.
func makeGroup(t testing.TB) (l *peer.LVM, data []byte) {
	l = peer.NewLVM(t, 24<<20, 24<<20)
	l.Run("pvcreate", l.Loops[0])
	l.Run("pvcreate", l.Loops[1])
	l.Run("vgcreate", "-s", "1m", "my-vg", l.Loops[0], l.Loops[1])
	l.Create("-l", "8", "-n", "root", "my-vg", l.Loops[0]+":0-7")
	l.Create("-l", "6", "-i", "2", "-I", "64k", "-n", "data", "my-vg")
	l.Run("lvextend", "-l", "+4", "my-vg/root", l.Loops[1]+":10-13")
	withExt4(t, l.Files[0], extent, 8<<20, "on a logical volume\n")
	// The stripes are laid by hand: every other 64 KiB, on extents 8 and 0.
	data = make([]byte, 6<<20)
	rand.New(rand.NewSource(1)).Read(data)
	var files [2]*os.File
	for i := range files {
		f, err := os.OpenFile(l.Files[i], os.O_RDWR, 0)
		peer.Must(t, err)
		defer f.Close()
		files[i] = f
	}
	for chunk := range len(data) / 65536 {
		at := []int64{(1 + 8) * extent, 1 * extent}[chunk%2] + int64(chunk/2)*65536
		_, err := files[chunk%2].WriteAt(data[chunk*65536:][:65536], at)
		peer.Must(t, err)
	}
	return l, data
}

func TestLogicalVolumes(t *testing.T) {
	l, data := makeGroup(t)
	plain := filepath.Join(t.TempDir(), "plain")
	peer.Must(t, os.WriteFile(plain, make([]byte, 4<<20), 0o600))
	withExt4(t, plain, 0, 4<<20, "on a partition\n")
	s := find(t, nil, read(t, l.Files[0]), read(t, plain), read(t, l.Files[1]))
	want(t, describe(s),
		"partition 2 4194304 []: on a partition\n",
		"logical volume my-vg/root 12582912 [my-vg/root mapper/my--vg-root]: on a logical volume\n",
		"logical volume my-vg/data 6291456 [my-vg/data mapper/my--vg-data]: nothing")
	got := make([]byte, len(data))
	if _, err := s.Volumes[2].ReadAt(got, 0); err != nil || !bytes.Equal(got, data) {
		t.Errorf("striped: other bytes, %v", err)
	}
	random := rand.New(rand.NewSource(2))
	for range 200 {
		p := make([]byte, random.Intn(300000))
		off := random.Int63n(int64(len(data) - len(p)))
		if _, err := s.Volumes[2].ReadAt(p, off); err != nil || !bytes.Equal(p, data[off:][:len(p)]) {
			t.Fatalf("striped, %d bytes at %d: other bytes, %v", len(p), off, err)
		}
	}
	if n, err := s.Volumes[2].ReadAt(make([]byte, 100), 6<<20-10); n != 10 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	devices := s.Devices(s.Volumes[1].Source)
	row := l.Table("lvs", "vg_uuid,lv_uuid", "my-vg/root")[0]
	root := []mapper.Device{{Name: "my--vg-root", UUID: "LVM-" + strings.ReplaceAll(row[0]+row[1], "-", ""), Table: []mapper.Target{
		{Start: 0, Length: 8 << 11, Type: mapper.Linear, Areas: []mapper.Area{{Source: mapper.Source{Partition: 1}, Offset: 2048}}},
		{Start: 8 << 11, Length: 4 << 11, Type: mapper.Linear, Areas: []mapper.Area{{Source: mapper.Source{Partition: 3}, Offset: 11 << 11}}},
	}}}
	if diff := cmp.Diff(root, devices); diff != "" {
		t.Errorf("devices of root (-want +got):\n%s", diff)
	}
	if d := s.Devices(s.Volumes[2].Source); len(d) != 1 || d[0].Table[0].Type != mapper.Striped || d[0].Table[0].Chunk != 128 || len(d[0].Table[0].Areas) != 2 {
		t.Errorf("devices of data: %+v", d)
	}
}

func TestGroupsThatAreNotWhole(t *testing.T) {
	l, _ := makeGroup(t)
	first, second := read(t, l.Files[0]), read(t, l.Files[1])
	lost := l.Table("pvs", "pv_uuid,vg_name", l.Loops[1])[0][0]
	for _, v := range find(t, nil, first).Volumes {
		if v.Err == nil || !strings.Contains(v.Err.Error(), "lacks physical volume "+lost) {
			t.Errorf("without the second: %s: %v", v.Name, v.Err)
		}
	}
	for _, v := range find(t, nil, first, second, second).Volumes {
		if v.Err == nil || !strings.Contains(v.Err.Error(), "partition 2 and partition 3 of volume group my-vg are both") {
			t.Errorf("with the second twice: %s: %v", v.Name, v.Err)
		}
	}
	s := find(t, nil, first, second[:8<<20])
	if err := s.Volumes[0].Err; err == nil || !strings.Contains(err.Error(), "ends behind the end of partition 2") {
		t.Errorf("cut short: %v", err)
	}
	first[600]++
	s = find(t, nil, first, second)
	if err := s.Volumes[0].Err; err == nil || !strings.Contains(err.Error(), "checksum of the label") || s.Volumes[0].Name != "partition 1" {
		t.Errorf("damaged: %v", err)
	}
}

const passphrase = "a key"

func TestLogicalVolumesOnLUKS(t *testing.T) {
	l := peer.NewLVM(t, 24<<20)
	l.Run("pvcreate", l.Loops[0])
	l.Run("vgcreate", "-s", "1m", "vg", l.Loops[0])
	l.Create("-l", "8", "-n", "root", "vg")
	withExt4(t, l.Files[0], extent, 8<<20, "deep inside\n")
	file := filepath.Join(t.TempDir(), "encrypted")
	peer.Must(t, os.WriteFile(file, read(t, l.Files[0]), 0o600))
	uuid := peer.Encrypt(t, file, passphrase)
	image := read(t, file)

	s := find(t, []Key{{Passphrase: []byte("another")}, {Volume: strings.ToUpper(uuid), Passphrase: []byte(passphrase)}}, image)
	want(t, describe(s), "logical volume vg/root 8388608 [vg/root mapper/vg-root]: deep inside\n")
	if got := names(s, s.Volumes[0]); got != "luks-"+uuid+" vg-root" {
		t.Errorf("devices %q", got)
	}
	s.Rename(uuid, "../evil")
	s.Rename(uuid, "vg-root")
	s.Rename("other", "new")
	s.Rename(uuid, "vda1_crypt")
	if got := names(s, s.Volumes[0]); got != "vda1_crypt vg-root" {
		t.Errorf("devices after renaming %q", got)
	}
	devices := s.Devices(s.Volumes[0].Source)
	if id := "CRYPT-LUKS2-" + strings.ReplaceAll(uuid, "-", "") + "-vda1_crypt"; devices[0].UUID != id {
		t.Errorf("identifier %s, want %s", devices[0].UUID, id)
	}
	if keys := mapper.Keys(devices); len(keys) != 1 || len(keys[0]) != 128 {
		t.Errorf("%d keys", len(keys))
	}
	locked := "encrypted volume " + uuid + fmt.Sprintf(" %d [mapper/luks-%s]: it is encrypted (LUKS2)", len(image)-8<<20, uuid)
	want(t, describe(find(t, nil, image)), locked+"; give the key of "+uuid)
	want(t, describe(find(t, []Key{{"other", []byte(passphrase)}}, image)), locked+"; give the key of "+uuid)
	want(t, describe(find(t, []Key{{"", []byte("wrong")}}, image)), locked+" and could not be unlocked: the key fits none of its key slots")
	if text := fmt.Sprintf("%v %+v %#v %s", Key{"id", []byte(passphrase)}, Key{"id", []byte(passphrase)}, Key{"id", []byte(passphrase)}, Key{"id", []byte(passphrase)}); strings.Contains(text, passphrase) {
		t.Error("a key is printed: " + text)
	}
}

// arrays are members of RAID arrays; package md tells where they come from.
func arrays(t testing.TB) (list [12][]byte) {
	t.Helper()
	d, err := zstd.NewReader(nil)
	peer.Must(t, err)
	defer d.Close()
	image, err := d.DecodeAll(read(t, "../md/testdata/arrays.img.zst"), nil)
	peer.Must(t, err)
	for i := range list {
		list[i] = bytes.Clone(image[(1+7*i)<<20:][:6<<20])
	}
	return list
}

func TestMirrors(t *testing.T) {
	m := arrays(t)
	s := find(t, nil, m[0], m[3], m[6], m[1], m[2], m[7], m[8])
	want(t, describe(s),
		"RAID array /dev/md101 6225920 [md/101 md101]: metadata 0.90\n",
		"RAID array /dev/md/n1.0 6225920 [md/n1.0]: metadata 1.0\n",
		"RAID array /dev/md/n1.2 5242880 [md/n1.2]: metadata 1.2\n",
		"RAID array /dev/md/stale 5242880 [md/stale]: newer\n")
	d := s.Devices(s.Volumes[2].Source)
	areas := []mapper.Area{{Source: mapper.Source{Partition: 3}, Offset: 2048}, {Source: mapper.Source{Partition: 6}, Offset: 2048}}
	if diff := cmp.Diff([]mapper.Target{{Length: 10240, Type: mapper.Mirror, Areas: areas}}, d[0].Table); diff != "" {
		t.Error(diff)
	}
	if d := s.Devices(s.Volumes[3].Source); d[0].Table[0].Type != mapper.Linear {
		t.Errorf("of one member: %+v", d)
	}
	want(t, describe(find(t, nil, m[6])), "RAID array /dev/md/n1.2 0 [md/n1.2]: its member in place 1 is not on this image: what is written without it would make the two differ")
}

func TestLogicalVolumesOnAMirror(t *testing.T) {
	m := arrays(t)
	l := peer.NewLVM(t, 5<<20)
	l.Run("pvcreate", "--metadatasize", "32k", "--dataalignment", "4k", l.Loops[0])
	l.Run("vgcreate", "-s", "64k", "vg", l.Loops[0])
	l.Create("-l", "64", "-n", "root", "vg")
	start := l.Table("pvs", "pe_start,vg_name")[0][0]
	var offset int64
	if _, err := fmt.Sscan(start, &offset); err != nil {
		t.Fatal(err)
	}
	withExt4(t, l.Files[0], offset, 4<<20, "on a mirror\n")
	for _, i := range []int{6, 7} {
		copy(m[i][1<<20:], read(t, l.Files[0]))
	}
	s := find(t, nil, m[6], m[7])
	want(t, describe(s), "logical volume vg/root 4194304 [vg/root mapper/vg-root]: on a mirror\n")
	if got := names(s, s.Volumes[0]); !strings.HasPrefix(got, "md-") || !strings.HasSuffix(got, " vg-root") {
		t.Errorf("devices %q", got)
	}
}

// TestThingsWithinThemselves gives a logical volume the beginning of its own
// physical volume, and of another as its content.
func TestThingsWithinThemselves(t *testing.T) {
	l, _ := makeGroup(t)
	first, second := read(t, l.Files[0]), read(t, l.Files[1])
	copy(first[extent:], first[:extent])
	s := find(t, nil, first, second)
	if v := s.Volumes[0]; v.Err == nil || !strings.Contains(v.Err.Error(), "as is partition 1") {
		t.Errorf("%s: %v", v.Name, v.Err)
	}
	m := arrays(t)
	copy(m[6][1<<20:], m[6][:1<<20])
	copy(m[7][1<<20:], m[6][1<<20:2<<20])
	if v := find(t, nil, m[6], m[7]).Volumes[0]; !errors.Is(v.Err, md.ErrCorrupt) { // it is too large to be within itself
		t.Errorf("%s: %v", v.Name, v.Err)
	}
}

func TestExtendedPartitionsAreNoVolumes(t *testing.T) {
	m := arrays(t)
	r, list := parts(t, m[2], m[3])
	list = append(list, disk.Partition{Number: 4, Start: list[1].Start, Size: list[1].Size, Type: "0x05"})
	s, err := Find(r, list, nil)
	if err != nil || len(s.Volumes) != 1 || s.Volumes[0].Err != nil {
		t.Errorf("%v, %v", s, err)
	}
}

// FuzzFind changes bytes of a group's two volumes: whatever they say then, it is
// bounded.
func FuzzFind(f *testing.F) {
	l, _ := makeGroup(f)
	first, second := read(f, l.Files[0])[:2<<20], read(f, l.Files[1])[:2<<20]
	f.Add(0, byte(0), 0, byte(0))
	f.Add(600, byte(1), 4096+44, byte(7))
	f.Fuzz(func(t *testing.T, at int, a byte, also int, b byte) {
		one, two := bytes.Clone(first), bytes.Clone(second)
		one[uint(at)%(1<<20)] ^= a
		two[uint(also)%(1<<20)] ^= b
		for _, v := range find(t, nil, one, two).Volumes {
			if (v.ReaderAt == nil) != (v.Err != nil) {
				t.Errorf("%s: a reader and %v", v.Name, v.Err)
			}
		}
	})
}
