package btrfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/filesystem/readertest"
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
	f, err := Open(readertest.File(t, path))
	peer.Must(t, err)
	return f
}

// mount lets the kernel mount an image, for this test alone.
func mount(t testing.TB, image string, options ...string) string {
	t.Helper()
	return readertest.Mount(t, "btrfs", image, options...)
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
	readertest.Plant(t, dir)
	readertest.Write(t, dir, map[string][]byte{
		"inline": noise(1500), "inline-text": text(random, 2000), "edge": text(random, 4096), "large-text": text(random, 3<<20+77),
		"mixed": bytes.Join([][]byte{text(random, 200000), noise(200000), text(random, 200000), make([]byte, 200000)}, nil),
	})
	sparse, err := os.OpenFile(filepath.Join(dir, "holes/sparse"), os.O_WRONLY, 0)
	peer.Must(t, err)
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
	readertest.Comparison{Fields: func(_ string, fields readertest.Fields) {
		number := fields["number"]
		number.Got &= 1<<numberBits - 1
		fields["number"] = number
		if number.Want == 2 { // an empty directory in the place of a subvolume has no times
			fields.Delete("number", "links", "modified", "changed", "read", "made", "size", "major", "minor")
		}
	}}.Tree(t, f.FS, dir)
}

// compareSparse makes sure that a hole is one.
func compareSparse(t *testing.T, f *FS) {
	t.Helper()
	file, err := f.OpenFile("holes/sparse")
	peer.Must(t, err)
	last := int64(0)
	peer.Must(t, file.Data(func(start, length int64) error {
		last = start + length
		return nil
	}))
	if last > 20<<20+1<<16 {
		t.Error("holes/sparse has no hole at its end")
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
			compareSparse(t, f)
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
			last := int64(0)
			garbage := func(end int64) {
				_, err := out.WriteAt(bytes.Repeat([]byte{0xEE}, int(end-last)), last)
				peer.Must(t, err)
			}
			ranges, used := readertest.UsedRanges(t, f.UsedRanges)
			for _, r := range ranges {
				garbage(r.Start)
				last = r.End
			}
			garbage(f.Size)
			// Copies and superblocks come on top of what the file system counts.
			if used > 80<<20 || used < f.Used || used > 2*f.Used+2<<20 {
				t.Errorf("%d bytes are in the ranges, %d are said to be used", used, f.Used)
			}
			peer.Run(t, "btrfs", "check", "--check-data-csum", image)
			f = openImage(t, image)
			compare(t, f, mount(t, image, "ro"))
			compareSparse(t, f)
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
	if _, err := Open(readertest.File(t, readertest.CutOff(t, image))); !errors.Is(err, ErrDirty) {
		t.Errorf("%v", err)
	}
	peer.Must(t, unix.Unmount(dir, 0))
	if got, err := openImage(t, image).ReadFile("synced"); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
}
