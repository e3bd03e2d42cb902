package btrfs

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"herdbook/internal/filesystem"
	"herdbook/internal/filesystem/readertest"
	"herdbook/internal/peer"
)

// filled makes an image of a small tree without mounting it.
func filled(t testing.TB, options string) string {
	t.Helper()
	peer.NeedTool(t, "mkfs.btrfs")
	tree := t.TempDir()
	readertest.PlantSmall(t, tree)
	for i := range 100 {
		peer.Must(t, os.WriteFile(filepath.Join(tree, "deep", strings.Repeat("n", 40)+fmt.Sprint(i)), []byte("inline"), 0o600))
	}
	return makeImage(t, options+" --rootdir "+tree)
}

func TestItIsAnFS(t *testing.T) {
	f := openImage(t, filled(t, ""))
	if err := fstest.TestFS(f, "etc/os-release", "large"); err != nil {
		t.Error(err)
	}
	if p, err := f.ReadFile("deep/er/link/file"); err != nil || string(p) != strings.Repeat("x", 5000) {
		t.Errorf("%d bytes, %v", len(p), err)
	}
	if _, err := f.Stat("deep/nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, image := range map[string][]byte{"empty": nil, "short": make([]byte, 66000), "zeros": make([]byte, 1<<20)} {
		if _, err := Open(bytes.NewReader(image), int64(len(image))); !errors.Is(err, ErrNotBtrfs) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := newDamaged(t, filled(t, ""))
	if _, err := Open(d, 100<<20); !errors.Is(err, filesystem.ErrCorrupt) || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("cut short: %v", err)
	}
	set := func(at int, value uint64) func(p []byte) {
		return func(p []byte) { binary.LittleEndian.PutUint64(p[at:], value) }
	}
	for what, c := range map[string]struct {
		change func(p []byte)
		want   string
	}{
		"two devices":     {set(0x88, 2), "the file system spans 2 devices"},
		"a log":           {set(0x60, 1<<20), "has a log to be replayed"},
		"a dump":          {set(0x38, 1<<33), "a dump of metadata"},
		"zoned":           {set(0xBC, 0x1341), "the feature zoned"},
		"extent tree v2":  {set(0xBC, 0x2341), "the feature extent_tree_v2"},
		"a future":        {set(0xBC, 1<<40), "the feature incompat bit 0x10000000000"},
		"other checksums": {func(p []byte) { p[0xC4] = 9 }, "its checksums, of type 9"},
		"sectors of 3":    {func(p []byte) { p[0x90] = 3 }, "sectors of 4099 bytes"},
		"nodes of 1 GiB":  {func(p []byte) { p[0x97] = 0x40 }, "nodes of 1073758208 bytes"},
		"chunks":          {func(p []byte) { p[0xA1] = 0x80 }, "bytes of chunks in the superblock"},
		"a generation":    {set(0x48, 1000), "want 0 and 1000"},
	} {
		d.reset()
		d.change(t, superOffset, superSize, c.change)
		if _, err := Open(d, 256<<20); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
	d.reset()
	d.patch(superOffset+0x12B, []byte("another label"))
	if _, err := Open(d, 256<<20); !errors.Is(err, filesystem.ErrCorrupt) || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("another label: %v", err)
	}
}

// The second copy of a node helps where the first is damaged.
func TestDuplicatesHelp(t *testing.T) {
	for options, helped := range map[string]bool{"-m dup": true, "-m single": false} {
		path := filled(t, options)
		d := newDamaged(t, path)
		f := openImage(t, path)
		top, _, err := f.v.split(f.v.trees[0].index << numberBits)
		peer.Must(t, err)
		c, err := f.v.chunkAt(top.root.at, f.v.nodeSize)
		peer.Must(t, err)
		d.patch(c.copies[0]+int64(top.root.at)-c.logical+200, []byte{1, 2, 3})
		broken, err := Open(d, 256<<20)
		peer.Must(t, err)
		if _, err = broken.ReadFile("etc/os-release"); (err == nil) != helped {
			t.Errorf("%s: %v", options, err)
		}
	}
}

// Data that are not what they were are an error, unless there is a second copy.
func TestDamagedData(t *testing.T) {
	for options, helped := range map[string]bool{"-d single": false, "-d dup": true, "--csum blake2 -d dup": true} {
		path := filled(t, options)
		n, err := openImage(t, path).Entry("large")
		peer.Must(t, err)
		stat, err := n.Stat()
		peer.Must(t, err)
		f := openImage(t, path)
		inode, err := f.v.inode(stat.Ino)
		peer.Must(t, err)
		c, err := inode.content()
		peer.Must(t, err)
		at, err := f.v.chunkAt(c.extents[0].stored.at, 1)
		peer.Must(t, err)
		d := newDamaged(t, path)
		d.patch(at.copies[0]+int64(c.extents[0].stored.at)-at.logical+10000, []byte("x"))
		broken, err := Open(d, 256<<20)
		peer.Must(t, err)
		file, err := broken.OpenFile("large")
		peer.Must(t, err)
		p := make([]byte, 100)
		if n, err := file.ReadAt(p, 4000); err != nil || string(p[:16]) != "0123456789abcdef" {
			t.Errorf("%s: %d bytes before it: %v", options, n, err)
		}
		_, err = file.ReadAt(p, 10000-50)
		if (err == nil) != helped || err != nil && !errors.Is(err, filesystem.ErrCorrupt) || strings.Contains(string(p), "x") {
			t.Errorf("%s: %q, %v", options, p, err)
		}
	}
}

// damaged is an image of which some bytes are others, and what was read of it.
type damaged struct {
	file    *os.File
	patches map[int64][]byte
	read    int64
	nodes   []int64
}

func newDamaged(t testing.TB, path string) *damaged {
	t.Helper()
	file, _ := readertest.File(t, path)
	d := &damaged{file: file}
	d.reset()
	return d
}

func (d *damaged) reset() { d.patches, d.read = map[int64][]byte{}, 0 }

func (d *damaged) patch(at int64, p []byte) { d.patches[at] = p }

func (d *damaged) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.file.ReadAt(p, off)
	d.read += int64(n)
	for at, patch := range d.patches {
		for i := range patch {
			if j := at + int64(i) - off; j >= 0 && j < int64(n) {
				p[j] = patch[i]
			}
		}
	}
	return n, err
}

// change changes a block and gives it the checksum that it then has.
func (d *damaged) change(t testing.TB, at int64, size int, fn func(p []byte)) {
	t.Helper()
	p := make([]byte, size)
	_, err := d.ReadAt(p, at)
	peer.Must(t, err)
	fn(p)
	sum, err := checksumOf(0)
	peer.Must(t, err)
	copy(p, sum(p[32:]))
	d.patch(at, p)
}

// findNodes finds where the nodes of an image lie.
func (d *damaged) findNodes(t testing.TB, size int64, nodeSize int) {
	t.Helper()
	super, p := make([]byte, superSize), make([]byte, nodeSize)
	_, err := d.file.ReadAt(super, superOffset)
	peer.Must(t, err)
	sum, err := checksumOf(0)
	peer.Must(t, err)
	for at := int64(1 << 20); at+int64(nodeSize) <= size; {
		next, err := unix.Seek(int(d.file.Fd()), at, unix.SEEK_DATA)
		if err != nil {
			break
		}
		if next &^= 4095; next > at {
			at = next
		}
		if n, err := d.file.ReadAt(p, at); n == nodeSize && err == nil && bytes.Equal(p[32:48], super[32:48]) && bytes.Equal(sum(p[32:]), p[:4]) {
			d.nodes = append(d.nodes, at)
		}
		at += 4096
	}
}

// readAll reads everything in an image; errors are as good as bytes.
func readAll(r io.ReaderAt) {
	f, err := Open(r, 256<<20)
	if err != nil {
		return
	}
	readertest.ReadAll(f, "deep/er/link/file")
	_, _ = f.Subvolume("sub/volume")
	_, _ = f.SubvolumeID(257)
}

// Whatever is flipped in nodes, of which the checksum then is right, the reader
// ends, has read no more than a sane amount and holds no more than a few MiB.
func TestCorruptImagesEndInErrors(t *testing.T) {
	image := makeImage(t, "-m single -n 4096 -O ^no-holes")
	dir := mount(t, image, "compress-force=lzo")
	random := rand.New(rand.NewSource(2))
	peer.Must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	peer.Run(t, "btrfs", "subvolume", "create", filepath.Join(dir, "sub/volume"))
	for i := range 150 {
		peer.Must(t, os.WriteFile(filepath.Join(dir, "sub/volume", fmt.Sprint("file-", i)), text(random, i*i*5), 0o644))
	}
	peer.Must(t, os.Symlink("sub", filepath.Join(dir, "link")))
	peer.Must(t, unix.Setxattr(filepath.Join(dir, "sub"), "user.note", []byte("a note"), 0))
	peer.Run(t, "btrfs", "subvolume", "snapshot", dir, filepath.Join(dir, "copy"))
	peer.Must(t, unix.Unmount(dir, 0))
	d := newDamaged(t, image)
	d.findNodes(t, 256<<20, 4096)
	if len(d.nodes) < 15 {
		t.Fatalf("only %d nodes were found", len(d.nodes))
	}
	readAll(d)
	clean := d.read
	for round := range 600 {
		d.reset()
		for range 1 + random.Intn(6) {
			d.change(t, d.nodes[random.Intn(len(d.nodes))], 4096, func(p []byte) {
				count := int(binary.LittleEndian.Uint32(p[0x60:]))
				// Half of it where the keys are.
				at := random.Intn(4096)
				if random.Intn(2) == 0 {
					at = headerSize + random.Intn(min(4096-headerSize-8, itemSize*count+1))
				}
				switch random.Intn(4) {
				case 0:
					p[at] ^= 1 << random.Intn(8)
				case 1:
					p[at] = 0xff
				case 2:
					p[0x60+random.Intn(5)] ^= 1 << random.Intn(8)
				default:
					copy(p[at:], p[random.Intn(4000):][:min(16, 4096-at)])
				}
			})
		}
		allocated := readertest.Allocated(func() { readAll(d) })
		if d.read > 20*clean+(50<<20) || allocated > 1<<30 {
			t.Errorf("round %d: %d MiB read, %d of the whole one; %d MiB allocated", round, d.read>>20, clean>>20, allocated>>20)
		}
	}
}

func FuzzOpen(f *testing.F) {
	if _, err := exec.LookPath("mkfs.btrfs"); err != nil {
		f.Skip("mkfs.btrfs is not installed")
	}
	image := filled(f, "-m single -n 4096")
	d := newDamaged(f, image)
	d.findNodes(f, 256<<20, 4096)
	f.Add(uint(0x88), uint(0), uint(0x60), []byte{1, 2, 3, 4})
	f.Add(uint(0x32B), uint(5), uint(130), []byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, inSuper, node, at uint, patch []byte) {
		broken := &damaged{file: d.file, patches: map[int64][]byte{}}
		broken.change(t, superOffset, superSize, func(p []byte) { copy(p[0x48+inSuper%(superSize-0x48):], patch) })
		if at%2 == 0 {
			broken.reset() // most changes of the superblock end all
		}
		broken.change(t, d.nodes[node%uint(len(d.nodes))], 4096, func(p []byte) { copy(p[32+at%(4096-32):], patch) })
		readAll(broken)
	})
}

func TestXXHash(t *testing.T) {
	p := make([]byte, 100)
	for i := range p {
		p[i] = byte(i)
	}
	// As xxhsum -H1 has them.
	for n, want := range map[int]uint64{0: 0xef46db3751d8e999, 1: 0xe934a84adb052768} {
		if got := xxhash64(p[:n]); got != want {
			t.Errorf("%d bytes: %x, want %x", n, got, want)
		}
	}
	if got := xxhash64([]byte("abc")); got != 0x44bc2cf5ad770999 {
		t.Errorf("abc: %x", got)
	}
}

func TestLZO(t *testing.T) {
	long := string(text(rand.New(rand.NewSource(1)), 16400))
	for in, want := range map[string]string{
		"14 61 62 63 110000":                           "abc",                            // literals, the end
		"15 61 62 63 64 2c0c00 110000":                 "abcdabcdabcdabcdab",             // a match that overlaps
		"04 61 62 63 64 65 66 67 110000":               "abcdefg",                        // without a first copy
		"00 01 " + strings.Repeat("61", 19) + "110000": strings.Repeat("a", 19),          // a long copy
		"15 61 62 63 64 20 00 01 0c00 110000":          strings.Repeat("abcd", 74)[:293], // a long match
		"15 61 62 63 64 6c00 110000":                   "abcdabcd",                       // a near match
		"15 61 62 63 64 6d00 65 0400 110000":           "abcdabcdede",                    // a literal behind it, and two bytes
		"00" + strings.Repeat("00", 64) + "3e" + hex.EncodeToString([]byte(long)) + "121000 110000": long + long[12:16], // a far match
	} {
		raw, err := hex.DecodeString(strings.ReplaceAll(in, " ", ""))
		peer.Must(t, err)
		out := make([]byte, 20000)
		n, err := lzo(out, raw)
		if err != nil || string(out[:n]) != want {
			t.Errorf("%s: %q, %v, want %q", in, out[:n], err, want)
		}
		for i := range min(len(raw), 300) {
			if n, err := lzo(out, raw[:i]); err == nil {
				t.Errorf("%s: its first %d bytes are taken for %q", in, i, out[:n])
			}
		}
		if _, err := lzo(make([]byte, len(want)-1), raw); err == nil {
			t.Errorf("%s: it is unpacked into too little", in)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	v := &volume{sector: 4096}
	f.Add(uint8(packLZO), uint32(4096), []byte("\x12\x00\x00\x00\x0a\x00\x00\x00\x15abcd\x2c\x0c\x00\x11\x00\x00"))
	f.Add(uint8(packZlib), uint32(4096), []byte("\x78\x9c\x4b\x4c\x4a\x06\x00\x02\x4d\x01\x27"))
	f.Add(uint8(packZstd), uint32(4096), []byte("\x28\xb5\x2f\xfd\x04\x00\x19\x00\x00abc\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, how uint8, ram uint32, raw []byte) {
		e := packed{how: how, ram: int64(ram % (maxUnpacked + 1))}
		if out, err := v.decompress(e, raw); err == nil && int64(len(out)) != e.ram {
			t.Errorf("%d bytes, want %d", len(out), e.ram)
		}
	})
}
