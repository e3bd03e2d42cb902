package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/peer"

	"github.com/google/go-cmp/cmp"
)

// scribble writes some patterns into an image with qemu-io.
func scribble(t testing.TB, path string, seed int64) {
	random := rand.New(rand.NewSource(seed))
	var commands []string
	for range 40 {
		commands = append(commands, "-c", fmt.Sprintf("write -P %d %d %d", 1+random.Intn(255), random.Intn(60<<20)&^511, 512*(1+random.Intn(400))))
	}
	commands = append(commands, "-c", fmt.Sprintf("write -z %d %d", random.Intn(60<<20)&^65535, 3<<16), "-c", fmt.Sprintf("discard %d %d", random.Intn(60<<20)&^65535, 2<<16))
	peer.Run(t, "qemu-io", append(append([]string{"-f", "qcow2"}, commands...), path)...)
}

func TestQCOW2ReadsAsQEMUDoes(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	for name, options := range map[string]string{
		"v3": "compat=1.1", "v2": "compat=0.10", "512": "cluster_size=512", "2M": "cluster_size=2M", "zstd": "compression_type=zstd",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			base, top := filepath.Join(dir, "base"), filepath.Join(dir, "top")
			peer.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", options, base, "64M")
			scribble(t, base, 1)
			sameAsQEMU(t, base, QCOW2)
			packed := filepath.Join(dir, "packed")
			peer.Run(t, "qemu-img", "convert", "-c", "-f", "qcow2", "-O", "qcow2", "-o", options, base, packed)
			sameAsQEMU(t, packed, QCOW2)
			// An overlay that is larger than what it stands on.
			peer.Must(t, CreateOverlay(t.Context(), top, "packed", QCOW2, 65<<20))
			scribble(t, top, 3)
			sameAsQEMU(t, top, QCOW2)
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	peer.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", at("good"), "64M")
	good, err := os.ReadFile(at("good"))
	peer.Must(t, err)
	change := func(name string, edit func(p []byte)) {
		p := bytes.Clone(good)
		edit(p)
		peer.Must(t, os.WriteFile(at(name), p, 0o644))
	}
	change("clusters", func(p []byte) { p[23] = 40 })
	change("huge", func(p []byte) { p[24] = 0x7f })
	change("l1", func(p []byte) { p[40] = 1 })
	change("features", func(p []byte) { p[79] |= 0x80 })
	change("corrupt", func(p []byte) { p[79] |= 2 })
	change("external", func(p []byte) { p[79] |= 4 })
	peer.Run(t, "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "self", at("self"), "64M")
	peer.Run(t, "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "/no/such/file", at("gone"), "64M")
	peer.Run(t, "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "vpc", "-b", "good", at("vpc"), "64M")
	peer.Must(t, os.WriteFile(at("short"), good[:50], 0o644))
	peer.Must(t, os.WriteFile(at("text"), bytes.Repeat([]byte("no image "), 1000), 0o644))
	for name, want := range map[string]string{
		"clusters": "clusters of 2^40", "huge": "bytes", "l1": "first-level table", "features": "does not know", "corrupt": "marked it so",
		"external": "in another file", "self": "behind itself", "gone": "no such file", "vpc": "none that herdbook reads", "short": "too short", "text": "no qcow2 image",
	} {
		if _, err := Open(at(name), QCOW2); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

var testParts = []Partition{
	{Number: 1, Start: 1 << 20, Size: 1 << 20, Type: "21686148-6449-6E6F-744E-656564454649", ID: "0f3c2b1a-0000-8000-8000-000000000001", Name: "bios"},
	{Number: 2, Start: 2 << 20, Size: 64 << 20, Type: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", ID: "0f3c2b1a-0000-8000-8000-000000000002", Name: "esp"},
	{Number: 5, Start: 66 << 20, Size: 20 << 20, Type: "0FC63DAF-8483-4772-8E79-3D69D8477DE4", ID: "0f3c2b1a-0000-8000-8000-000000000003", Name: "rööt"},
}

// gptDisk makes a raw disk with testParts.
func gptDisk(t testing.TB) (path string, size int64) {
	t.Helper()
	path, size = filepath.Join(t.TempDir(), "disk"), 100<<20
	f, err := os.Create(path)
	peer.Must(t, err)
	peer.Must(t, f.Truncate(size))
	peer.Must(t, WriteGPT(f, size, "0f3c2b1a-0000-8000-8000-00000000000f", testParts))
	peer.Must(t, FormatFAT32(io.NewOffsetWriter(f, 2<<20), 64<<20, "esp", 0xABCD1234))
	peer.Must(t, f.Close())
	return path, size
}

func TestGPTIsCleanAndReadBack(t *testing.T) {
	path, size := gptDisk(t)
	if out := peer.Run(t, "sgdisk", "-v", path); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	if out := peer.Run(t, "sfdisk", "-V", path); !strings.Contains(out, "No errors detected") {
		t.Errorf("sfdisk: %s", out)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	peer.Must(t, err)
	defer f.Close()
	for _, damage := range []string{"none", "first header"} {
		if damage != "none" {
			_, err := f.WriteAt([]byte("xxxxxxxx"), 512)
			peer.Must(t, err)
		}
		table, err := ReadTable(f, size)
		peer.Must(t, err)
		if diff := cmp.Diff(&Table{Kind: "gpt", ID: "0f3c2b1a-0000-8000-8000-00000000000f", Partitions: testParts}, table); diff != "" {
			t.Errorf("damage: %s: %s", damage, diff)
		}
	}
	_, err = f.WriteAt([]byte("xxxxxxxx"), size-512)
	peer.Must(t, err)
	if _, err := ReadTable(f, size); !errors.Is(err, ErrCorrupt) {
		t.Errorf("both headers damaged: %v", err)
	}
}

func TestFAT32IsCleanAndUsable(t *testing.T) {
	path, _ := gptDisk(t)
	esp := filepath.Join(t.TempDir(), "esp")
	peer.Run(t, "dd", "if="+path, "of="+esp, "bs=1M", "skip=2", "count=64", "status=none")
	peer.Run(t, "fsck.vfat", "-n", esp)
	peer.Run(t, "mmd", "-i", esp, "::EFI")
	peer.Run(t, "mcopy", "-i", esp, "/etc/passwd", "::EFI/passwd")
	peer.Run(t, "fsck.vfat", "-n", esp)
	if out := peer.Run(t, "mdir", "-i", esp, "::"); !strings.Contains(out, "Volume Serial Number is ABCD-1234") {
		t.Errorf("no serial number ABCD-1234 in %s", out)
	}
}

func TestMBRWithLogicalPartitions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	peer.Must(t, os.WriteFile(path, nil, 0o644))
	peer.Must(t, os.Truncate(path, 100<<20))
	cmd := exec.Command("sfdisk", "-q", path)
	peer.NeedTool(t, "sfdisk")
	cmd.Stdin = strings.NewReader("label: dos\nlabel-id: 0x1234abcd\nstart=2048, size=20480, type=83, bootable\nstart=22528, size=100000, type=5\nstart=24576, size=20480, type=82\nstart=47104, size=20480, type=83\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f, err := os.Open(path)
	peer.Must(t, err)
	defer f.Close()
	table, err := ReadTable(f, 100<<20)
	peer.Must(t, err)
	want := &Table{Kind: "mbr", ID: "1234abcd", Partitions: []Partition{
		{Number: 1, Start: 2048 * 512, Size: 20480 * 512, Type: "0x83", ID: "1234abcd-01", Active: true},
		{Number: 2, Start: 22528 * 512, Size: 100000 * 512, Type: "0x05", ID: "1234abcd-02"},
		{Number: 5, Start: 24576 * 512, Size: 20480 * 512, Type: "0x82", ID: "1234abcd-05"},
		{Number: 6, Start: 47104 * 512, Size: 20480 * 512, Type: "0x83", ID: "1234abcd-06"},
	}}
	if diff := cmp.Diff(want, table); diff != "" {
		t.Error(diff)
	}
	if _, err := ReadTable(bytes.NewReader(make([]byte, 1<<20)), 1<<20); !errors.Is(err, ErrNoTable) {
		t.Errorf("zeros: %v", err)
	}
}

func TestFlatten(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	dir := t.TempDir()
	base, top, flat := filepath.Join(dir, "a,b:c"), filepath.Join(dir, "top"), filepath.Join(dir, "json:{x}")
	peer.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", filepath.Join(dir, "plain"), "64M")
	scribble(t, filepath.Join(dir, "plain"), 1)
	peer.Must(t, os.Rename(filepath.Join(dir, "plain"), base))
	peer.Must(t, CreateOverlay(t.Context(), top, base, QCOW2, 0))
	peer.Must(t, Flatten(t.Context(), top, flat, FlattenOptions{Compress: true}))
	a, err := Open(top, QCOW2)
	peer.Must(t, err)
	defer a.Close()
	b, err := Open(flat, QCOW2)
	peer.Must(t, err)
	defer b.Close()
	x, _ := io.ReadAll(io.NewSectionReader(a, 0, a.Size()))
	y, _ := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if len(x) != 64<<20 || !bytes.Equal(x, y) {
		t.Error("the flat image has other bytes")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	gone := filepath.Join(dir, "gone")
	if err := Flatten(ctx, top, gone, FlattenOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if left, _ := filepath.Glob(gone + "*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Many clusters, of which each takes another time to compress.
func TestFlattenInOrderMakesEqualBytes(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	dir := t.TempDir()
	raw := filepath.Join(dir, "raw")
	content := make([]byte, 32<<20)
	for i := range content {
		if cluster := i >> 16; i&0xffff < cluster*128 {
			content[i] = byte(i * cluster >> 7)
		}
	}
	peer.Must(t, os.WriteFile(raw, content, 0o644))
	var first []byte
	for i := range 4 {
		flat := filepath.Join(dir, fmt.Sprint("flat", i))
		peer.Must(t, Flatten(t.Context(), raw, flat, FlattenOptions{SourceFormat: Raw, Compress: true, Zlib: true, Ordered: true}))
		got, err := os.ReadFile(flat)
		peer.Must(t, err)
		if first == nil {
			first = got
		}
		if !bytes.Equal(first, got) {
			t.Errorf("the bytes of round %d are others", i)
		}
	}
	if info := peer.Run(t, "qemu-img", "info", filepath.Join(dir, "flat0")); !strings.Contains(info, "compression type: zlib") {
		t.Errorf("it is not compressed with zlib: %s", info)
	}
}

func FuzzReadTable(f *testing.F) {
	path, _ := gptDisk(f)
	whole, err := os.ReadFile(path)
	peer.Must(f, err)
	f.Add(whole[:34*512])
	f.Fuzz(func(t *testing.T, p []byte) {
		table, err := ReadTable(bytes.NewReader(p), 100<<20)
		if err != nil {
			return
		}
		for _, part := range table.Partitions {
			if part.Start < 0 || part.Size <= 0 || part.Start+part.Size > 100<<20 {
				t.Errorf("partition %+v lies outside the disk", part)
			}
		}
	})
}

func FuzzQCOW2(f *testing.F) {
	path := filepath.Join(f.TempDir(), "x")
	peer.Run(f, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=512", path, "1M")
	peer.Run(f, "qemu-io", "-f", "qcow2", "-c", "write -P 7 0 3000", path)
	whole, err := os.ReadFile(path)
	peer.Must(f, err)
	f.Add(whole)
	f.Fuzz(func(t *testing.T, p []byte) {
		q, err := newQCOW2(bytes.NewReader(p), int64(len(p)))
		if err != nil {
			return
		}
		readAll(&q.blocks)
		var end int64
		_ = q.free(func(r Range) error {
			if r.Start < end || r.Size <= 0 || r.Start+r.Size > int64(len(p)) {
				t.Errorf("free: %+v behind %d in a file of %d bytes", r, end, len(p))
			}
			end = r.Start + r.Size
			return nil
		})
	})
}
