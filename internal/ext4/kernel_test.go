package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"herdbook/internal/filesystem/readertest"
	"herdbook/internal/peer"
)

// mount lets the kernel mount an image, for this test alone.
func mount(t *testing.T, image string, options ...string) string {
	t.Helper()
	return readertest.Mount(t, "ext4", image, options...)
}

// What the kernel sees is the truth: every file, time, attribute and hole.
func TestTheKernelSeesTheSame(t *testing.T) {
	for _, options := range []string{"-t ext4 -O metadata_csum,64bit", "-t ext4 -b 1024 -O ^extent,^64bit", "-t ext2"} {
		t.Run(strings.ReplaceAll(options, " ", "_"), func(t *testing.T) {
			image := makeImage(t, fixture(t), options, "200M")
			compareWithKernel(t, openImage(t, image), mount(t, image, "ro"))
		})
	}
}

func compareWithKernel(t *testing.T, f *FS, dir string) {
	t.Helper()
	readertest.Comparison{}.Tree(t, f.FS, dir)
}

// scatter makes files in many pieces, directories of many names, and writes into
// the middle of what is there, as a system of some years has them.
func scatter(t *testing.T, dir string) {
	t.Helper()
	random := rand.New(rand.NewSource(7))
	block := bytes.Repeat([]byte("scattered"), 500)[:4096]
	for i := range 600 {
		peer.Must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("small-%04d", i)), block, 0o644))
	}
	readertest.Sync(t, dir) // or their blocks would not be there to be freed
	for i := 0; i < 600; i += 2 {
		peer.Must(t, os.Remove(filepath.Join(dir, fmt.Sprintf("small-%04d", i))))
	}
	readertest.Sync(t, dir)
	large, err := os.Create(filepath.Join(dir, "pieces"))
	peer.Must(t, err)
	for i := range 1200 {
		// Every other block: an extent each, and a tree of three levels.
		_, err := large.WriteAt(block, int64(i)*8192)
		peer.Must(t, err)
	}
	for range 200 {
		err := unix.Fallocate(int(large.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, random.Int63n(9<<20)&^4095, 4096)
		peer.Must(t, err)
	}
	// Reserved and never written: zeros. Only files with extents have that.
	if err := unix.Fallocate(int(large.Fd()), 0, 30<<20, 1<<20); !errors.Is(err, unix.EOPNOTSUPP) {
		peer.Must(t, err)
	}
	peer.Must(t, large.Close())
	peer.Must(t, os.Mkdir(filepath.Join(dir, "names"), 0o755))
	for i := range 2500 {
		peer.Must(t, os.WriteFile(filepath.Join(dir, "names", fmt.Sprintf("a-name-that-takes-some-room-in-its-directory-%06d", i)), nil, 0o644))
	}
	for i := 0; i < 2500; i += 3 {
		peer.Must(t, os.Remove(filepath.Join(dir, "names", fmt.Sprintf("a-name-that-takes-some-room-in-its-directory-%06d", i))))
	}
	peer.Must(t, os.WriteFile(filepath.Join(dir, "attributes"), nil, 0o644))
	for i := range 12 {
		peer.Must(t, unix.Setxattr(filepath.Join(dir, "attributes"), fmt.Sprintf("user.%d", i), block[:i*5], 0))
	}
}

func TestWhatTheKernelHasScattered(t *testing.T) {
	for _, options := range []string{"-t ext4", "-t ext4 -b 1024", "-t ext3 -O ^extent"} {
		t.Run(strings.ReplaceAll(options, " ", "_"), func(t *testing.T) {
			image := makeImage(t, "", options+" -N 30000", "150M")
			dir := mount(t, image)
			scatter(t, dir)
			peer.Must(t, unix.Unmount(dir, 0))
			compareWithKernel(t, openImage(t, image), mount(t, image, "ro"))
		})
	}
}

// A machine that was cut off leaves a journal that has not been replayed. What
// we read must be what the kernel reads after it has replayed it.
func TestADirtyJournalIsReplayed(t *testing.T) {
	for _, options := range []string{"-t ext4 -O metadata_csum,64bit", "-t ext4 -O ^metadata_csum", "-t ext3 -b 1024"} {
		t.Run(strings.ReplaceAll(options, " ", "_"), func(t *testing.T) {
			image := makeImage(t, "", options, "100M")
			// Only the journal's commits reach the disk by themselves.
			dir := mount(t, image, "data=ordered", "commit=1000")
			for i := range 300 {
				name := filepath.Join(dir, fmt.Sprintf("file-%03d", i))
				peer.Must(t, os.WriteFile(name, []byte(strings.Repeat(name, i+1)), 0o644))
				if i%50 == 49 {
					f, err := os.Open(name)
					peer.Must(t, err)
					peer.Must(t, errors.Join(f.Sync(), f.Close()))
				}
			}
			for i := 0; i < 300; i += 7 {
				peer.Must(t, os.Remove(filepath.Join(dir, fmt.Sprintf("file-%03d", i))))
			}
			last, err := os.OpenFile(filepath.Join(dir, "last"), os.O_CREATE|os.O_WRONLY, 0o600)
			peer.Must(t, err)
			peer.Must(t, errors.Join(last.Sync(), last.Close()))
			cut := readertest.CutOff(t, image)
			peer.Must(t, unix.Unmount(dir, 0))

			if out := peer.Run(t, "dumpe2fs", "-h", cut); !strings.Contains(out, "needs_recovery") {
				t.Fatal("the journal of the copy is clean: this tests nothing")
			}
			compareWithKernel(t, openImage(t, cut), mount(t, readertest.CutOff(t, cut)))
		})
	}
}
