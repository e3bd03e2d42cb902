package iso

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"herdbook/internal/peer"
)

// plant makes a tree with what discs are full of.
func plant(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"empty": "", "small": "x", ".disk/info": "Ubuntu-Server 24.04\n", "casper/vmlinuz": strings.Repeat("kernel", 5000),
		"a/b/c/d/e/f/g/h/deep": "deep", "with space and ünïcode": "u", strings.Repeat("long", 50): "l",
		"UPPER.TXT": "U", "two.dots.tar.gz": "d",
	} {
		peer.Must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		peer.Must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	for n := range 300 { // a directory of many sectors
		peer.Must(t, os.MkdirAll(filepath.Join(dir, "many"), 0o755))
		peer.Must(t, os.WriteFile(filepath.Join(dir, "many", fmt.Sprintf("file number %d", n)), []byte(fmt.Sprint(n)), 0o600))
	}
	peer.Must(t, os.Symlink("casper/vmlinuz", filepath.Join(dir, "link")))
	peer.Must(t, os.Symlink("../../../small", filepath.Join(dir, "a/b/up")))
	peer.Must(t, os.Symlink("/small", filepath.Join(dir, "a/absolute")))
	peer.Must(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	return dir
}

// master makes a disc with xorriso.
func master(t testing.TB, dir string, options ...string) *FS {
	t.Helper()
	peer.NeedTool(t, "xorriso")
	name := filepath.Join(t.TempDir(), "x.iso")
	peer.Run(t, "xorriso", append(append([]string{"-as", "mkisofs", "-quiet", "-V", "A Disc 1"}, options...), "-o", name, dir)...)
	f, err := os.Open(name)
	peer.Must(t, err)
	t.Cleanup(func() { f.Close() })
	stat, err := f.Stat()
	peer.Must(t, err)
	disc, err := Open(f, stat.Size())
	peer.Must(t, err)
	return disc
}

func TestADiscReadsAsTheTreeThatItWasMadeOf(t *testing.T) {
	dir := plant(t)
	for _, options := range [][]string{{"-R"}, {"-R", "-J"}, {"-r", "-J", "-joliet-long"}} {
		disc := master(t, dir, options...)
		if disc.Volume() != "A Disc 1" {
			t.Errorf("%q: its name is %q", options, disc.Volume())
		}
		if diff := cmp.Diff(tree(t, os.DirFS(dir)), tree(t, disc)); diff != "" {
			t.Errorf("%q: %s", options, diff)
		}
		for name, want := range map[string]string{"link": strings.Repeat("kernel", 5000), "a/b/up": "x", "a/absolute": "x"} {
			if got, err := fs.ReadFile(disc, name); err != nil || string(got) != want {
				t.Errorf("%q: %s: %.20q, %v", options, name, got, err)
			}
		}
		if _, err := fs.ReadFile(disc, "loop"); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q: a link to itself: %v", options, err)
		}
	}
}

// tree describes a tree: what is in each file, and where links lead.
func tree(t *testing.T, f fs.FS) map[string]string {
	t.Helper()
	all := map[string]string{}
	peer.Must(t, fs.WalkDir(f, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			all[name] = "directory"
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			all[name] = "link"
			return nil
		}
		text, err := fs.ReadFile(f, name)
		all[name] = string(text)
		return err
	}))
	return all
}

func TestNamesWithoutRockRidge(t *testing.T) {
	dir := t.TempDir()
	peer.Must(t, os.WriteFile(filepath.Join(dir, "Long Name ü.cfg"), []byte("x"), 0o644))
	joliet := master(t, dir, "--norock", "-J")
	if got, err := fs.ReadFile(joliet, "Long Name ü.cfg"); err != nil || string(got) != "x" {
		t.Errorf("Joliet: %q, %v: %v", got, err, tree(t, joliet))
	}
	plain := master(t, dir, "--norock")
	list, err := fs.ReadDir(plain, ".")
	if err != nil || len(list) != 1 || !strings.HasSuffix(list[0].Name(), ".cfg") || strings.ToLower(list[0].Name()) != list[0].Name() {
		t.Fatalf("plain: %v, %v", list, err)
	}
	if got, err := fs.ReadFile(plain, strings.ToUpper(list[0].Name())); err != nil || string(got) != "x" {
		t.Errorf("plain: %q, %v", got, err)
	}
}

func TestItIsAFileSystem(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b/c"} {
		peer.Must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		peer.Must(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644))
	}
	if err := fstest.TestFS(master(t, dir, "-R"), "a", "b/c"); err != nil {
		t.Error(err)
	}
}

// A file of more than 4 GiB lies in several parts, each with a record.
func TestAFileOfSeveralParts(t *testing.T) {
	first, second := strings.Repeat("a", 3000), strings.Repeat("b", 5000)
	var b bytes.Buffer
	peer.Must(t, Write(&b, "v", []File{{"large", []byte(first)}, {"rest", []byte(second)}, {"other", []byte("c")}}))
	root := b.Bytes()[(firstSector+4)*sector:]
	list, err := records(root[:sector])
	peer.Must(t, err)
	list[2][25] |= flagMore
	disc, err := Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
	peer.Must(t, err)
	if diff := cmp.Diff(map[string]string{".": "directory", "large": first + second, "other": "c"}, tree(t, disc)); diff != "" {
		t.Error(diff)
	}
	file, err := disc.Open("large")
	peer.Must(t, err)
	p := make([]byte, 4)
	if n, err := file.(io.ReaderAt).ReadAt(p, 2998); n != 4 || string(p) != "aabb" || err != nil {
		t.Errorf("%d bytes %q, %v", n, p, err)
	}
}

var seed = []File{{"user-data", []byte("#cloud-config\n")}, {"meta-data", nil}, {"vendor-data", bytes.Repeat([]byte("v"), 5000)}}

// What is written is read by xorriso, by the kernel and by ourselves.
func TestWrite(t *testing.T) {
	var first, again bytes.Buffer
	peer.Must(t, Write(&first, "cidata", seed))
	peer.Must(t, Write(&again, "cidata", seed))
	if !bytes.Equal(first.Bytes(), again.Bytes()) {
		t.Error("the same files make other bytes")
	}
	disc, err := Open(bytes.NewReader(first.Bytes()), int64(first.Len()))
	peer.Must(t, err)
	if disc.Volume() != "cidata" {
		t.Errorf("its name is %q", disc.Volume())
	}
	same(t, "ourselves", disc)
	peer.NeedTool(t, "xorriso")
	name, out := filepath.Join(t.TempDir(), "seed.iso"), filepath.Join(t.TempDir(), "out")
	peer.Must(t, os.WriteFile(name, first.Bytes(), 0o644))
	peer.Run(t, "xorriso", "-osirrox", "on", "-indev", name, "-extract", "/", out)
	same(t, "xorriso", os.DirFS(out))
	for _, bad := range [][]File{{{Name: "a/b"}}, {{Name: ""}}, {{Name: strings.Repeat("x", 101)}}, slices.Repeat([]File{{Name: "x"}}, 11)} {
		if err := Write(&bytes.Buffer{}, "v", bad); err == nil {
			t.Errorf("wrote %d files %.20v", len(bad), bad)
		}
	}
}

// blkid is what finds the seed in a machine that starts.
func TestItsLabelIsFound(t *testing.T) {
	peer.NeedTool(t, "blkid")
	name := filepath.Join(t.TempDir(), "seed.iso")
	f, err := os.Create(name)
	peer.Must(t, err)
	peer.Must(t, errors.Join(Write(f, "cidata", seed), f.Close()))
	if got := peer.Run(t, "blkid", "-p", "-o", "export", name); !strings.Contains(got, "LABEL=cidata\n") || !strings.Contains(got, "TYPE=iso9660\n") {
		t.Errorf("blkid says:\n%s", got)
	}
}

// same checks that a file system has the seed's files and none else.
func same(t *testing.T, who string, f fs.FS) {
	t.Helper()
	list, err := fs.ReadDir(f, ".")
	if err != nil || len(list) != len(seed) {
		t.Errorf("%s sees %v, %v", who, list, err)
	}
	for _, file := range seed {
		if got, err := fs.ReadFile(f, file.Name); err != nil || !bytes.Equal(got, file.Data) {
			t.Errorf("%s reads %.20q in %s: %v", who, got, file.Name, err)
		}
	}
}

// Whatever a disc says, reading it ends, within its bounds and without a panic.
func FuzzOpen(f *testing.F) {
	var b bytes.Buffer
	peer.Must(f, Write(&b, "cidata", seed))
	f.Add(b.Bytes()[firstSector*sector:])
	f.Fuzz(func(t *testing.T, data []byte) {
		p := append(make([]byte, firstSector*sector), data...)
		disc, err := Open(bytes.NewReader(p), int64(len(p)))
		if err != nil {
			return
		}
		files := 0
		// Errors are what is expected here, and a tree without an end is cut.
		_ = fs.WalkDir(disc, ".", func(name string, d fs.DirEntry, err error) error {
			if files++; files > 50 || strings.Count(name, "/") > 5 {
				return fs.SkipAll
			}
			if err != nil || d.IsDir() {
				return nil
			}
			if stat, err := d.Info(); err == nil && stat.Size() < 1<<16 {
				_, _ = fs.ReadFile(disc, name)
			}
			return nil
		})
		_, _ = fs.ReadFile(disc, "user-data")
	})
}
