package ext4

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
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"herdbook/internal/filesystem"
	"herdbook/internal/peer"

	"golang.org/x/sys/unix"
)

// fixture makes a tree with everything that a file system can hold and an
// ordinary user, or root, can make.
func fixture(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	random := rand.New(rand.NewSource(1))
	bytesOf := func(n int) []byte { p := make([]byte, n); random.Read(p); return p }
	for name, content := range map[string][]byte{
		"empty": nil, "tiny": []byte("a"), "sixty": bytesOf(60), "sixty-one": bytesOf(61), "hundred": bytesOf(100),
		"block": bytesOf(4096), "odd": bytesOf(70001), "large": bytesOf(5 << 20),
		"zeros": make([]byte, 300000), "deep/er/and/deeper/file": []byte("down here"),
		"etc/os-release": []byte("ID=debian\n"), strings.Repeat("n", 255): []byte("long"),
		"holes/in-front": append(make([]byte, 1<<20), bytesOf(5000)...),
		"holes/between":  bytes.Join([][]byte{bytesOf(8192), make([]byte, 200000), bytesOf(8192), make([]byte, 100000), bytesOf(3)}, nil),
		"ünï/čödé":       []byte("utf-8"),
	} {
		peer.Must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		peer.Must(t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
	}
	sparse, err := os.Create(filepath.Join(dir, "holes/sparse"))
	peer.Must(t, err)
	for _, off := range []int64{0, 1 << 20, 20 << 20} {
		_, err := sparse.WriteAt(bytesOf(4096), off)
		peer.Must(t, err)
	}
	peer.Must(t, sparse.Truncate(21<<20))
	peer.Must(t, sparse.Close())
	peer.Must(t, os.MkdirAll(filepath.Join(dir, "many"), 0o755))
	for i := range 700 {
		peer.Must(t, os.WriteFile(filepath.Join(dir, "many", fmt.Sprintf("file-with-a-rather-long-name-%05d", i)), nil, 0o600))
	}
	peer.Must(t, os.Symlink("../etc/os-release", filepath.Join(dir, "deep/short")))
	peer.Must(t, os.Symlink("/etc/os-release", filepath.Join(dir, "absolute")))
	peer.Must(t, os.Symlink("/"+strings.Repeat("long/", 40)+"end", filepath.Join(dir, "dangling")))
	peer.Must(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	peer.Must(t, os.Symlink("../../../../../etc", filepath.Join(dir, "deep/above")))
	peer.Must(t, os.Link(filepath.Join(dir, "odd"), filepath.Join(dir, "deep/hardlink")))
	peer.Must(t, os.WriteFile(filepath.Join(dir, "setuid"), []byte("x"), 0o755))
	peer.Must(t, os.Chmod(filepath.Join(dir, "setuid"), 0o755|fs.ModeSetuid|fs.ModeSetgid))
	peer.Must(t, os.Mkdir(filepath.Join(dir, "sticky"), 0o777))
	peer.Must(t, os.Chmod(filepath.Join(dir, "sticky"), 0o777|fs.ModeSticky))
	peer.Must(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o640))
	if os.Getuid() == 0 {
		peer.Must(t, os.Chown(filepath.Join(dir, "tiny"), 70000, 80000))
		peer.Must(t, syscall.Mknod(filepath.Join(dir, "null"), syscall.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		peer.Must(t, syscall.Mknod(filepath.Join(dir, "nvme"), syscall.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
		// A capability, as setcap cap_net_raw+ep writes it.
		peer.Must(t, unix.Setxattr(filepath.Join(dir, "odd"), "security.capability", []byte{1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0))
	}
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
	file, err := os.Open(path)
	peer.Must(t, err)
	t.Cleanup(func() { file.Close() })
	stat, err := file.Stat()
	peer.Must(t, err)
	f, err := Open(file, stat.Size())
	if err != nil {
		t.Fatal(err)
	}
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

// compareTree compares every file of a tree with the file system made of it.
func compareTree(t *testing.T, f *FS, tree string) {
	t.Helper()
	found := map[string]bool{}
	peer.Must(t, f.Walk(func(name string, e *filesystem.Entry) error {
		found[name] = true
		if name == "lost+found" {
			return fs.SkipDir
		}
		compareFile(t, f, e, name, filepath.Join(tree, name))
		return nil
	}))
	peer.Must(t, filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(tree, path)
		if !found[name] {
			t.Errorf("%s is not found", name)
		}
		return err
	}))
}

func compareFile(t *testing.T, f *FS, e *filesystem.Entry, name, path string) {
	t.Helper()
	want, err := os.Lstat(path)
	if err != nil {
		t.Errorf("%s should not be there: %v", name, err)
		return
	}
	got, err := f.Lstat(name)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	w, g := want.Sys().(*syscall.Stat_t), got.Sys().(*filesystem.Stat)
	if got.Mode() != want.Mode() || g.UID != w.Uid || g.GID != w.Gid || !want.IsDir() && got.Size() != want.Size() {
		t.Errorf("%s: %v %d:%d %d bytes, want %v %d:%d %d bytes", name, got.Mode(), g.UID, g.GID, got.Size(), want.Mode(), w.Uid, w.Gid, want.Size())
	}
	// mke2fs before 1.48 keeps whole seconds only, and small inodes 31 bits of them.
	if f.inodeSize > 128 && got.ModTime().Unix() != want.ModTime().Unix() && name != "." {
		t.Errorf("%s: of %v, want %v", name, got.ModTime(), want.ModTime())
	}
	if !want.IsDir() && g.Nlink != uint32(w.Nlink) {
		t.Errorf("%s: %d links, want %d", name, g.Nlink, w.Nlink)
	}
	switch {
	case want.Mode()&fs.ModeSymlink != 0:
		a, err1 := f.ReadLink(name)
		b, err2 := os.Readlink(path)
		if a != b || err1 != nil || err2 != nil {
			t.Errorf("%s: link to %q, want %q (%v)", name, a, b, err1)
		}
	case want.Mode()&fs.ModeDevice != 0:
		if g.Major != unix.Major(w.Rdev) || g.Minor != unix.Minor(w.Rdev) {
			t.Errorf("%s: device %d:%d, want %d:%d", name, g.Major, g.Minor, unix.Major(w.Rdev), unix.Minor(w.Rdev))
		}
	case want.Mode().IsRegular():
		compareContent(t, e, name, path)
	}
	compareXattrs(t, f, name, path)
}

func compareContent(t *testing.T, e *filesystem.Entry, name, path string) {
	t.Helper()
	file, err := e.Open()
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	source, err := os.Open(path)
	peer.Must(t, err)
	defer source.Close()
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); ; off += int64(len(a)) {
		n, err := io.ReadFull(file, a)
		m, _ := io.ReadFull(source, b)
		if n != m || !bytes.Equal(a[:n], b[:n]) {
			t.Errorf("%s: other bytes than the source from %d on", name, off)
			return
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
	}
}

func compareXattrs(t *testing.T, f *FS, name, path string) {
	t.Helper()
	got, err := f.Xattrs(name)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	list := make([]byte, 4096)
	n, err := unix.Llistxattr(path, list)
	if err != nil || f.inodeSize == 128 && len(got) == 0 {
		return
	}
	for _, attr := range strings.Split(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if attr == "" {
			continue
		}
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, attr, value)
		peer.Must(t, err)
		if !bytes.Equal(got[attr], value[:n]) {
			t.Errorf("%s: attribute %s = %x, want %x", name, attr, got[attr], value[:n])
		}
	}
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
	used, last := int64(0), int64(-1)
	peer.Must(t, f.UsedRanges(func(start, length int64) error {
		if start <= last || length <= 0 {
			t.Errorf("the range %d+%d follows one that ends at %d", start, length, last)
		}
		last = start + length - 1
		used += length
		return nil
	}))
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
