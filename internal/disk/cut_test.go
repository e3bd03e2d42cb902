package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/peer"

	"github.com/google/go-cmp/cmp"
)

func cut(t testing.TB, path string) (*Cut, error) {
	t.Helper()
	f, err := os.Open(path)
	peer.Must(t, err)
	defer f.Close()
	stat, err := f.Stat()
	peer.Must(t, err)
	return CutTail(f, stat.Size())
}

// applied makes the writes of a cut to a copy of a disk, and cuts it.
func applied(t testing.TB, path string, c *Cut) string {
	t.Helper()
	out := path + ".cut"
	peer.Run(t, "cp", "--sparse=always", path, out)
	f, err := os.OpenFile(out, os.O_RDWR, 0)
	peer.Must(t, err)
	for _, w := range c.Writes {
		if w.Offset < 0 || w.Offset+int64(len(w.Bytes)) > c.Size {
			t.Fatalf("a write of %d bytes at %d of %d", len(w.Bytes), w.Offset, c.Size)
		}
		_, err := f.WriteAt(w.Bytes, w.Offset)
		peer.Must(t, err)
	}
	peer.Must(t, errors.Join(f.Truncate(c.Size), f.Close()))
	return out
}

// verified lets sfdisk and, for a GPT, sgdisk look at a disk.
func verified(t *testing.T, path, script string) {
	t.Helper()
	if said := peer.Run(t, "sfdisk", "--verify", path); strings.Contains(said, "warning") || strings.Contains(said, "error") && !strings.Contains(said, "No errors") {
		t.Errorf("sfdisk --verify: %s", said)
	}
	if strings.HasPrefix(script, "label: gpt") {
		if said := peer.Run(t, "sgdisk", "-v", path); !strings.Contains(said, "No problems found") {
			t.Errorf("sgdisk -v: %s", said)
		}
	}
}

var cuts = []struct {
	name       string
	size, want int64
	script     string
}{
	{"cloud image", 300 * mib, 200*mib + 16*mib, strings.Replace(cloud, "start=227328,", "start=227328, size=212992,", 1)},
	{"gpt", 100 * mib, 12 * mib, "label: gpt\nstart=2048, size=20480\n"},
	{"gpt, room for the backup before the next MiB", 100 * mib, 11 * mib, "label: gpt\nstart=2048, size=20447\n"},
	{"gpt, a sector too much for that", 100 * mib, 12 * mib, "label: gpt\nstart=2048, size=20448\n"},
	{"gpt, few entries", 100 * mib, 11 * mib, "label: gpt\ntable-length: 8\nstart=2048, size=20475\n"},
	{"gpt, the last by number lies first", 100 * mib, 21 * mib, "label: gpt\nstart=20480, size=20480\n2: start=2048, size=2048\n"},
	{"gpt, full", 100 * mib, 100 * mib, "label: gpt\nstart=2048\n"},
	{"gpt, less than a MiB left", 100*mib + 512, 100 * mib, "label: gpt\nstart=2048, size=200704\n"},
	{"gpt, no partition", 100 * mib, 100 * mib, "label: gpt\n"},
	{"mbr", 100 * mib, 11 * mib, "label: dos\nstart=2048, size=20480, type=83, bootable\n"},
	{"mbr, by a sector", 100 * mib, 12 * mib, "label: dos\nstart=2048, size=20481, type=83\n"},
	{"mbr, full", 100 * mib, 100 * mib, "label: dos\nstart=2048, type=83\n"},
	{"mbr, not of whole MiB", 100*mib + 5*512, 100*mib + 5*512, "label: dos\nstart=2048, type=83\n"},
	{"mbr, logical", 300 * mib, 99 * mib, debian},
	{"mbr, room in the extended one", 300 * mib, 50 * mib, "label: dos\nstart=2048, size=100352, type=5\n5: start=4096, size=8192, type=83\n"},
	{"mbr, a dynamic disk", 100 * mib, 100 * mib, "label: dos\nstart=2048, size=20480, type=42\n"},
}

// The table must say of the cut disk what it did before.
func TestCutTail(t *testing.T) {
	peer.NeedTool(t, "sfdisk", "sgdisk")
	for _, c := range cuts {
		t.Run(c.name, func(t *testing.T) {
			path := partitioned(t, c.size, c.script)
			got, err := cut(t, path)
			peer.Must(t, err)
			if got.Size != c.want || got.Size == c.size && len(got.Writes) > 0 {
				t.Fatalf("cut to %d with %d writes, want %d", got.Size, len(got.Writes), c.want)
			}
			out := applied(t, path, got)
			verified(t, out, c.script)
			if diff := cmp.Diff(dump(t, path), dump(t, out)); diff != "" {
				t.Error(diff)
			}
			if again, err := cut(t, out); err != nil || again.Size != got.Size || len(again.Writes) > 0 {
				t.Errorf("cut again: %+v, %v", again, err)
			}
		})
	}
}

// A backup from a time when the disk was smaller must not stay.
func TestCutTailWithAnotherBackup(t *testing.T) {
	peer.NeedTool(t, "sfdisk", "sgdisk")
	script := "label: gpt\nstart=2048, size=20480\n"
	for name, size := range map[string]int64{"behind the new end": 40 * mib, "before it": 11*mib + 100*512, "across it": 12*mib - 512, "near it": 12 * mib} {
		t.Run(name, func(t *testing.T) {
			path := partitioned(t, size, script)
			want := dump(t, path)
			peer.Must(t, os.Truncate(path, 100*mib))
			got, err := cut(t, path)
			peer.Must(t, err)
			out := applied(t, path, got)
			verified(t, out, script)
			if diff := cmp.Diff(want, dump(t, out)); diff != "" || got.Size != 12*mib {
				t.Error(got.Size, diff)
			}
			content, err := os.ReadFile(out)
			peer.Must(t, err)
			if n := bytes.Count(content, []byte(gptSignature)); n != 2 {
				t.Errorf("it has %d headers", n)
			}
		})
	}
}

func TestCutTailLeavesWhatItDoesNotKnow(t *testing.T) {
	peer.NeedTool(t, "sfdisk", "mke2fs")
	file := filepath.Join(t.TempDir(), "ext4")
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", file, "8M")
	peer.Must(t, os.Truncate(file, 16*mib))
	hybrid := partitioned(t, 100*mib, "label: gpt\nstart=2048, size=20480\n")
	damaged := partitioned(t, 100*mib, "label: gpt\nstart=2048, size=20480\n")
	for path, change := range map[string]Write{
		hybrid:  {446 + 16, []byte("\x00\x00\x00\x00\x83\x00\x00\x00\x00\x08\x00\x00\x00\x08\x00\x00")},
		damaged: {512 + 60, []byte("x")},
	} {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		peer.Must(t, err)
		_, err = f.WriteAt(change.Bytes, change.Offset)
		peer.Must(t, errors.Join(err, f.Close()))
	}
	for path, size := range map[string]int64{file: 16 * mib, hybrid: 100 * mib} {
		if got, err := cut(t, path); err != nil || got.Size != size || got.Writes != nil {
			t.Errorf("%s: %+v, %v", path, got, err)
		}
	}
	if got, err := cut(t, damaged); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "gdisk") {
		t.Errorf("damaged: %+v, %v", got, err)
	}
}

// What is flattened of the overlay is the cut disk, byte for byte.
func TestCutOverlay(t *testing.T) {
	peer.NeedTool(t, "sfdisk", "sgdisk", "qemu-img")
	script := "label: gpt\nstart=2048, size=20480\n"
	raw := partitioned(t, 100*mib, script)
	layer, overlay := raw+".qcow2", raw+".overlay"
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, layer)
	path, err := CutOverlay(t.Context(), layer, overlay)
	peer.Must(t, err)
	if path != overlay {
		t.Fatalf("it is %s", path)
	}
	flat := raw + ".flat"
	peer.Must(t, Flatten(t.Context(), path, flat, FlattenOptions{Format: Raw}))
	verified(t, flat, script)
	c, err := cut(t, raw)
	peer.Must(t, err)
	peer.Run(t, "cmp", applied(t, raw, c), flat)
	// There is nothing more to cut.
	none := raw + ".none"
	peer.Must(t, Flatten(t.Context(), flat, layer, FlattenOptions{SourceFormat: Raw}))
	if path, err := CutOverlay(t.Context(), layer, none); err != nil || path != layer {
		t.Errorf("again: %s, %v", path, err)
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("an overlay was made for nothing")
	}
}

func FuzzCutTail(f *testing.F) {
	gpt, err := os.ReadFile(partitioned(f, 4*mib, "label: gpt\ntable-length: 4\nfirst-lba: 8\nstart=16, size=16\nstart=64, size=16\n"))
	peer.Must(f, err)
	mbr, err := os.ReadFile(partitioned(f, 4*mib, "label: dos\nstart=8, size=8\nstart=32, size=64, type=5\n5: start=40, size=8\n6: start=60, size=8\n"))
	peer.Must(f, err)
	f.Add(gpt[:64*512])
	f.Add(mbr[:64*512])
	f.Fuzz(func(t *testing.T, p []byte) {
		disk := make([]byte, 4*mib)
		copy(disk, p)
		if string(disk[512:520]) == gptSignature && binary.LittleEndian.Uint32(disk[524:]) == 92 {
			entries := disk[min(1000, binary.LittleEndian.Uint64(disk[584:]))*512:][:min(4096, binary.LittleEndian.Uint32(disk[592:])*128)]
			binary.LittleEndian.PutUint32(disk[600:], crc32.ChecksumIEEE(entries))
			sealGPT(disk[512:1024])
		}
		c, err := CutTail(bytes.NewReader(disk), int64(len(disk)))
		if err != nil {
			return
		}
		before, err := ReadTable(bytes.NewReader(disk), int64(len(disk)))
		if errors.Is(err, ErrNoTable) && c.Size == int64(len(disk)) {
			return
		}
		peer.Must(t, err)
		for _, w := range c.Writes {
			copy(disk[:c.Size][w.Offset:][:len(w.Bytes)], w.Bytes)
		}
		after, err := ReadTable(bytes.NewReader(disk[:c.Size]), c.Size)
		peer.Must(t, err)
		if diff := cmp.Diff(before, after); diff != "" {
			t.Error(diff)
		}
	})
}
