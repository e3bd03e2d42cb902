package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"herdbook/internal/filesystem"
	"herdbook/internal/filesystem/readertest"
	"herdbook/internal/peer"

	"golang.org/x/sys/unix"
)

// fixture makes a tree with everything that a file system can hold and an
// ordinary user, or root, can make.
func fixture(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	readertest.Plant(t, dir)
	random := rand.New(rand.NewSource(2))
	bytesOf := func(n int) []byte { p := make([]byte, n); random.Read(p); return p }
	readertest.Write(t, dir, map[string][]byte{
		"sixty": bytesOf(60), "sixty-one": bytesOf(61), "hundred": bytesOf(100),
		"holes/between": bytes.Join([][]byte{bytesOf(8192), make([]byte, 200000), bytesOf(8192), make([]byte, 100000), bytesOf(3)}, nil),
	})
	peer.Must(t, os.MkdirAll(filepath.Join(dir, "many"), 0o755))
	for i := range 700 {
		peer.Must(t, os.WriteFile(filepath.Join(dir, "many", fmt.Sprintf("file-with-a-rather-long-name-%05d", i)), nil, 0o600))
	}
	peer.Must(t, os.Symlink("/etc/os-release", filepath.Join(dir, "absolute")))
	peer.Must(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	peer.Must(t, os.Symlink("../../../../../etc", filepath.Join(dir, "deep/above")))
	if err := unix.Setxattr(filepath.Join(dir, "block"), "user.note", []byte("in the inode"), 0); err == nil {
		peer.Must(t, unix.Setxattr(filepath.Join(dir, "block"), "user.long", bytesOf(900), 0))
	}
	when := time.Date(1999, 2, 1, 3, 4, 5, 678901000, time.UTC)
	peer.Must(t, os.Chtimes(filepath.Join(dir, "tiny"), when, when))
	return dir
}

// variants are mke2fs options: the defaults of Debian 11 to 13, and all else.
var variants = map[string]string{
	"debian11":      "-t ext4 -O metadata_csum,64bit",
	"debian13":      "-t ext4 -O metadata_csum,64bit,metadata_csum_seed,orphan_file",
	"no-csum":       "-t ext4 -O ^metadata_csum",
	"uninit_bg":     "-t ext4 -O ^metadata_csum,uninit_bg",
	"no-extent":     "-t ext4 -O ^extent,^64bit",
	"no-64bit":      "-t ext4 -O ^64bit",
	"inline_data":   "-t ext4 -O inline_data",
	"1k":            "-t ext4 -b 1024",
	"2k-no-flex":    "-t ext4 -b 2048 -O ^flex_bg",
	"64k":           "-t ext4 -b 65536",
	"ext2":          "-t ext2",
	"ext2-1k":       "-t ext2 -b 1024",
	"ext3":          "-t ext3",
	"bigalloc":      "-t ext4 -O bigalloc -C 65536",
	"meta_bg":       "-t ext4 -b 1024 -O meta_bg,^resize_inode",
	"small-inode":   "-t ext4 -I 128 -O ^metadata_csum",
	"large-inode":   "-t ext4 -I 1024",
	"ea_inode":      "-t ext4 -O ea_inode",
	"sparse_super2": "-t ext4 -O sparse_super2,^resize_inode",
	"no-sparse":     "-t ext3 -O ^sparse_super,^resize_inode",
	"no-dir_index":  "-t ext4 -O ^dir_index",
	"large_dir":     "-t ext4 -O large_dir",
	"no-filetype":   "-t ext3 -O ^filetype",
	"no-journal":    "-t ext4 -O ^has_journal",
}

func makeImage(t testing.TB, tree, options, size string) string {
	t.Helper()
	peer.NeedTool(t, "mke2fs")
	path := filepath.Join(t.TempDir(), "image")
	args := append([]string{"-q", "-F"}, strings.Fields(options)...)
	if tree != "" {
		args = append(args, "-d", tree)
	}
	peer.Run(t, "mke2fs", append(args, path, size)...)
	return path
}

func openImage(t testing.TB, path string) *FS {
	t.Helper()
	f, err := Open(readertest.File(t, path))
	peer.Must(t, err)
	return f
}

func TestEveryFileOfEveryVariant(t *testing.T) {
	tree := fixture(t)
	plain := t.TempDir() // mke2fs -d writes inodes with inline_data wrongly that are mostly zeros
	peer.Run(t, "cp", "-a", tree+"/.", plain)
	peer.Must(t, os.Remove(filepath.Join(plain, "zeros")))
	peer.Must(t, os.RemoveAll(filepath.Join(plain, "holes")))
	for name, options := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := tree
			if name == "inline_data" {
				tree = plain
			}
			path := makeImage(t, tree, options, "200M")
			compareTree(t, openImage(t, path), tree)
			compareUsed(t, openImage(t, path), path)
		})
	}
}

// compareTree compares a file system with the tree that mke2fs made it of.
func compareTree(t *testing.T, f *FS, tree string) {
	t.Helper()
	readertest.Comparison{
		Own: "lost+found",
		Fields: func(name string, fields readertest.Fields) {
			fields.Delete("number", "read", "changed", "made")
			if fields["mode"].Want&filesystem.ModeType == filesystem.ModeDir {
				fields.Delete("size", "links")
			}
			// mke2fs before 1.48 keeps whole seconds only, and small inodes 31 bits of them.
			modified := fields["modified"]
			fields["modified"] = readertest.Field{Got: modified.Got / 1e9, Want: modified.Want / 1e9}
			if f.inodeSize == 128 || name == "." {
				fields.Delete("modified")
			}
		},
		Attributes: func(got, want map[string][]byte) {
			if f.inodeSize == 128 && len(got) == 0 { // mke2fs leaves them out
				clear(want)
			}
		},
	}.Tree(t, f.FS, tree)
}

// compareUsed compares the map of used blocks with what dumpe2fs counts.
func compareUsed(t *testing.T, f *FS, path string) {
	t.Helper()
	peer.NeedTool(t, "dumpe2fs")
	free := int64(-1)
	for line := range strings.Lines(peer.Run(t, "dumpe2fs", "-h", path)) {
		if rest, ok := strings.CutPrefix(line, "Free blocks:"); ok {
			fmt.Sscan(rest, &free)
		}
	}
	_, used := readertest.UsedRanges(t, f.UsedRanges)
	if got := (f.Size - used) / f.block; got != free {
		t.Errorf("%d free blocks, dumpe2fs counts %d", got, free)
	}
	if f.Used != f.Size-free*f.block {
		t.Errorf("it says that %d bytes of %d are in use, dumpe2fs counts %d free blocks", f.Used, f.Size, free)
	}
}

func TestLinksStayInside(t *testing.T) {
	f := openImage(t, makeImage(t, fixture(t), "-t ext4", "200M"))
	for _, name := range []string{"absolute", "deep/short", "deep/above/os-release"} {
		got, err := fs.ReadFile(f, name)
		if err != nil || string(got) != "ID=debian\n" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := f.Open("loop"); err == nil || !strings.Contains(err.Error(), "too many symbolic links") {
		t.Errorf("a loop of links: %v", err)
	}
	for _, name := range []string{"dangling", "nothing", "tiny/below"} {
		if _, err := f.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"/etc", "../etc", "etc/", ""} {
		if _, err := f.Open(name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Open(%q): %v", name, err)
		}
	}
}

func TestItIsAnFS(t *testing.T) {
	tree := t.TempDir()
	peer.Must(t, os.MkdirAll(filepath.Join(tree, "a/b"), 0o755))
	peer.Must(t, os.WriteFile(filepath.Join(tree, "a/b/c"), []byte("content"), 0o644))
	peer.Must(t, os.WriteFile(filepath.Join(tree, "d"), bytes.Repeat([]byte("x"), 10000), 0o644))
	f := openImage(t, makeImage(t, tree, "-t ext4", "8M"))
	if err := fstest.TestFS(f, "a/b/c", "d"); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, image := range map[string][]byte{"empty": nil, "short": make([]byte, 1500), "zeros": make([]byte, 1<<20)} {
		if _, err := Open(bytes.NewReader(image), int64(len(image))); !errors.Is(err, ErrNotExt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	whole, err := os.ReadFile(makeImage(t, "", "-t ext4 -b 1024", "4M"))
	peer.Must(t, err)
	if _, err := Open(bytes.NewReader(whole[:2<<20]), 2<<20); !errors.Is(err, filesystem.ErrCorrupt) || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("cut short: %v", err)
	}
	broken := bytes.Clone(whole)
	broken[1024+0x18] ^= 1
	if _, err := Open(bytes.NewReader(broken), int64(len(broken))); !errors.Is(err, filesystem.ErrCorrupt) {
		t.Errorf("changed superblock: %v", err)
	}
}
