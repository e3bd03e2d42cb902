package ext4

import (
	"bytes"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/filesystem"
	"herdbook/internal/filesystem/readertest"
	"herdbook/internal/peer"
)

// readAll reads everything in an image, and returns how much was read of it.
func readAll(image []byte) int64 { return readertest.ReadImage(image, Open, "deep/er/link/file") }

// small makes a small image with something of everything.
func small(t testing.TB, options string) []byte {
	t.Helper()
	tree := t.TempDir()
	readertest.PlantSmall(t, tree)
	peer.Must(t, os.Symlink(strings.Repeat("long/", 30), filepath.Join(tree, "slow")))
	path := makeImage(t, tree, options, "3M")
	// The kernel's directories are trees, mke2fs's are not.
	out, err := exec.Command("e2fsck", "-fyD", path).CombinedOutput()
	if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() > 1) {
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
	image, err := os.ReadFile(path)
	peer.Must(t, err)
	return image
}

// Whatever is flipped, the reader ends, with errors or without, has read no more
// than a sane amount and holds no more than a few megabytes.
func TestCorruptImagesEndInErrors(t *testing.T) {
	for _, options := range []string{"-t ext4 -b 1024 -O metadata_csum,inline_data -I 256", "-t ext4 -b 1024 -O ^metadata_csum", "-t ext2 -b 1024", "-t ext4 -b 4096 -O ^metadata_csum,^extent,^64bit"} {
		t.Run(strings.ReplaceAll(options, " ", "_"), func(t *testing.T) {
			t.Parallel()
			image := small(t, options)
			clean := readAll(image)
			random := rand.New(rand.NewSource(3))
			for round := range 400 {
				broken := bytes.Clone(image)
				for range 1 + random.Intn(20) {
					// Half of it in the first blocks, where superblock, descriptors and inodes are.
					at := random.Intn(len(broken))
					if random.Intn(2) == 0 {
						at = 1024 + random.Intn(200<<10)
					}
					readertest.Break(random, broken, at, image)
				}
				if read := readAll(broken); read > 100*clean+(100<<20) {
					t.Errorf("round %d: %d MiB read, %d of the whole one", round, read>>20, clean>>20)
				}
			}
		})
	}
}

func TestALyingSuperblockTakesNoMemory(t *testing.T) {
	image := small(t, "-t ext4 -b 1024 -O ^metadata_csum")
	random := rand.New(rand.NewSource(5))
	for range 500 {
		broken := bytes.Clone(image)
		readertest.Lie(random, broken[1024:][:264])
		if got := readertest.Allocated(func() { readAll(broken) }); got > 300<<20 {
			t.Errorf("a superblock of %x takes %d MiB", broken[1024:1024+264], got>>20)
		}
	}
}

func FuzzOpen(f *testing.F) {
	image := small(f, "-t ext4 -b 1024 -O ^metadata_csum")
	f.Add(image[1024:1024+1024], uint(60000), []byte{1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, super []byte, at uint, patch []byte) {
		broken := bytes.Clone(image)
		copy(broken[1024:2048], super)
		copy(broken[at%uint(len(broken)):], patch)
		readAll(broken)
	})
}

func TestUnknownFeaturesAreNamed(t *testing.T) {
	image := small(t, "-t ext4 -b 1024 -O ^metadata_csum")
	for bit, want := range map[uint32]string{0x1: "compression", 0x8: "journal", 0x10000: "encrypt", 0x20000: "casefold", 0x80000000: "0x80000000"} {
		broken := bytes.Clone(image)
		for i := range 4 {
			broken[1024+0x60+i] |= byte(bit >> (8 * i))
		}
		_, err := Open(bytes.NewReader(broken), int64(len(broken)))
		if err != nil && !strings.Contains(strings.ToLower(err.Error()), want) {
			t.Errorf("feature %#x: %v, want %q", bit, err, want)
		}
		if err == nil && bit != 0x10000 && bit != 0x20000 {
			t.Errorf("feature %#x was taken", bit)
		}
	}
}

// BenchmarkRead reads a large file of an image with checksums out of the page
// cache.
func BenchmarkRead(b *testing.B) {
	tree := b.TempDir()
	content := make([]byte, 256<<20)
	rand.New(rand.NewSource(1)).Read(content)
	peer.Must(b, os.WriteFile(filepath.Join(tree, "large"), content, 0o644))
	f := openImage(b, makeImage(b, tree, "-t ext4 -O metadata_csum,64bit", "400M"))
	buffer := make([]byte, 1<<20)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		file, err := f.OpenFile("large")
		peer.Must(b, err)
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{file}, buffer)
		if err != nil || n != int64(len(content)) {
			b.Fatalf("%d bytes, %v", n, err)
		}
		peer.Must(b, file.Close())
	}
}

// BenchmarkWalk goes through a tree of small files, as an export does.
func BenchmarkWalk(b *testing.B) {
	tree := b.TempDir()
	total := int64(0)
	for d := range 100 {
		dir := filepath.Join(tree, string(rune('a'+d%26)), strings.Repeat("d", d+1))
		peer.Must(b, os.MkdirAll(dir, 0o755))
		for i := range 50 {
			content := bytes.Repeat([]byte{byte(i)}, i*400)
			total += int64(len(content))
			peer.Must(b, os.WriteFile(filepath.Join(dir, strings.Repeat("f", i+1)), content, 0o644))
		}
	}
	f := openImage(b, makeImage(b, tree, "-t ext4 -O metadata_csum,64bit", "200M"))
	b.SetBytes(total)
	for b.Loop() {
		peer.Must(b, f.Walk(func(_ string, e *filesystem.Entry) error {
			if !e.Type().IsRegular() {
				return nil
			}
			file, err := e.Open()
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, file); err != nil {
				return err
			}
			return file.Close()
		}))
	}
}
