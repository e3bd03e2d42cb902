package fat

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"

	"herdbook/internal/disk"
	"herdbook/internal/filesystem"
	"herdbook/internal/filesystem/readertest"
	"herdbook/internal/peer"
)

// variants are mkfs.vfat's options, with the size in KiB.
var variants = map[string]string{
	"fat12":           "-F 12 -s 8 8192",
	"fat12-floppy":    "1440",
	"fat16":           "-F 16 65536",
	"fat32":           "-F 32 -s 1 65536",
	"fat32-large":     "-F 32 -s 8 300000",
	"one-table":       "-F 16 -f 1 32768",
	"sectors-of-2048": "-F 16 -S 2048 65536",
	"sectors-of-4096": "-F 32 -S 4096 -s 1 300000",
}

func makeImage(t testing.TB, options string) string {
	t.Helper()
	peer.NeedTool(t, "mkfs.vfat", "fsck.vfat", "mcopy", "mattrib", "mdir")
	path := filepath.Join(t.TempDir(), "image")
	fields := strings.Fields(options)
	size := fields[len(fields)-1]
	peer.Run(t, "mkfs.vfat", slices.Concat([]string{"-C", "-i", "abcd0123", "-n", "BOOT DISK"}, fields[:len(fields)-1], []string{path, size})...)
	return path
}

// mtools runs one of them in UTF-8.
func mtools(t testing.TB, name, image string, args ...string) string {
	t.Helper()
	return peer.Run(t, "env", append([]string{"LC_ALL=C.UTF-8", "TZ=UTC", "MTOOLS_SKIP_CHECK=1", name, "-i", image}, args...)...)
}

func openImage(t testing.TB, path string) *FS {
	t.Helper()
	f, err := Open(readertest.File(t, path))
	peer.Must(t, err)
	return f
}

// fixture makes a tree of names and sizes as they come.
func fixture(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	random := rand.New(rand.NewSource(1))
	for name, size := range map[string]int{
		"EFI/BOOT/BOOTX64.EFI": 100000, "EFI/debian/grub.cfg": 117, "empty": 0, "README": 511, "lower.txt": 512, "MiXed.TxT": 513,
		"a.name.of.many.dots": 3, "a name with spaces.and more": 70000, "Überschrift für München.txt": 4096, "日本語.txt": 9,
		strings.Repeat("n", 250): 1, "exactly13char": 2, "exactly twenty-six charsxy": 2, "+plus,[brackets];=.x": 40, "d1/d2/d3/d4/d5/d6/d7/d8/deep": 5,
	} {
		content := make([]byte, size)
		random.Read(content)
		peer.Must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		peer.Must(t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
	}
	peer.Must(t, os.Mkdir(filepath.Join(dir, "many"), 0o755))
	for i := range 300 {
		peer.Must(t, os.WriteFile(filepath.Join(dir, "many", fmt.Sprintf("a-long-name-%04d", i)), []byte{byte(i)}, 0o644))
	}
	when := time.Date(2011, 12, 13, 14, 15, 16, 0, time.UTC)
	peer.Must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, when, when))
	}))
	return dir
}

// fill copies a tree into an image, with deletions before, so that it is in pieces.
func fill(t testing.TB, image, tree string) {
	t.Helper()
	var junk []string
	dir := t.TempDir()
	for i := range 40 {
		name := filepath.Join(dir, fmt.Sprintf("junk%d", i))
		peer.Must(t, os.WriteFile(name, bytes.Repeat([]byte("junk"), 1000), 0o644))
		junk = append(junk, name)
	}
	mtools(t, "mcopy", image, append(junk, "::")...)
	for i := 0; i < 40; i += 2 {
		mtools(t, "mdel", image, "::"+filepath.Base(junk[i]))
	}
	entries, err := filepath.Glob(tree + "/*")
	peer.Must(t, err)
	mtools(t, "mcopy", image, append(append([]string{"-s", "-m"}, entries...), "::")...)
	mtools(t, "mattrib", image, "+r", "::README")
	mtools(t, "mattrib", image, "+h", "+s", "::EFI/debian/grub.cfg")
	for i := 1; i < 40; i += 2 {
		mtools(t, "mdel", image, "::"+filepath.Base(junk[i]))
	}
}

func TestEveryFileOfEveryVariant(t *testing.T) {
	tree := fixture(t)
	for name, options := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			image := makeImage(t, options)
			fill(t, image, tree)
			f := openImage(t, image)
			if f.Kind != "vfat" || f.UUID != "ABCD-0123" || f.Label != "BOOT DISK" {
				t.Errorf("it says %+v", f.About)
			}
			compareTree(t, f, tree)
			compareUsed(t, f, image)
			if bits := strings.TrimPrefix(name, "fat"); bits != name && !strings.HasPrefix(bits, fmt.Sprint(f.bits)) {
				t.Errorf("it is a FAT%d", f.bits)
			}
		})
	}
}

// compareTree compares a file system with the tree that was copied into it, of which
// it keeps little.
func compareTree(t *testing.T, f *FS, tree string) {
	t.Helper()
	readertest.Comparison{Fields: func(name string, fields readertest.Fields) {
		fields.Delete("owner", "group", "number", "links", "read", "changed", "made")
		mode := fields["mode"]
		if mode.Want&filesystem.ModeType == filesystem.ModeDir {
			fields.Delete("size", "modified")
		}
		mode.Want = mode.Want&filesystem.ModeType | 0o755
		if name == "README" {
			mode.Want &^= 0o222
		}
		fields["mode"] = mode
	}}.Tree(t, f.FS, tree)
}

// compareUsed compares the clusters in use with those that fsck.vfat counts.
func compareUsed(t *testing.T, f *FS, image string) {
	t.Helper()
	var files, want, all int64
	for line := range strings.Lines(peer.Run(t, "fsck.vfat", "-n", image)) {
		if _, rest, ok := strings.Cut(line, ": "); ok && strings.Contains(rest, "clusters") {
			_, err := fmt.Sscanf(rest, "%d files, %d/%d clusters", &files, &want, &all)
			peer.Must(t, err)
		}
	}
	if all != int64(f.clusters) {
		t.Errorf("%d clusters, fsck.vfat counts %d", f.clusters, all)
	}
	_, used := readertest.UsedRanges(t, f.UsedRanges)
	if f.Used != used {
		t.Errorf("it says that %d bytes are used, but they are %d", f.Used, used)
	}
	if got := (used - f.data) / f.cluster; got != want {
		t.Errorf("%d clusters are used, fsck.vfat counts %d", got, want)
	}
}

func TestNames(t *testing.T) {
	image := makeImage(t, "-F 16 32768")
	fill(t, image, fixture(t))
	f := openImage(t, image)
	for name, want := range map[string]string{
		"efi/boot/bootx64.efi": "EFI/BOOT/BOOTX64.EFI", "EFI/DEBIAN/GRUB.CFG": "EFI/debian/grub.cfg", "mixed.txt": "MiXed.TxT",
		"A NAME WITH SPACES.AND MORE": "a name with spaces.and more", "ANAMEW~1.AND": "a name with spaces.and more", "empty.": "empty",
	} {
		a, err := f.ReadFile(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if b, err := f.ReadFile(want); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s is not %s: %v", name, want, err)
		}
	}
	if _, err := f.Stat("EFI/nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if n := utf8.RuneCountInString(string(upper)); n != 128 {
		t.Errorf("the code page has %d characters", n)
	}
	var long pieces
	long.add([]byte("\x41\x3d\xd8\x00\xde!\x00\x00\x00\xff\xff\x0f\x00\x71" + strings.Repeat("\xff", 18))) // in two units
	if got := long.take([11]byte([]byte("SMILE      "))); got != "😀!" {
		t.Errorf("a character of two units is read as %q", got)
	}
	for e, want := range map[entry]string{
		{short: [11]byte([]byte("README  TXT"))}:                   "README.TXT",
		{short: [11]byte([]byte("README  TXT")), lower: 0x08}:      "readme.TXT",
		{short: [11]byte([]byte("README  TXT")), lower: 0x18}:      "readme.txt",
		{short: [11]byte([]byte("\x05\x9AB        "))}:             "σÜB",
		{short: [11]byte([]byte("GRUB    CFG")), long: "grub.cfg"}: "grub.cfg",
	} {
		if got := e.name(); got != want {
			t.Errorf("%q is shown as %q, want %q", e.short, got, want)
		}
	}
}

func TestALongNameOfAnotherFileIsLeftOut(t *testing.T) {
	image := makeImage(t, "1440")
	name := filepath.Join(t.TempDir(), "a long name.text")
	peer.Must(t, os.WriteFile(name, []byte("x"), 0o644))
	mtools(t, "mcopy", image, name, "::")
	p, err := os.ReadFile(image)
	peer.Must(t, err)
	at := bytes.Index(p, []byte("ALONGN~1TEX"))
	if at < 0 {
		t.Fatal("there is no short name")
	}
	p[at] = 'B' // by a program that knows no long names
	f, err := Open(bytes.NewReader(p), int64(len(p)))
	peer.Must(t, err)
	list, err := f.ReadDir(".")
	if err != nil || len(list) != 1 || list[0].Name() != "BLONGN~1.TEX" {
		t.Errorf("%v, %v", list, err)
	}
}

func TestItIsAnFS(t *testing.T) {
	image := makeImage(t, "-F 32 65536")
	fill(t, image, fixture(t))
	if err := fstest.TestFS(openImage(t, image), "EFI/BOOT/BOOTX64.EFI", "many/a-long-name-0299"); err != nil {
		t.Error(err)
	}
}

// What herdbook formats by itself is one.
func TestTheEmptyOne(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "esp"))
	peer.Must(t, err)
	defer f.Close()
	peer.Must(t, f.Truncate(64<<20))
	peer.Must(t, disk.FormatFAT32(f, 64<<20, "esp", 0xABCD1234))
	got, err := Open(f, 64<<20)
	peer.Must(t, err)
	if got.UUID != "ABCD-1234" || got.Label != "ESP" || got.bits != 32 {
		t.Errorf("%+v", got.About)
	}
	if list, err := got.ReadDir("."); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	compareUsed(t, got, f.Name())
}

func TestOpenRefuses(t *testing.T) {
	for name, image := range map[string][]byte{"empty": nil, "short": make([]byte, 300), "zeros": make([]byte, 1<<20)} {
		if _, err := Open(bytes.NewReader(image), int64(len(image))); !errors.Is(err, ErrNotFAT) {
			t.Errorf("%s: %v", name, err)
		}
	}
	whole, err := os.ReadFile(makeImage(t, "1440"))
	peer.Must(t, err)
	if _, err := Open(bytes.NewReader(whole[:1<<20]), 1<<20); !errors.Is(err, filesystem.ErrCorrupt) || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("cut short: %v", err)
	}
	whole[16] = 0 // NTFS has no FATs
	if _, err := Open(bytes.NewReader(whole), int64(len(whole))); !errors.Is(err, ErrNotFAT) {
		t.Errorf("without a FAT: %v", err)
	}
}

// A FAT32 may have fewer clusters than the specification says, as mkfs.vfat and
// the kernel take it.
func TestASmallFAT32(t *testing.T) {
	image := makeImage(t, "-F 32 16384")
	f := openImage(t, image)
	if f.bits != 32 || f.Label != "BOOT DISK" {
		t.Errorf("it is a FAT%d, %+v", f.bits, f.About)
	}
	compareUsed(t, f, image)
}

// small is a floppy with a file of some clusters, where its entry lies, and its
// first cluster.
func small(t testing.TB) (image []byte, entry int) {
	t.Helper()
	path := makeImage(t, "1440")
	dir := t.TempDir()
	peer.Must(t, os.WriteFile(filepath.Join(dir, "FILE"), bytes.Repeat([]byte("0123456789abcdef"), 500), 0o644))
	mtools(t, "mcopy", path, filepath.Join(dir, "FILE"), "::FILE")
	mtools(t, "mmd", path, "::DIR", "::DIR/a long name of a directory")
	mtools(t, "mcopy", path, filepath.Join(dir, "FILE"), "::DIR/another file")
	image, err := os.ReadFile(path)
	peer.Must(t, err)
	return image, bytes.Index(image, []byte("FILE       "))
}

func TestChainsThatAreWrong(t *testing.T) {
	image, entry := small(t)
	// The entries of clusters 2 and 3 are three bytes of each FAT.
	for what, test := range map[string]struct {
		break1, break2 bool // the FATs
		three          [3]byte
		size           uint32
		want           string
	}{
		"a circle":             {true, true, [3]byte{0x03, 0x20, 0x00}, 8000, "circle"},
		"a circle of one":      {true, true, [3]byte{0x02, 0x20, 0x00}, 1 << 30, "circle"},
		"a free cluster":       {true, true, [3]byte{0x03, 0x00, 0x00}, 8000, "cluster 3 is followed by 0"},
		"one beyond":           {true, true, [3]byte{0x03, 0xf0, 0xef}, 8000, "cluster 3 is followed by 3839"},
		"the end is too early": {true, true, [3]byte{0x03, 0xf0, 0xff}, 8000, "has clusters for 1024"},
		"the first FAT only":   {true, false, [3]byte{0x03, 0x00, 0x00}, 8000, ""},
		"the second FAT only":  {false, true, [3]byte{0x03, 0x00, 0x00}, 8000, ""},
		"a size beyond":        {false, false, [3]byte{}, 1 << 31, "has clusters for 8192"},
	} {
		broken := bytes.Clone(image)
		if test.break1 {
			copy(broken[512+3:], test.three[:])
		}
		if test.break2 {
			copy(broken[512+9*512+3:], test.three[:])
		}
		broken[entry+28], broken[entry+29], broken[entry+30], broken[entry+31] = byte(test.size), byte(test.size>>8), byte(test.size>>16), byte(test.size>>24)
		f, err := Open(bytes.NewReader(broken), int64(len(broken)))
		peer.Must(t, err)
		file, err := f.OpenFile("FILE")
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", what, err)
		case test.want == "":
			p, err := io.ReadAll(file)
			if err != nil || !bytes.Equal(p, bytes.Repeat([]byte("0123456789abcdef"), 500)) {
				t.Errorf("%s: %d bytes, %v", what, len(p), err)
			}
		case !errors.Is(err, filesystem.ErrCorrupt) || !strings.Contains(err.Error(), test.want):
			t.Errorf("%s: %v, want %s", what, err, test.want)
		}
	}
}

func TestADirectoryInItself(t *testing.T) {
	image, _ := small(t)
	at := bytes.Index(image, []byte("DIR        "))
	inner := bytes.Index(image, []byte("ALONGN~1   "))
	copy(image[inner+26:], image[at+26:][:2]) // the inner one is the outer
	f, err := Open(bytes.NewReader(image), int64(len(image)))
	peer.Must(t, err)
	if err := f.Walk(func(string, *filesystem.Entry) error { return nil }); !errors.Is(err, filesystem.ErrCorrupt) || !strings.Contains(err.Error(), "two directories") {
		t.Error(err)
	}
}

// readAll reads everything in an image.
func readAll(image []byte) { readertest.ReadImage(image, Open, "dir/another FILE") }

func TestCorruptImagesEndInErrors(t *testing.T) {
	image, _ := small(t)
	random := rand.New(rand.NewSource(3))
	for range 1000 {
		broken := bytes.Clone(image)
		for range 1 + random.Intn(20) {
			at := random.Intn(40 << 9) // boot sector, FATs, root directory
			if random.Intn(3) == 0 {
				at = random.Intn(62)
			}
			broken[at] ^= 1 << random.Intn(8)
		}
		readAll(broken)
	}
}

func FuzzOpen(f *testing.F) {
	if _, err := exec.LookPath("mkfs.vfat"); err != nil {
		f.Skip("mkfs.vfat is not installed")
	}
	image, _ := small(f)
	f.Add(image[:64], uint(515), []byte{1, 2, 3, 4})
	f.Add(image[:62], uint(19<<9), []byte("A\xff\xff"))
	f.Fuzz(func(t *testing.T, boot []byte, at uint, patch []byte) {
		broken := bytes.Clone(image)
		copy(broken[:510], boot)
		copy(broken[at%uint(len(broken)):], patch)
		readAll(broken)
	})
}
