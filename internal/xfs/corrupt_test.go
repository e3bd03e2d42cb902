package xfs

import (
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"herdbook/internal/filesystem"
	"herdbook/internal/filesystem/readertest"
	"herdbook/internal/peer"
)

// readAll reads everything in an image, and returns how much was read of it.
func readAll(image []byte) int64 { return readertest.ReadImage(image, Open, "deep/er/link/file") }

// small makes a small image with something of everything.
func small(t testing.TB, options string) []byte {
	t.Helper()
	path := makeImage(t, options, "24M")
	dir := mount(t, path)
	readertest.PlantSmall(t, dir)
	pieces, err := os.Create(filepath.Join(dir, "pieces"))
	peer.Must(t, err)
	for i := range 300 {
		_, err := pieces.WriteAt([]byte("a piece"), int64(i)*8192)
		peer.Must(t, err)
	}
	peer.Must(t, pieces.Close())
	for i := range 60 {
		peer.Must(t, unix.Setxattr(filepath.Join(dir, "empty"), fmt.Sprintf("user.attribute-%d", i), make([]byte, i*20), 0))
	}
	peer.Must(t, unix.Setxattr(filepath.Join(dir, "etc"), "trusted.remote", make([]byte, 3000), 0))
	peer.Must(t, os.Symlink(strings.Repeat("long/", 150), filepath.Join(dir, "slow")))
	peer.Must(t, unix.Unmount(dir, 0))
	image, err := os.ReadFile(path)
	peer.Must(t, err)
	return image
}

// resealed makes the checksums of an image right again: of its superblock, of its
// groups, of its inodes and of every block that has one. Without that, nothing
// behind the checksums would be reached.
func resealed(f *FS, image []byte) {
	put := func(p []byte, at int) {
		sum := checksum(p, at)
		for i := range 4 {
			p[at+i] = byte(sum >> (8 * i))
		}
	}
	for off := 0; off+int(f.block) <= len(image); off += int(f.block) {
		p := image[off:][:f.block]
		be16 := uint16(p[8])<<8 | uint16(p[9])
		switch magic := string(p[:4]); {
		case magic == superMagic:
			put(p[:f.sector], 224)
		case magic == "AB3B":
			put(p, freeTree.seal.crc)
		case magic == "BMA3":
			put(p, mapTree.seal.crc)
		case magic == "XDB3" || magic == "XDD3":
			put(p, dirSeal.crc)
		case magic == linkMagic || magic == remoteMagic:
			put(p, remoteSeal.crc)
		case be16 == 0x3bee || be16 == 0x3ebe:
			put(p, attrSeal.crc)
		case magic[:2] == "IN":
			for i := int64(0); i < f.block; i += f.inode {
				put(p[i:][:f.inode], inodeCRC)
			}
		}
		if group := p[f.sector%f.block:]; string(group[:4]) == "XAGF" {
			put(group[:f.sector], groupCRC)
		}
	}
}

// interesting lists the blocks of an image that are not empty.
func interesting(image []byte) []int {
	var list []int
	for off := 0; off < len(image); off += 512 {
		if len(bytes.Trim(image[off:off+512], "\x00")) > 0 {
			list = append(list, off)
		}
	}
	return list
}

// Whatever is flipped, the reader ends, with errors or without, has read no more
// than a sane amount and holds no more than a few megabytes.
func TestCorruptImagesEndInErrors(t *testing.T) {
	for _, options := range []string{"-b size=1k", "", "-n size=8k -m rmapbt=1 -i nrext64=1"} {
		t.Run(strings.ReplaceAll(options, " ", "_"), func(t *testing.T) {
			image := small(t, options)
			f, err := Open(bytes.NewReader(image), int64(len(image)))
			peer.Must(t, err)
			clean, places := readAll(image), interesting(image)
			random := rand.New(rand.NewSource(3))
			for round := range 300 {
				broken := bytes.Clone(image)
				for range 1 + random.Intn(40) {
					at := places[random.Intn(len(places))] + random.Intn(512)
					readertest.Break(random, broken, at, image)
				}
				if round%4 != 0 {
					resealed(f, broken)
				}
				if read := readAll(broken); read > 100*clean+(100<<20) {
					t.Errorf("round %d: %d MiB read, %d of the whole one", round, read>>20, clean>>20)
				}
			}
		})
	}
}

func TestALyingSuperblockTakesNoMemory(t *testing.T) {
	image := small(t, "")
	random := rand.New(rand.NewSource(5))
	for range 300 {
		broken := bytes.Clone(image)
		readertest.Lie(random, broken[4:264])
		seal512(broken)
		if got := readertest.Allocated(func() { readAll(broken) }); got > 300<<20 {
			t.Errorf("a superblock of %x takes %d MiB", broken[:264], got>>20)
		}
	}
}

func FuzzOpen(f *testing.F) {
	path, _ := prototypeImage(f, "-m crc=0", "16M") // without checksums, all of it is reached
	image, err := os.ReadFile(path)
	peer.Must(f, err)
	f.Add(image[:512], uint(32768), []byte{1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, super []byte, at uint, patch []byte) {
		broken := bytes.Clone(image)
		copy(broken[:512], super)
		copy(broken[at%uint(len(broken)):], patch)
		readAll(broken)
	})
}

// BenchmarkRead reads a large file out of the page cache.
func BenchmarkRead(b *testing.B) {
	path := makeImage(b, "", "400M")
	dir := mount(b, path)
	content := make([]byte, 256<<20)
	rand.New(rand.NewSource(1)).Read(content)
	peer.Must(b, os.WriteFile(filepath.Join(dir, "large"), content, 0o644))
	peer.Must(b, unix.Unmount(dir, 0))
	f := openImage(b, path)
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
	path := makeImage(b, "", "400M")
	dir := mount(b, path)
	total := int64(0)
	for d := range 100 {
		dir := filepath.Join(dir, string(rune('a'+d%26)), strings.Repeat("d", d+1))
		peer.Must(b, os.MkdirAll(dir, 0o755))
		for i := range 50 {
			content := bytes.Repeat([]byte{byte(i)}, i*400)
			total += int64(len(content))
			peer.Must(b, os.WriteFile(filepath.Join(dir, strings.Repeat("f", i+1)), content, 0o644))
		}
	}
	peer.Must(b, unix.Unmount(dir, 0))
	b.SetBytes(total)
	b.ReportAllocs()
	for b.Loop() {
		f := openImage(b, path)
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
