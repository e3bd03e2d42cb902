package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/peer"

	"github.com/google/go-cmp/cmp"
)

const mib = 1 << 20

// sfdisk runs it on a disk with a script on its input.
func sfdisk(t testing.TB, script string, args ...string) {
	t.Helper()
	cmd := exec.Command("sfdisk", append([]string{"-q", "--no-reread", "--no-tell-kernel"}, args...)...)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk %v: %v: %s", args, err, out)
	}
}

// partitioned makes a disk of size bytes with sfdisk.
func partitioned(t testing.TB, size int64, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	peer.Must(t, os.WriteFile(path, nil, 0o644))
	peer.Must(t, os.Truncate(path, size))
	sfdisk(t, script, path)
	return path
}

// grown applies a growth to a copy of a disk.
func grown(t testing.TB, path string, newSize int64, g *Growth) string {
	t.Helper()
	out := path + ".grown"
	peer.Run(t, "cp", "--sparse=always", path, out)
	peer.Must(t, os.Truncate(out, newSize))
	f, err := os.OpenFile(out, os.O_RDWR, 0)
	peer.Must(t, err)
	for _, w := range g.Writes {
		if w.Offset < 0 || w.Offset+int64(len(w.Bytes)) > newSize {
			t.Fatalf("a write of %d bytes at %d of %d", len(w.Bytes), w.Offset, newSize)
		}
		_, err := f.WriteAt(w.Bytes, w.Offset)
		peer.Must(t, err)
	}
	peer.Must(t, f.Close())
	return out
}

func grow(t testing.TB, path string, newSize int64, number int) (*Growth, error) {
	t.Helper()
	f, err := os.Open(path)
	peer.Must(t, err)
	defer f.Close()
	stat, err := f.Stat()
	peer.Must(t, err)
	return GrowPartition(f, stat.Size(), newSize, number)
}

// dump is what sfdisk says of a disk, without its name and size.
func dump(t testing.TB, path string) string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(peer.Run(t, "sfdisk", "--dump", path), path, "disk")) {
		if !strings.HasPrefix(line, "last-lba") && !strings.HasPrefix(line, "device") {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(lines, "\n")
}

const cloud = `label: gpt
label-id: 0F3C2B1A-0000-4000-8000-00000000000F
start=227328, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=0F3C2B1A-0000-4000-8000-000000000001, name="rööt", attrs="LegacyBIOSBootable GUID:50,63"
14: start=2048, size=8192, type=21686148-6449-6E6F-744E-656564454649, attrs="RequiredPartition"
15: start=10240, size=217088, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
`

const debian = `label: dos
label-id: 0x1234abcd
start=2048, size=100352, type=83, bootable
start=104446, size=98306, type=5
5: start=104448, size=40960, type=82
6: start=147456, size=55296, type=83
`

var growths = []struct {
	name      string
	size, new int64
	script    string
	number    int // 0 for the last
	grows     int
	end       int64 // 0 if sfdisk's end is taken
}{
	{"cloud image", 200 * mib, 300 * mib, cloud, 0, 1, 299 * mib},
	{"cloud image, by number", 200 * mib, 300*mib + 512, cloud, 1, 1, 299 * mib},
	{"gpt of few entries", 100 * mib, 200 * mib, "label: gpt\ntable-length: 8\nstart=2048, size=20480\nstart=40960\n", 0, 2, 199 * mib},
	{"gpt, the disk as it is", 100 * mib, 100 * mib, "label: gpt\nstart=2048, size=20480\n", 1, 1, 99 * mib},
	{"gpt, a hole in the middle", 100 * mib, 200 * mib, "label: gpt\nstart=2048, size=20480\nstart=102400, size=2048\n", 1, 1, 50 * mib},
	{"gpt, not aligned", 100 * mib, 200 * mib, "label: gpt\nfirst-lba: 34\nstart=2047, size=20481\n", 0, 1, 200*mib - 33*512},
	{"gpt, by a little", 100 * mib, 100*mib + 5*512, "label: gpt\nstart=2048, size=20480\n", 0, 1, 99 * mib},
	{"mbr", 100 * mib, 200*mib + 1000, "label: dos\nstart=2048, size=20480, type=83, bootable\n", 0, 1, 200 * mib},
	{"mbr of old", 100 * mib, 200*mib + 512, "label: dos\nstart=63, size=20480, type=83\n", 0, 1, 200*mib + 512},
	{"mbr, more than 8 GiB", 100 * mib, 20 << 30, "label: dos\nstart=2048, size=20480, type=83\n", 0, 1, 20 << 30},
	{"mbr, to the end that it can have", 100 * mib, 2<<40 - mib, "label: dos\nstart=2048, size=20480, type=83\n", 0, 1, 2<<40 - mib},
	{"mbr, before the extended one", 100 * mib, 200 * mib, "label: dos\nstart=2048, size=20480\nstart=104446, type=5\n5: start=104448, size=8192\n", 1, 1, 50 * mib},
	{"mbr, before a primary one", 100 * mib, 200 * mib, "label: dos\nstart=2048, size=20480\nstart=102400, type=83\n", 1, 1, 50 * mib},
	{"logical, one", 100 * mib, 200 * mib, "label: dos\nstart=2048, size=20480\nstart=22528, type=f\n5: start=24576, type=83\n", 0, 5, 200 * mib},
	{"logical, the second", 100 * mib, 200 * mib, debian, 0, 6, 200 * mib},
	{"logical, inside of the extended one", 100 * mib, 100 * mib, "label: dos\nstart=2048, size=100000, type=5\n5: start=4096, size=20480\n6: start=40960, size=20480\n", 5, 5, 19 * mib},
	{"logical, before a primary one", 200 * mib, 200 * mib, "label: dos\nstart=2048, size=100352, type=5\nstart=204800, size=2048, type=83\n5: start=4096, size=20480\n", 5, 5, 100 * mib},
	{"extended, empty", 100 * mib, 200 * mib, "label: dos\nstart=2048, size=20480\nstart=22528, type=5\n", 2, 2, 200 * mib},
	{"extended, of which some is left", 100 * mib, 200 * mib, debian, 2, 2, 200 * mib},
}

// The tables must be those that sfdisk makes of the same partition, byte for byte,
// and clean to both programs.
func TestGrowPartition(t *testing.T) {
	peer.NeedTool(t, "sfdisk", "sgdisk")
	for _, c := range growths {
		t.Run(c.name, func(t *testing.T) {
			path := partitioned(t, c.size, c.script)
			g, err := grow(t, path, c.new, c.number)
			peer.Must(t, err)
			if g.Before.Number != c.grows || g.After.Number != c.grows || g.After.Start != g.Before.Start || g.After.Start+g.After.Size != c.end {
				t.Fatalf("%+v became %+v, want one that ends at %d", g.Before, g.After, c.end)
			}
			out := grown(t, path, c.new, g)
			if said := peer.Run(t, "sfdisk", "--verify", out); strings.Contains(said, "warning") || strings.Contains(said, "error") && !strings.Contains(said, "No errors") {
				t.Errorf("sfdisk --verify: %s", said)
			}
			gpt := strings.HasPrefix(c.script, "label: gpt")
			if said := ""; gpt {
				if said = peer.Run(t, "sgdisk", "-v", out); !strings.Contains(said, "No problems found") {
					t.Errorf("sgdisk -v: %s", said)
				}
			}
			f, err := os.Open(out)
			peer.Must(t, err)
			defer f.Close()
			table, err := ReadTable(f, c.new)
			peer.Must(t, err)
			for _, p := range table.Partitions {
				if p.Number == c.grows && p != g.After {
					t.Errorf("read back: %+v, want %+v", p, g.After)
				}
			}
			sameAsSfdisk(t, path, out, table, g)
		})
	}
}

// sameAsSfdisk lets sfdisk grow the same partition, and write what it says of the
// grown disk to an empty one: since it forgets the link to a logical partition that
// it grows, the bytes must be the latter's.
func sameAsSfdisk(t *testing.T, path, out string, table *Table, g *Growth) {
	t.Helper()
	stat, err := os.Stat(out)
	peer.Must(t, err)
	newSize := stat.Size()
	its, anew := path+".sfdisk", path+".anew"
	peer.Run(t, "cp", "--sparse=always", path, its)
	peer.Must(t, os.Truncate(its, newSize))
	for _, p := range table.Partitions { // sfdisk wants the extended one to be grown by hand
		if p.Number == g.After.Number || isExtended(p) {
			sfdisk(t, fmt.Sprintf("size=%d\n", p.Size/512), "-N", fmt.Sprint(p.Number), "--wipe=never", its)
		}
	}
	if diff := cmp.Diff(dump(t, its), dump(t, out)); diff != "" {
		t.Errorf("sfdisk --dump differs: %s", diff)
	}
	peer.Must(t, os.WriteFile(anew, nil, 0o644))
	peer.Must(t, os.Truncate(anew, newSize))
	sfdisk(t, peer.Run(t, "sfdisk", "--dump", out), anew)
	a, err := os.Open(anew)
	peer.Must(t, err)
	defer a.Close()
	for _, w := range g.Writes {
		want := make([]byte, len(w.Bytes))
		peer.Must(t, readFull(a, want, w.Offset))
		if !bytes.Equal(want, w.Bytes) {
			t.Errorf("at %d: %s", w.Offset, cmp.Diff(want, w.Bytes))
		}
	}
}

func TestGrowPartitionRefuses(t *testing.T) {
	peer.NeedTool(t, "sfdisk", "sgdisk")
	gpt := "label: gpt\nstart=2048, size=20480\nstart=22528, size=20480\n"
	write := func(off int64, bytes string) func(*os.File) error {
		return func(f *os.File) error {
			_, err := f.WriteAt([]byte(bytes), off)
			return err
		}
	}
	for name, c := range map[string]struct {
		script string
		new    int64
		number int
		change func(*os.File) error
		want   string
	}{
		"something behind":   {gpt, 200 * mib, 1, nil, "no free space"},
		"nothing to gain":    {"label: gpt\nstart=2048\n", 100 * mib, 0, nil, "no free space"},
		"no such number":     {gpt, 200 * mib, 3, nil, "no partition 3"},
		"no partition":       {"label: gpt\n", 200 * mib, 0, nil, "no partition"},
		"smaller":            {gpt, 50 * mib, 0, nil, "would have"},
		"2 TiB":              {"label: dos\nstart=2048\n", 3 << 40, 0, nil, "2 TiB"},
		"first damaged":      {gpt, 200 * mib, 0, write(512+60, "x"), "first GPT is damaged"},
		"hybrid":             {gpt, 200 * mib, 0, write(446+16, "\x00\x00\x00\x00\x83\x00\x00\x00\x00\x08\x00\x00\x00\x08\x00\x00"), "hybrid"},
		"no table":           {gpt, 200 * mib, 0, write(510, "xx"), "no partition table"},
		"logical, in a row":  {"label: dos\nstart=2048, size=100000, type=5\n5: start=4096, size=20480\n6: start=26624, size=20480\n", 200 * mib, 5, nil, "no free space"},
		"before another one": {"label: dos\nstart=2048, size=10240, type=5\nstart=12288, size=2048, type=83\n5: start=4096, size=8192\n", 200 * mib, 5, nil, "no free space"},
		"overlap": {"label: dos\nstart=2048, size=20480, type=83\nstart=22528, size=20480, type=83\n", 200 * mib, 2, func(f *os.File) error {
			return write(446+12, "\x01\x58\x00\x00")(f)
		}, "overlaps"},
	} {
		path := partitioned(t, 100*mib, c.script)
		if c.change != nil {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			peer.Must(t, err)
			peer.Must(t, c.change(f))
			peer.Must(t, f.Close())
		}
		g, err := grow(t, path, c.new, c.number)
		if err == nil || g != nil || !strings.Contains(err.Error(), c.want) || (c.want == "no free space") != errors.Is(err, ErrNoRoom) {
			t.Errorf("%s: %+v, %v, want %q", name, g, err, c.want)
		}
	}
}

// The backup may be damaged, far from the end, or of another table.
func TestGrowPartitionWithAnotherBackup(t *testing.T) {
	peer.NeedTool(t, "sfdisk", "sgdisk")
	path := partitioned(t, 200*mib, cloud)
	wide := path + ".wide" // as of a disk that was made larger before
	peer.Run(t, "cp", "--sparse=always", path, wide)
	peer.Must(t, os.Truncate(wide, 400*mib))
	damaged := path + ".damaged"
	peer.Run(t, "cp", "--sparse=always", path, damaged)
	f, err := os.OpenFile(damaged, os.O_RDWR, 0)
	peer.Must(t, err)
	_, err = f.WriteAt([]byte("xxxxxxxxxxxxxxxxxxxxxxx"), 200*mib-500)
	peer.Must(t, err)
	peer.Must(t, f.Close())
	for _, path := range []string{wide, damaged} {
		g, err := grow(t, path, 400*mib, 1)
		peer.Must(t, err)
		out := grown(t, path, 400*mib, g)
		if said := peer.Run(t, "sgdisk", "-v", out); !strings.Contains(said, "No problems found") {
			t.Errorf("sgdisk -v: %s", said)
		}
	}
	other, err := os.ReadFile(path)
	peer.Must(t, err)
	header := other[200*mib-512:]
	header[56]++ // the disk's identifier
	sealGPT(header)
	if _, err := GrowPartition(bytes.NewReader(other), 200*mib, 400*mib, 1); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "differ") {
		t.Errorf("another table: %v", err)
	}
}

func FuzzGrowPartition(f *testing.F) {
	gpt, err := os.ReadFile(partitioned(f, 2*mib, "label: gpt\ntable-length: 4\nfirst-lba: 8\nstart=16, size=16\nstart=64, size=16\n"))
	peer.Must(f, err)
	mbr, err := os.ReadFile(partitioned(f, 2*mib, "label: dos\nstart=8, size=8\nstart=32, size=64, type=5\n5: start=40, size=8\n6: start=60, size=8\n"))
	peer.Must(f, err)
	f.Add(gpt[:64*512], int64(3*mib), 0)
	f.Add(gpt[:64*512], int64(2*mib), 1)
	f.Add(mbr[:64*512], int64(2*mib), 6)
	f.Add(mbr[:64*512], int64(3*mib), 2)
	f.Fuzz(func(t *testing.T, p []byte, newSize int64, number int) {
		disk := make([]byte, 2*mib)
		copy(disk, p)
		if string(disk[512:520]) == gptSignature && binary.LittleEndian.Uint32(disk[524:]) == 92 {
			entries := disk[min(1000, binary.LittleEndian.Uint64(disk[584:]))*512:][:min(4096, binary.LittleEndian.Uint32(disk[592:])*128)]
			binary.LittleEndian.PutUint32(disk[600:], crc32.ChecksumIEEE(entries))
			sealGPT(disk[512:1024])
		}
		newSize = min(newSize, 8*mib)
		g, err := GrowPartition(bytes.NewReader(disk), int64(len(disk)), newSize, number)
		if err != nil {
			return
		}
		before, err := ReadTable(bytes.NewReader(disk), int64(len(disk)))
		peer.Must(t, err)
		after := append(bytes.Clone(disk), make([]byte, newSize-int64(len(disk)))...)
		for _, w := range g.Writes {
			copy(after[w.Offset:][:len(w.Bytes)], w.Bytes)
		}
		table, err := ReadTable(bytes.NewReader(after), newSize)
		peer.Must(t, err)
		for i, p := range table.Partitions {
			was := before.Partitions[i]
			if p.Number == g.After.Number {
				was = g.After
			}
			if isExtended(p) {
				was.Size = p.Size
			}
			if p != was {
				t.Errorf("%+v became %+v", was, p)
			}
		}
	})
}
