package xfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"herdbook/internal/filesystem"
	"herdbook/internal/filesystem/readertest"
	"herdbook/internal/peer"
)

// makeImage makes a file system. mkfs.xfs refuses small ones unless it is told that
// they are for tests.
func makeImage(t testing.TB, options, size string) string {
	t.Helper()
	peer.NeedTool(t, "mkfs.xfs")
	path := filepath.Join(t.TempDir(), "image")
	peer.Run(t, "truncate", "-s", size, path)
	args := append([]string{"QA_CHECK_FS=1", "TEST_DIR=1", "TEST_DEV=1", "mkfs.xfs", "-q"}, strings.Fields(options)...)
	peer.Run(t, "env", append(args, path)...)
	return path
}

func openImage(t testing.TB, path string) *FS {
	t.Helper()
	f, err := tryImage(t, path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func tryImage(t testing.TB, path string) (*FS, error) {
	t.Helper()
	return Open(readertest.File(t, path))
}

// prototype describes a small tree to mkfs.xfs.
const prototype = `/
0 0
d--755 3 4
a d--755 0 0
b d--755 0 0
c ---644 70000 80000 CONTENT
$
$
null c--666 0 0 1 3
link l--777 0 0 a/b/c
many d--700 0 0
NAMES$
d ---600 0 0 CONTENT
$
`

// prototypeImage makes an image without a mount.
func prototypeImage(t testing.TB, options, size string) (path string, content []byte) {
	t.Helper()
	dir := t.TempDir()
	content = bytes.Repeat([]byte("0123456789abcdef"), 1000)
	peer.Must(t, os.WriteFile(filepath.Join(dir, "content"), content, 0o644))
	var names strings.Builder
	for i := range 400 {
		fmt.Fprintf(&names, "name-%03d ---644 0 0 /dev/null\n", i)
	}
	text := strings.NewReplacer("CONTENT", filepath.Join(dir, "content"), "NAMES", names.String()).Replace(prototype)
	peer.Must(t, os.WriteFile(filepath.Join(dir, "prototype"), []byte(text), 0o644))
	return makeImage(t, options+" -p "+filepath.Join(dir, "prototype"), size), content
}

func TestFreshImagesOfEverySize(t *testing.T) {
	for _, options := range []string{
		"", "-b size=1k", "-b size=2k", "-b size=16k", "-b size=64k", "-s size=4k", "-i size=1024", "-i size=2048", "-n size=8k", "-n size=64k",
		"-m crc=0", "-m crc=0 -b size=512", "-m crc=0 -n ftype=1", "-m crc=0 -b size=64k", "-l su=256k", "-l su=32k", "-d su=64k,sw=4 -l size=20m", "-l agnum=1", "-l version=1 -m crc=0",
	} {
		t.Run(strings.ReplaceAll(options, " ", "_"), func(t *testing.T) {
			path, content := prototypeImage(t, options+" -L name", "400M")
			f := openImage(t, path)
			if f.Kind != "xfs" || f.Label != "name" || f.Size > 400<<20 || !strings.Contains(peer.Run(t, "blkid", path), f.UUID) {
				t.Errorf("it says of itself: %+v", f.About)
			}
			for dir, name := range map[string]string{"a": "b/c", "many": "name-399"} {
				below, err := fs.Sub(f, dir)
				peer.Must(t, err)
				if err := fstest.TestFS(below, name); err != nil {
					t.Error(err)
				}
			}
			got, err := f.ReadFile("link")
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			null, err := f.Stat("null")
			peer.Must(t, err)
			if s := null.Sys().(*filesystem.Stat); null.Mode() != fs.ModeDevice|fs.ModeCharDevice|0o666 || s.Major != 1 || s.Minor != 3 {
				t.Errorf("%v %d:%d", null.Mode(), s.Major, s.Minor)
			}
			compareUsed(t, f, path)
		})
	}
}

// compareUsed compares the map of used blocks with what xfs_db counts, and
// makes sure that what is not in it can be overwritten.
func compareUsed(t *testing.T, f *FS, path string) {
	t.Helper()
	free, kept := int64(0), int64(0) // kept: for the trees of what is free
	for ag := range f.agCount {
		var n, list, trees int64
		text := peer.Run(t, "xfs_db", "-r", "-c", fmt.Sprintf("agf %d", ag), "-c", "print freeblks flcount btreeblks", path)
		_, err := fmt.Sscanf(text, "freeblks = %d\nflcount = %d\nbtreeblks = %d", &n, &list, &trees)
		peer.Must(t, err)
		free, kept = free+n, kept+list+trees
	}
	if f.Used != f.Size-(free+kept)*f.block {
		t.Errorf("it says that %d bytes of %d are in use, xfs_db counts %d and %d free blocks", f.Used, f.Size, free, kept)
	}
	waste := readertest.CutOff(t, path)
	file, err := os.OpenFile(waste, os.O_WRONLY, 0)
	peer.Must(t, err)
	unused, end := int64(0), int64(0)
	gap := func(until int64) {
		unused += until - end
		for ; end < until; end += min(64*f.block, max(f.block, until-end-f.block)) {
			_, err := file.WriteAt(bytes.Repeat([]byte{0xAA}, 64), end)
			peer.Must(t, err)
		}
	}
	ranges, _ := readertest.UsedRanges(t, f.UsedRanges)
	for _, r := range ranges {
		gap(r.Start)
		end = r.End
	}
	gap(f.Size)
	peer.Must(t, file.Close())
	if unused/f.block != free {
		t.Errorf("%d free blocks, xfs_db counts %d", unused/f.block, free)
	}
	peer.Run(t, "xfs_repair", "-n", waste)
}

func TestOpenRefuses(t *testing.T) {
	for name, image := range map[string][]byte{"empty": nil, "short": make([]byte, 200), "zeros": make([]byte, 1<<20)} {
		if _, err := Open(bytes.NewReader(image), int64(len(image))); !errors.Is(err, ErrNotXFS) {
			t.Errorf("%s: %v", name, err)
		}
	}
	whole, err := os.ReadFile(makeImage(t, "", "20M"))
	peer.Must(t, err)
	if _, err := Open(bytes.NewReader(whole[:10<<20]), 10<<20); !errors.Is(err, filesystem.ErrCorrupt) || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("cut short: %v", err)
	}
	broken := bytes.Clone(whole)
	broken[7] ^= 1
	if _, err := Open(bytes.NewReader(broken), int64(len(broken))); !errors.Is(err, filesystem.ErrCorrupt) {
		t.Errorf("changed superblock: %v", err)
	}
}

func TestUnknownFeaturesAreNamed(t *testing.T) {
	whole, err := os.ReadFile(makeImage(t, "", "20M"))
	peer.Must(t, err)
	for bit, want := range map[uint32]string{0x10: "needsrepair", 0x100: "metadir", 0x200: "zoned", 0x80000000: "0x80000000"} {
		broken := bytes.Clone(whole)
		for i := range 4 {
			broken[216+i] |= byte(bit >> (24 - 8*i))
		}
		seal512(broken)
		if _, err := Open(bytes.NewReader(broken), int64(len(broken))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("feature %#x: %v, want %q", bit, err, want)
		}
	}
	old := bytes.Clone(whole)
	old[101] = old[101]&0xf0 | 3
	if _, err := Open(bytes.NewReader(old), int64(len(old))); err == nil || !strings.Contains(err.Error(), "version 3") {
		t.Errorf("version 3: %v", err)
	}
}

// seal512 makes the checksum of a superblock of 512 bytes right.
func seal512(image []byte) {
	sum := checksum(image[:512], 224)
	for i := range 4 {
		image[224+i] = byte(sum >> (8 * i))
	}
}

func TestAnExternalLogIsRefused(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	peer.Run(t, "truncate", "-s", "64M", log)
	path := makeImage(t, "-l logdev="+log, "20M")
	if _, err := tryImage(t, path); err == nil || !strings.Contains(err.Error(), "another device") {
		t.Error(err)
	}
}

// Version 4 has attributes in blocks of another form. xfs_db writes them
// where the kernel cannot mount them any more.
func TestAttributesOfVersionFour(t *testing.T) {
	path, _ := prototypeImage(t, "-m crc=0 -i size=256", "64M")
	for count, name := range map[int]string{2: "a", 40: "d", 900: "many"} {
		stat, err := openImage(t, path).Stat(name)
		peer.Must(t, err)
		args := []string{"-x", "-c", fmt.Sprintf("inode %d", stat.Sys().(*filesystem.Stat).Ino)}
		want := map[string]string{}
		for i := range count {
			attr, size, flag, prefix := fmt.Sprintf("name-%d", i), 1+i*7%200, "-u", "user."
			switch i % 9 {
			case 1:
				flag, prefix, size = "-r", "trusted.", 3000+i
			case 2:
				flag, prefix = "-s", "security."
			}
			args = append(args, "-c", fmt.Sprintf("attr_set %s -v %d %s", flag, size, attr))
			want[prefix+attr] = strings.Repeat("v", size)
		}
		peer.Run(t, "xfs_db", append(args, path)...)
		got, err := openImage(t, path).Xattrs(name)
		if err != nil || len(got) != count {
			t.Errorf("%s: %d attributes, want %d (%v)", name, len(got), count, err)
		}
		for attr, value := range want {
			if string(got[attr]) != value {
				t.Errorf("%s: %s is %q, want %q", name, attr, got[attr], value)
			}
		}
	}
}
