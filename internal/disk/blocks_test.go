package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"herdbook/internal/peer"
)

// patterned makes an image of a format with qemu-img and writes to it with qemu-io:
// patterns, zeros and what is discarded.
func patterned(t testing.TB, name string, format Format, options string, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	args := []string{"create", "-q", "-f", string(format)}
	if options != "" {
		args = append(args, "-o", options)
	}
	peer.Run(t, "qemu-img", append(args, path, fmt.Sprint(size))...)
	random := rand.New(rand.NewSource(size))
	commands := []string{"-f", string(format)}
	for range 30 {
		at := random.Int63n(size-512) &^ 511
		commands = append(commands, "-c", fmt.Sprintf("write -P %d %d %d", 1+random.Intn(255), at, min(512*(1+random.Int63n(300)), size-at)))
	}
	at := random.Int63n(size) &^ 65535
	commands = append(commands, "-c", fmt.Sprintf("write -z %d %d", at, min(3<<16, size-at)))
	commands = append(commands, "-c", fmt.Sprintf("write -P 7 %d 512", (size-512)&^511))
	peer.Run(t, "qemu-io", append(commands, path)...)
	return path
}

// sameAsQEMU compares an image with what QEMU reads of it: in order, at random
// places from several goroutines at once, and at its end.
func sameAsQEMU(t *testing.T, path string, format Format) {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw")
	peer.Run(t, "qemu-img", "convert", "-f", string(format), "-O", "raw", path, raw)
	want, err := os.ReadFile(raw)
	peer.Must(t, err)
	image, err := Open(path, format)
	peer.Must(t, err)
	defer image.Close()
	if image.Size() != int64(len(want)) {
		t.Fatalf("%s: %d bytes, want %d", format, image.Size(), len(want))
	}
	got, err := io.ReadAll(io.NewSectionReader(image, 0, image.Size()))
	peer.Must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: read in order: other bytes than QEMU's", format)
	}
	var all sync.WaitGroup
	for seed := range int64(4) {
		all.Go(func() {
			random := rand.New(rand.NewSource(seed))
			for range 100 {
				p := make([]byte, 1+random.Intn(300000))
				off := random.Int63n(image.Size())
				n, err := image.ReadAt(p, off)
				if !bytes.Equal(p[:n], want[off:][:n]) || n < len(p) && (off+int64(n) != image.Size() || err != io.EOF) {
					t.Errorf("%s: ReadAt(%d bytes, %d) = %d, %v: other bytes than QEMU's", format, len(p), off, n, err)
				}
			}
		})
	}
	all.Wait()
}

// sizes are those of disks, of which only the first is a whole number of blocks.
var sizes = []int64{32 << 20, 32<<20 + 512, 33<<20 - 512, 7<<20 + 5*512}

func TestVMDKReadsAsQEMUDoes(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	for _, size := range sizes {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			for _, options := range []string{"subformat=monolithicSparse", "subformat=monolithicSparse,zeroed_grain=on"} {
				path := patterned(t, "sparse", VMDK, options, size)
				sameAsQEMU(t, path, VMDK)
				stream := filepath.Join(t.TempDir(), "stream")
				peer.Run(t, "qemu-img", "convert", "-f", "vmdk", "-O", "vmdk", "-o", "subformat=streamOptimized", path, stream)
				sameAsQEMU(t, stream, VMDK)
				sameAsQEMU(t, withFooter(t, stream), VMDK)
				overlaid(t, stream, VMDK, size)
			}
		})
	}
}

// overlaid compares an overlay that is larger than what it stands on, an image of
// another format, with what QEMU reads of it.
func overlaid(t *testing.T, backing string, format Format, size int64) {
	t.Helper()
	top := backing + ".overlay"
	peer.Must(t, CreateOverlay(t.Context(), top, filepath.Base(backing), format, size+3<<20))
	peer.Run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 9 1000960 70144", "-c", "write -z 2M 1M", top)
	sameAsQEMU(t, top, QCOW2)
}

func TestVMDKHasARedundantDirectory(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	path := patterned(t, "sparse", VMDK, "subformat=monolithicSparse", 70<<20)
	whole, err := Open(path, VMDK)
	peer.Must(t, err)
	defer whole.Close()
	want, err := io.ReadAll(io.NewSectionReader(whole, 0, whole.Size()))
	peer.Must(t, err)
	p, err := os.ReadFile(path)
	peer.Must(t, err)
	directory := parseVMDK(p).directory * sector
	for name, at := range map[string]uint64{"directory": 56, "table": directory + 4} {
		path := edit(t, path, "damaged-"+name, patch(int(at), "\xf0\xf0\xf0\x70"))
		image, err := Open(path, VMDK)
		peer.Must(t, err)
		defer image.Close()
		got, err := io.ReadAll(io.NewSectionReader(image, 0, image.Size()))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("a damaged %s: %v, or other bytes", name, err)
		}
	}
}

func TestVMDKThatIsDamaged(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	sparse := patterned(t, "sparse", VMDK, "subformat=monolithicSparse", 8<<20)
	stream := filepath.Join(t.TempDir(), "stream")
	peer.Run(t, "qemu-img", "convert", "-f", "vmdk", "-O", "vmdk", "-o", "subformat=streamOptimized", sparse, stream)
	p, err := os.ReadFile(stream)
	peer.Must(t, err)
	grain := bytes.Index(p[64<<10:], []byte("\x78\x9c")) + 64<<10 // zlib's header
	first, second := int(parseVMDK(p).directory)*sector, int(parseVMDK(p).redundant)*sector
	for name, c := range map[string]struct {
		path   string
		change func(p []byte)
		want   string
	}{
		"grain size":   {sparse, patch(20, "\x07\x00"), "power of two"},
		"huge grain":   {sparse, patch(20, "\x00\x00\x00\x00\x01"), "power of two"},
		"table size":   {sparse, patch(44, "\x00\x00\x00\x01"), "grain tables"},
		"directories":  {sparse, func(p []byte) { patch(48, "\xff\xff\xff\xff")(p); patch(56, "\xff\xff\xff\xff")(p) }, "is it cut short"},
		"compression":  {stream, patch(77, "\x02"), "deflate"},
		"no markers":   {stream, patch(10, "\x01"), "markers"},
		"grain":        {stream, patch(grain+4, "\xff\xff\xff\xff\xff\xff"), "packed grain"},
		"grain length": {stream, patch(grain-4, "\xff\xff\xff\x7f"), "packed grain"},
		"tables":       {stream, func(p []byte) { patch(first, "\xff\xff\xff\x7f")(p); patch(second, "\xff\xff\xff\x7f")(p) }, "entry of a table"},
	} {
		image, err := Open(edit(t, c.path, strings.ReplaceAll(name, " ", "-"), c.change), VMDK)
		if err == nil {
			_, err = io.Copy(io.Discard, io.NewSectionReader(image, 0, image.Size()))
			peer.Must(t, image.Close())
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for _, subformat := range []string{"monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"} {
		path := filepath.Join(t.TempDir(), "other")
		peer.Run(t, "qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat="+subformat, path, "8M")
		if _, err := Open(path, VMDK); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", subformat, err)
		}
	}
	child := filepath.Join(filepath.Dir(sparse), "child")
	peer.Run(t, "qemu-img", "create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", sparse, child)
	if _, err := Open(child, VMDK); !errors.Is(err, ErrRefused) {
		t.Errorf("a parent: %v", err)
	}
}

// readAll reads a disk of any size, as far as it goes.
func readAll(b *blocks) {
	buffer := make([]byte, 64<<10)
	for off := int64(0); off < min(b.size, 4<<20); off += int64(len(buffer)) {
		if _, err := b.ReadAt(buffer, off); err != nil {
			return
		}
	}
}

func FuzzVMDK(f *testing.F) {
	path := patterned(f, "sparse", VMDK, "subformat=monolithicSparse", 2<<20)
	stream := filepath.Join(f.TempDir(), "stream")
	peer.Run(f, "qemu-img", "convert", "-f", "vmdk", "-O", "vmdk", "-o", "subformat=streamOptimized", path, stream)
	for _, path := range []string{path, stream} {
		p, err := os.ReadFile(path)
		peer.Must(f, err)
		f.Add(p[:min(len(p), 200<<10)])
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if b, err := newVMDK(bytes.NewReader(p), int64(len(p))); err == nil {
			readAll(b)
		}
	})
}
