package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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
	got := make([]byte, len(want))
	peer.Must(t, readFull(image, got, 0))
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: read in order: other bytes than QEMU's", format)
	}
	var all sync.WaitGroup
	for seed := range int64(4) {
		all.Go(func() {
			random := rand.New(rand.NewSource(seed))
			for range 40 {
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
var sizes = []int64{8 << 20, 7<<20 + 5*512}

func TestVMDKReadsAsQEMUDoes(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	for _, size := range append(sizes, 33<<20-512) { // the last has two grain tables
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
		refusesDamaged(t, edit(t, c.path, strings.ReplaceAll(name, " ", "-"), c.change), VMDK, c.want)
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

func TestVHDXReadsAsQEMUDoes(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	for _, options := range []string{
		"subformat=dynamic", "subformat=fixed", "subformat=dynamic,block_size=1M", "subformat=dynamic,block_size=2M,block_state_zero=off", "subformat=dynamic,block_size=256M",
	} {
		t.Run(options, func(t *testing.T) {
			t.Parallel()
			for _, size := range sizes {
				path := patterned(t, "x", VHDX, options, size)
				sameAsQEMU(t, path, VHDX)
				overlaid(t, path, VHDX, size)
			}
		})
	}
}

// With blocks of 256 MiB sixteen are a chunk of a VHDX, behind which a bitmap has an
// entry; the tables of the others do not fit into one page.
func TestFarApart(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	for _, c := range []struct {
		format  Format
		options string
		step    int64
	}{
		{QCOW2, "cluster_size=64k", 100 << 30}, {VMDK, "subformat=monolithicSparse", 100 << 30}, {VHDX, "block_size=256M", 4 << 30},
		{VHDX, "block_size=1M", 20 << 30}, {VDI, "static=off", 100 << 30},
	} {
		path := filepath.Join(t.TempDir(), "x")
		peer.Run(t, "qemu-img", "create", "-q", "-f", string(c.format), "-o", c.options, path, fmt.Sprint(10*c.step))
		var commands []string
		for i := range 10 {
			commands = append(commands, "-c", fmt.Sprintf("write -P %d %d 1M", i+1, int64(i)*c.step+77<<20))
		}
		peer.Run(t, "qemu-io", append(append([]string{"-f", string(c.format)}, commands...), path)...)
		image, err := Open(path, c.format)
		peer.Must(t, err)
		defer image.Close()
		if image.Size() != 10*c.step {
			t.Errorf("%s: %d bytes, want %d", c.format, image.Size(), 10*c.step)
		}
		for i := range 10 {
			for off, want := range map[int64]byte{0: 0, 77 << 20: byte(i + 1), 78<<20 - 1: byte(i + 1), 78 << 20: 0} {
				p := make([]byte, 1)
				if _, err := image.ReadAt(p, int64(i)*c.step+off); err != nil || p[0] != want {
					t.Errorf("%s: byte %d of part %d: %d, %v, want %d", c.format, off, i, p[0], err, want)
				}
			}
		}
	}
}

// vhdxSeal sets the checksum of a header that was changed.
func vhdxSeal(h []byte) {
	clear(h[4:8])
	binary.LittleEndian.PutUint32(h[4:], crc32.Checksum(h, crc32.MakeTable(crc32.Castagnoli)))
}

// QEMU leaves the entry of its log in the file when it has done what stands in
// it, and takes its name out of the header. With the name back, and without what
// the entry did, the file is one that was never closed.
func TestVHDXWithALogIsRefusedUntilItIsReplayed(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	closed := filepath.Join(t.TempDir(), "closed")
	peer.Run(t, "qemu-img", "create", "-q", "-f", "vhdx", "-o", "block_size=1M", closed, "8M")
	peer.Run(t, "qemu-io", "-f", "vhdx", "-c", "write -P 5 3M 70144", closed)
	le := binary.LittleEndian
	open := edit(t, closed, "open", func(p []byte) {
		log := p[le.Uint64(p[vhdxHeadersAt+72:]):]
		for i := range 2 {
			h := p[vhdxHeadersAt*(1+i):][:vhdxHeaderLen]
			copy(h[48:64], log[32:48])
			vhdxSeal(h)
		}
		clear(p[le.Uint64(log[64+16:]):][:4096]) // what the first descriptor writes to
	})
	if _, err := Open(open, VHDX); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "qemu-img check -r all") {
		t.Fatalf("before: %v", err)
	}
	peer.Run(t, "qemu-img", "check", "-q", "-f", "vhdx", "-r", "all", open)
	sameAsQEMU(t, open, VHDX)
	peer.Run(t, "qemu-img", "compare", "-q", "-f", "vhdx", "-F", "vhdx", open, closed)
}

func TestVHDXThatIsDamaged(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	good := patterned(t, "x", VHDX, "block_size=1M", 8<<20)
	p, err := os.ReadFile(good)
	peer.Must(t, err)
	regions, err := vhdxRegions(bytes.NewReader(p))
	peer.Must(t, err)
	bat, metadata := int(regions[vhdxBATRegion].Start), int(regions[vhdxMetadataRegion].Start)
	item := func(id string) int {
		for e := p[metadata+32:]; ; e = e[32:] {
			if guid(e[:16]) == id {
				return metadata + int(binary.LittleEndian.Uint32(e[16:]))
			}
		}
	}
	for name, c := range map[string]struct {
		change func(p []byte)
		want   string
	}{
		"headers":   {func(p []byte) { p[vhdxHeadersAt+100]++; p[2*vhdxHeadersAt+100]++ }, "both of its headers"},
		"regions":   {patch(vhdxRegionsAt+60, "\x01"), "region table"},
		"magic":     {patch(0, "x"), "no vhdx"},
		"blocks":    {patch(item(vhdxFileParameters), "\x01"), "power of two"},
		"sectors":   {patch(item(vhdxLogicalSector), "\x01"), "want 512 or 4096"},
		"size":      {patch(item(vhdxVirtualSize)+7, "\x80"), "a disk of"},
		"entries":   {patch(item(vhdxVirtualSize)+5, "\x01"), "block allocation table"},
		"parent":    {patch(item(vhdxFileParameters)+4, "\x02"), "difference"},
		"partial":   {patch(bat, "\x07"), "state 7"},
		"far":       {patch(bat, "\x06\x00\x00\x00\x00\x00\x00\x70"), "cut short"},
		"backwards": {patch(bat, "\x06\x00\x00\x00\x00\x00\x00\x80"), "cut short"},
	} {
		refusesDamaged(t, edit(t, good, name, c.change), VHDX, c.want)
	}
	older := edit(t, good, "older", func(p []byte) { p[vhdxHeadersAt+100]++ })
	sameAsQEMU(t, older, VHDX)
}

func TestVDIReadsAsQEMUDoes(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	for _, options := range []string{"static=off", "static=on"} {
		t.Run(options, func(t *testing.T) {
			t.Parallel()
			for _, size := range sizes {
				path := patterned(t, "x", VDI, options, size)
				sameAsQEMU(t, path, VDI)
				overlaid(t, path, VDI, size)
			}
		})
	}
}

func TestVDIThatIsDamaged(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	good := patterned(t, "x", VDI, "", 8<<20)
	p, err := os.ReadFile(good)
	peer.Must(t, err)
	h, err := foreignVDI(bytes.NewReader(p))
	peer.Must(t, err)
	for name, c := range map[string]struct {
		change func(p []byte)
		want   string
	}{
		"magic":     {patch(0x40, "x"), "no vdi"},
		"version":   {patch(0x44, "\x02"), "version"},
		"parent":    {patch(0x1b8, "x"), "difference"},
		"blocks":    {patch(0x178, "\x01"), "blocks of"},
		"size":      {patch(0x177, "\x80"), "a disk of"},
		"count":     {patch(0x183, "\x70"), "cut short"},
		"table":     {patch(0x157, "\x70"), "cut short"},
		"data":      {patch(0x158, "\x00\x00\x00\x00"), "inside of the table"},
		"a block":   {patch(int(h.table), "\x08\x00\x00\x00"), "the 9th of 8"},
		"not there": {func(p []byte) { patch(0x15b, "\x7f")(p); patch(int(h.table), "\x07\x00\x00\x00")(p) }, "in a file of"},
	} {
		refusesDamaged(t, edit(t, good, strings.ReplaceAll(name, " ", "-"), c.change), VDI, c.want)
	}
}

// refusesDamaged reads an image until there is an error, which must be one of ours.
func refusesDamaged(t *testing.T, path string, format Format, want string) {
	t.Helper()
	image, err := Open(path, format)
	if err == nil {
		_, err = io.Copy(io.Discard, io.NewSectionReader(image, 0, image.Size()))
		peer.Must(t, image.Close())
	}
	if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrRefused) {
		t.Errorf("%s: %v, want %q", filepath.Base(path), err, want)
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

func FuzzVDI(f *testing.F) {
	p, err := os.ReadFile(patterned(f, "x", VDI, "", 2<<20))
	peer.Must(f, err)
	f.Add(p[:8<<10])
	f.Fuzz(func(t *testing.T, p []byte) {
		if b, err := newVDI(bytes.NewReader(p), int64(len(p))); err == nil {
			readAll(b)
		}
	})
}

// FuzzVHDX changes what counts in an image and sets the checksums right.
func FuzzVHDX(f *testing.F) {
	image, err := os.ReadFile(patterned(f, "x", VHDX, "block_size=1M", 2<<20))
	peer.Must(f, err)
	regions, err := vhdxRegions(bytes.NewReader(image))
	peer.Must(f, err)
	bat, metadata := regions[vhdxBATRegion].Start, regions[vhdxMetadataRegion].Start
	f.Add(image[vhdxHeadersAt:][:80], image[vhdxRegionsAt:][:80], image[metadata:][:192], image[metadata+vhdxTableLen:][:64], image[bat:][:64])
	f.Fuzz(func(t *testing.T, header, table, entries, items, blocks []byte) {
		p := bytes.Clone(image)
		copy(p[vhdxHeadersAt:][:vhdxHeaderLen], header)
		copy(p[vhdxRegionsAt:][:vhdxRegionsLen], table)
		copy(p[metadata:][:vhdxTableLen], entries)
		copy(p[metadata+vhdxTableLen:][:4096], items)
		copy(p[bat:][:4096], blocks)
		vhdxSeal(p[vhdxHeadersAt:][:vhdxHeaderLen])
		vhdxSeal(p[vhdxRegionsAt:][:vhdxRegionsLen])
		if b, err := newVHDX(bytes.NewReader(p), int64(len(p))); err == nil {
			readAll(b)
		}
	})
}
