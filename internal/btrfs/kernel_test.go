package btrfs

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
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/filesystem"
	"herdbook/internal/peer"
)

// makeImage makes an empty file system of 256 MiB. Its UUID is one of its own: the
// kernel takes two that are the same for one file system.
func makeImage(t testing.TB, options string) string {
	t.Helper()
	peer.NeedTool(t, "mkfs.btrfs", "btrfs")
	path := filepath.Join(t.TempDir(), "image")
	peer.Must(t, os.WriteFile(path, nil, 0o644))
	peer.Must(t, os.Truncate(path, 256<<20))
	peer.Run(t, "mkfs.btrfs", append(append([]string{"-q", "-L", "a label"}, strings.Fields(options)...), path)...)
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
	peer.Must(t, err)
	return f
}

// mount lets the kernel mount an image, for this test alone.
func mount(t testing.TB, image string, options ...string) string {
	t.Helper()
	peer.NeedRoot(t, "mounting")
	peer.OwnMounts(t)
	dir := t.TempDir()
	// mount(8) is run by this thread, and so in its namespace.
	peer.Run(t, "mount", "-t", "btrfs", "-o", strings.Join(append([]string{"loop"}, options...), ","), image, dir)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Error(err)
		}
	})
	return dir
}

// text is bytes that can be compressed, and are not all the same.
func text(random *rand.Rand, n int) []byte {
	words := strings.Fields("herd book cow calf bull pasture meadow stable hay straw milk cheese butter brand ear tag")
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "%s %d ", words[random.Intn(len(words))], random.Intn(1000))
	}
	return b.Bytes()[:n]
}

// populate writes one of everything below a directory of a mounted file system.
func populate(t testing.TB, dir string) {
	t.Helper()
	random := rand.New(rand.NewSource(1))
	noise := func(n int) []byte { p := make([]byte, n); random.Read(p); return p }
	for name, content := range map[string][]byte{
		"empty": nil, "tiny": []byte("a"), "inline": noise(1500), "inline-text": text(random, 2000), "edge": text(random, 4096), "odd": noise(70001),
		"large": noise(5 << 20), "large-text": text(random, 3<<20+77), "zeros": make([]byte, 300000), "deep/er/and/deeper/file": []byte("down here"),
		strings.Repeat("n", 255): []byte("long"), "holes/in-front": append(make([]byte, 1<<20), noise(5000)...),
		"mixed": bytes.Join([][]byte{text(random, 200000), noise(200000), text(random, 200000), make([]byte, 200000)}, nil), "ünï/čödé": []byte("utf-8"),
	} {
		peer.Must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		peer.Must(t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
	}
	sparse, err := os.Create(filepath.Join(dir, "holes/sparse"))
	peer.Must(t, err)
	for _, off := range []int64{0, 1 << 20, 20<<20 + 123} {
		_, err := sparse.WriteAt(noise(4096), off)
		peer.Must(t, err)
	}
	peer.Must(t, sparse.Truncate(21<<20))
	peer.Must(t, unix.Fallocate(int(sparse.Fd()), 0, 5<<20, 1<<20))                                                     // reserved, never written
	peer.Must(t, unix.Fallocate(int(sparse.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1<<20+100, 1000)) // in one block
	peer.Must(t, unix.Fallocate(int(sparse.Fd()), unix.FALLOC_FL_KEEP_SIZE, 30<<20, 1<<20))                             // behind the end
	peer.Must(t, sparse.Close())
	grown, err := os.Create(filepath.Join(dir, "inline-and-grown"))
	peer.Must(t, err)
	_, err = grown.WriteString("inline")
	peer.Must(t, errors.Join(err, grown.Sync(), grown.Truncate(9000), grown.Close()))
	rewrite(t, filepath.Join(dir, "large-text"), random)
	peer.Must(t, os.Mkdir(filepath.Join(dir, "many"), 0o755))
	for i := range 1200 {
		peer.Must(t, os.WriteFile(filepath.Join(dir, "many", fmt.Sprintf("file-with-a-rather-long-name-%05d", i)), text(random, i%300), 0o600))
	}
	peer.Must(t, os.Mkdir(filepath.Join(dir, "collisions"), 0o755))
	for _, name := range collisions() {
		peer.Must(t, os.WriteFile(filepath.Join(dir, "collisions", name), []byte(name), 0o644))
	}
	special(t, dir)
}

// rewrite writes into the middle of a file, so that parts of its extents remain.
func rewrite(t testing.TB, name string, random *rand.Rand) {
	t.Helper()
	peer.Run(t, "cp", "--reflink=always", name, name+"-copied")
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	peer.Must(t, err)
	for range 8 {
		_, err := f.WriteAt(text(random, 1+random.Intn(20000)), random.Int63n(3<<20))
		peer.Must(t, err)
		peer.Must(t, f.Sync())
	}
	peer.Must(t, f.Close())
}

// collisions are names of which each two have the same hash.
var collisions = sync.OnceValue(func() (names []string) {
	seen := map[uint64]string{}
	for i := 0; len(names) < 40; i++ {
		name := fmt.Sprintf("name-%07x", i*2654435761%(1<<28))
		hash := nameHash(name)
		if other, ok := seen[hash]; ok {
			names = append(names, name, other)
		}
		seen[hash] = name
	}
	return names
})

func special(t testing.TB, dir string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	peer.Must(t, os.Symlink("deep/er", at("link")))
	peer.Must(t, os.Symlink("/"+strings.Repeat("long/", 40)+"end", at("dangling")))
	peer.Must(t, os.Link(at("odd"), at("deep/hardlink")))
	peer.Must(t, os.WriteFile(at("setuid"), []byte("x"), 0o755))
	peer.Must(t, os.Chmod(at("setuid"), 0o755|fs.ModeSetuid|fs.ModeSetgid))
	peer.Must(t, os.Mkdir(at("sticky"), 0o777))
	peer.Must(t, os.Chmod(at("sticky"), 0o777|fs.ModeSticky))
	peer.Must(t, syscall.Mkfifo(at("pipe"), 0o640))
	peer.Must(t, os.Chown(at("tiny"), 70000, 80000))
	peer.Must(t, syscall.Mknod(at("null"), syscall.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	peer.Must(t, syscall.Mknod(at("nvme"), syscall.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
	peer.Must(t, unix.Setxattr(at("odd"), "security.capability", []byte{1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0))
	for i := range 40 {
		peer.Must(t, unix.Setxattr(at("inline"), fmt.Sprintf("user.note-%d", i), bytes.Repeat([]byte{byte(i)}, i*40), 0))
	}
	acl := []byte{2, 0, 0, 0, 1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, 0x10, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, 0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}
	if err := unix.Setxattr(at("edge"), "system.posix_acl_access", acl, 0); !errors.Is(err, unix.EOPNOTSUPP) {
		peer.Must(t, err)
	}
	when := time.Date(1969, 2, 1, 3, 4, 5, 678901234, time.UTC)
	peer.Must(t, os.Chtimes(at("tiny"), when, when.AddDate(500, 0, 0)))
}

// compare holds every file below a directory that the kernel has mounted against
// what is read.
func compare(t *testing.T, f *FS, dir string) {
	t.Helper()
	found := map[string]bool{}
	peer.Must(t, f.Walk(func(name string, e *filesystem.Entry) error {
		found[name] = true
		compareFile(t, e, name, filepath.Join(dir, name))
		if again, err := f.Entry(name); err != nil {
			t.Errorf("%s is not found by its name: %v", name, err)
		} else if a, err := again.Stat(); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if b, err := e.Stat(); err != nil || *a != *b {
			t.Errorf("%s is found as another by its name: %v", name, err)
		}
		return nil
	}))
	peer.Must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(dir, path); !found[name] {
			t.Errorf("%s is not found", name)
		}
		return err
	}))
}

func compareFile(t *testing.T, e *filesystem.Entry, name, path string) {
	t.Helper()
	var want unix.Stat_t
	peer.Must(t, unix.Lstat(path, &want))
	got, err := e.Stat()
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	object := got.Ino & (1<<numberBits - 1)
	fields := map[string][2]int64{
		"mode": {int64(got.Mode), int64(want.Mode)}, "owner": {int64(got.UID), int64(want.Uid)}, "group": {int64(got.GID), int64(want.Gid)},
	}
	if want.Ino != 2 { // an empty directory in the place of a subvolume has no times
		fields["number"] = [2]int64{int64(object), int64(want.Ino)}
		fields["links"] = [2]int64{int64(got.Nlink), int64(want.Nlink)}
		fields["modified"] = [2]int64{got.Mtime.UnixNano(), unix.TimespecToNsec(want.Mtim)}
		fields["changed"] = [2]int64{got.Ctime.UnixNano(), unix.TimespecToNsec(want.Ctim)}
		fields["read"] = [2]int64{got.Atime.UnixNano(), unix.TimespecToNsec(want.Atim)}
		fields["size"] = [2]int64{got.Size, want.Size}
		fields["device"] = [2]int64{int64(unix.Mkdev(got.Major, got.Minor)), int64(want.Rdev)}
	}
	for what, is := range fields {
		if is[0] != is[1] {
			t.Errorf("%s: %s %d, the kernel says %d", name, what, is[0], is[1])
		}
	}
	switch {
	case e.Type().IsRegular():
		compareContent(t, e, name, path)
	case e.Type()&fs.ModeSymlink != 0:
		a, err1 := e.ReadLink()
		b, err2 := os.Readlink(path)
		if a != b || err1 != nil || err2 != nil {
			t.Errorf("%s: link to %q, want %q (%v)", name, a, b, err1)
		}
	}
	compareXattrs(t, e, name, path)
}

func compareContent(t *testing.T, e *filesystem.Entry, name, path string) {
	t.Helper()
	file, err := e.Open()
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	want, err := os.ReadFile(path)
	peer.Must(t, err)
	// In pieces that begin and end anywhere.
	got, err := io.ReadAll(io.NewSectionReader(file, 0, int64(len(want))+1))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, not the %d of the kernel: %v", name, len(got), len(want), err)
	}
	for off := int64(0); off < int64(len(want)); off += 123457 {
		p := make([]byte, min(9999, int64(len(want))-off))
		if n, err := file.ReadAt(p, off); n != len(p) || err != nil && err != io.EOF || !bytes.Equal(p, want[off:][:n]) {
			t.Errorf("%s: %d bytes at %d, not the kernel's: %v", name, n, off, err)
		}
	}
	compareHoles(t, file, name, want)
}

// compareHoles makes sure that all data of the kernel is in ours, and that what
// ours says is a hole is zeros.
func compareHoles(t *testing.T, ours *filesystem.File, name string, source []byte) {
	t.Helper()
	last := int64(0)
	peer.Must(t, ours.Data(func(start, length int64) error {
		if start < last || length <= 0 || start+length > int64(len(source)) {
			t.Errorf("%s: a run %d+%d behind %d of %d", name, start, length, last, len(source))
			return nil
		}
		if len(bytes.Trim(source[last:start], "\x00")) > 0 {
			t.Errorf("%s: there are data in the hole %d-%d", name, last, start)
		}
		last = start + length
		return nil
	}))
	if len(bytes.Trim(source[min(last, int64(len(source))):], "\x00")) > 0 {
		t.Errorf("%s: there are data behind %d", name, last)
	}
	if strings.HasSuffix(name, "holes/sparse") && last > 20<<20+1<<16 {
		t.Errorf("%s: it has no hole at its end", name)
	}
}

func compareXattrs(t *testing.T, e *filesystem.Entry, name, path string) {
	t.Helper()
	got, err := e.Xattrs()
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, list)
	peer.Must(t, err)
	count := 0
	for _, attr := range strings.Split(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if attr == "" {
			continue
		}
		count++
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, attr, value)
		peer.Must(t, err)
		if !bytes.Equal(got[attr], value[:n]) {
			t.Errorf("%s: attribute %s = %x, want %x", name, attr, got[attr], value[:n])
		}
	}
	if count != len(got) {
		t.Errorf("%s: %d attributes, the kernel has %d", name, len(got), count)
	}
}

// What the kernel sees is the truth: every file, time, attribute and hole.
func TestTheKernelSeesTheSame(t *testing.T) {
	for name, c := range map[string]struct{ mkfs, mount string }{
		"plain":  {"", ""},
		"zlib":   {"-n 4096 --csum sha256", "compress-force=zlib"},
		"lzo":    {"--csum blake2", "max_inline=2048,compress-force=lzo"},
		"zstd":   {"-n 65536 --csum xxhash64", "compress-force=zstd:15"},
		"mixed":  {"--mixed", "compress=zstd"},
		"single": {"-m single -d single -O ^no-holes,^skinny-metadata", "compress=lzo"},
		"dup":    {"-m dup -d dup -R ^free-space-tree", "nodatacow"},
	} {
		t.Run(name, func(t *testing.T) {
			image := makeImage(t, c.mkfs)
			dir := mount(t, image, strings.FieldsFunc(c.mount, func(r rune) bool { return r == ',' })...)
			populate(t, dir)
			peer.Must(t, unix.Unmount(dir, 0))
			f := openImage(t, image)
			if uuid := strings.TrimSpace(peer.Run(t, "blkid", "-p", "-o", "value", "-s", "UUID", image)); f.Kind != "btrfs" || f.UUID != uuid || f.Label != "a label" || f.Size != 256<<20 {
				t.Errorf("it says %+v", f.About)
			}
			compare(t, f, mount(t, image, "ro"))
		})
	}
}

// Subvolumes are directories, snapshots have empty ones where subvolumes were, and
// each can be opened by itself.
func TestSubvolumes(t *testing.T) {
	image := makeImage(t, "")
	dir := mount(t, image)
	at := func(name string) string { return filepath.Join(dir, name) }
	peer.Must(t, os.Mkdir(at("a directory"), 0o755))
	for _, name := range []string{"root", "home", "a directory/deep", "root/nested", "root/nested/twice"} {
		peer.Run(t, "btrfs", "subvolume", "create", at(name))
		peer.Must(t, os.WriteFile(at(name+"/file"), []byte(name), 0o644))
	}
	peer.Run(t, "btrfs", "subvolume", "snapshot", at("root"), at("snapshot"))
	peer.Must(t, os.WriteFile(at("root/file"), []byte("changed"), 0o644))
	peer.Run(t, "btrfs", "subvolume", "snapshot", "-r", at("root"), at("root/nested/of itself"))
	peer.Run(t, "btrfs", "subvolume", "create", at("deleted"))
	peer.Run(t, "btrfs", "subvolume", "delete", at("deleted"))
	peer.Run(t, "btrfs", "subvolume", "set-default", at("root"))
	id := strings.Fields(peer.Run(t, "btrfs", "subvolume", "get-default", dir))[1]
	peer.Must(t, unix.Unmount(dir, 0))

	f := openImage(t, image)
	if fmt.Sprint(f.ID) != id {
		t.Errorf("the default subvolume is %d, want %s", f.ID, id)
	}
	compare(t, f, mount(t, image, "ro"))
	for name, options := range map[string]string{"/": "subvolid=5", "root": "subvol=root", "/home": "subvol=/home", "a directory/deep": "subvol=a directory/deep", "snapshot": "subvol=snapshot", "root/nested/of itself/": "subvol=root/nested/of itself"} {
		sub, err := f.Subvolume(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		compare(t, sub, mount(t, image, "ro", options))
		if again, err := f.SubvolumeID(sub.ID); err != nil || again.ID != sub.ID {
			t.Errorf("%s by its number: %v", name, err)
		}
	}
	for _, name := range []string{"nothing", "a directory", "deleted", "root/file", "snapshot/nested"} {
		if _, err := f.Subvolume(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, id := range []uint64{2, 7, 1000, 1<<64 - 9} {
		if _, err := f.SubvolumeID(id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%d: %v", id, err)
		}
	}
	if top, err := f.SubvolumeID(0); err != nil || top.ID != 5 {
		t.Error(err)
	}
}

// Whatever lies between the used ranges can be overwritten, and nobody notices.
func TestUsedRanges(t *testing.T) {
	for name, options := range map[string]string{"mixed": "--mixed -n 4096", "dup": "-d dup", "old": "-O ^skinny-metadata"} {
		t.Run(name, func(t *testing.T) {
			image := makeImage(t, options)
			dir := mount(t, image)
			populate(t, dir)
			peer.Must(t, os.RemoveAll(filepath.Join(dir, "deep")))
			peer.Must(t, os.Remove(filepath.Join(dir, "large")))
			peer.Must(t, unix.Unmount(dir, 0))
			f := openImage(t, image)
			out, err := os.OpenFile(image, os.O_RDWR, 0)
			peer.Must(t, err)
			defer out.Close()
			last, used := int64(0), int64(0)
			garbage := func(end int64) {
				_, err := out.WriteAt(bytes.Repeat([]byte{0xEE}, int(end-last)), last)
				peer.Must(t, err)
			}
			peer.Must(t, f.UsedRanges(func(start, length int64) error {
				if start < last || start == last && last > 0 || length <= 0 {
					t.Errorf("the range %d+%d follows one that ends at %d", start, length, last)
				}
				garbage(start)
				last, used = start+length, used+length
				return nil
			}))
			garbage(f.Size)
			// Copies and superblocks come on top of what the file system counts.
			if used > 80<<20 || used < f.Used || used > 2*f.Used+2<<20 {
				t.Errorf("%d bytes are in the ranges, %d are said to be used", used, f.Used)
			}
			peer.Run(t, "btrfs", "check", "--check-data-csum", image)
			compare(t, openImage(t, image), mount(t, image, "ro"))
		})
	}
}

// A machine that was cut off leaves a log, which only the kernel replays.
func TestALogIsRefused(t *testing.T) {
	image := makeImage(t, "")
	dir := mount(t, image, "commit=1000")
	peer.Run(t, "sync", "-f", dir)
	f, err := os.Create(filepath.Join(dir, "synced"))
	peer.Must(t, err)
	_, err = f.WriteString("content")
	peer.Must(t, errors.Join(err, f.Sync(), f.Close()))
	cut := filepath.Join(t.TempDir(), "cut")
	peer.Run(t, "cp", "--sparse=always", image, cut)
	r, err := os.Open(cut)
	peer.Must(t, err)
	defer r.Close()
	if _, err := Open(r, 256<<20); !errors.Is(err, ErrDirty) {
		t.Errorf("%v", err)
	}
	peer.Must(t, unix.Unmount(dir, 0))
	if got, err := openImage(t, image).ReadFile("synced"); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
}
