package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/peer"
)

// randomDisk makes a raw disk of 8 MiB with a boot sector, bytes and holes.
func randomDisk(t testing.TB) (path string, content []byte) {
	t.Helper()
	content = make([]byte, 8<<20)
	rand.New(rand.NewSource(5)).Read(content[:3<<20])
	copy(content[5<<20:], "a word in the middle of nowhere")
	copy(content, make([]byte, 64)) // no magic
	content[510], content[511] = 0x55, 0xAA
	path = filepath.Join(t.TempDir(), "disk.raw")
	peer.Must(t, os.WriteFile(path, content, 0o644))
	return path, content
}

// packedAs writes a disk in another format with qemu-img.
func packedAs(t testing.TB, src, name, format, options string) string {
	t.Helper()
	path := filepath.Join(filepath.Dir(src), name)
	args := []string{"convert", "-q", "-f", "raw", "-O", format}
	if strings.HasPrefix(options, "-c ") {
		args, options = append(args, "-c"), options[3:]
	}
	if options != "" {
		args = append(args, "-o", options)
	}
	peer.Run(t, "qemu-img", append(args, src, path)...)
	return path
}

func prove(t testing.TB, path string, told Format) (Format, error) {
	t.Helper()
	f, err := os.Open(path)
	peer.Must(t, err)
	defer f.Close()
	stat, err := f.Stat()
	peer.Must(t, err)
	return Prove(f, stat.Size(), told)
}

// withFooter makes of a stream of QEMU's one as VMware writes it: the place of
// the grain directory is told at the end.
func withFooter(t testing.TB, path string) string {
	t.Helper()
	p, err := os.ReadFile(path)
	peer.Must(t, err)
	header := bytes.Clone(p[:512])
	binary.LittleEndian.PutUint64(p[56:], vmdkFooter)
	marker, end := make([]byte, 512), make([]byte, 512)
	marker[0], marker[12] = 1, 3
	p = append(append(append(p, marker...), header...), end...)
	path += ".footer"
	peer.Must(t, os.WriteFile(path, p, 0o644))
	return path
}

func TestImportIsByteForByte(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	src, want := randomDisk(t)
	stream := packedAs(t, src, "stream,a:b", "vmdk", "subformat=streamOptimized")
	for _, c := range []struct {
		name   string
		format Format
		path   string
	}{
		{"raw", Raw, src},
		{"qcow2 3", QCOW2, packedAs(t, src, "q3", "qcow2", "compat=1.1")},
		{"qcow2 2", QCOW2, packedAs(t, src, "q2", "qcow2", "compat=0.10")},
		{"qcow2 zlib", QCOW2, packedAs(t, src, "qz", "qcow2", "-c compression_type=zlib")},
		{"qcow2 zstd", QCOW2, packedAs(t, src, "qs", "qcow2", "-c compression_type=zstd")},
		{"qcow2 subclusters", QCOW2, packedAs(t, src, "qe", "qcow2", "extended_l2=on,cluster_size=128k")},
		{"vmdk", VMDK, packedAs(t, src, "sparse", "vmdk", "subformat=monolithicSparse")},
		{"vmdk stream", VMDK, stream},
		{"vmdk stream with a footer", VMDK, withFooter(t, stream)},
		{"vhdx dynamic", VHDX, packedAs(t, src, "xd", "vhdx", "subformat=dynamic")},
		{"vhdx fixed", VHDX, packedAs(t, src, "xf", "vhdx", "subformat=fixed")},
		{"vdi dynamic", VDI, packedAs(t, src, "id", "vdi", "static=off")},
		{"vdi static", VDI, packedAs(t, src, "is", "vdi", "static=on")},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, told := range []Format{"", c.format} {
				if got, err := prove(t, c.path, told); got != c.format || err != nil {
					t.Fatalf("told %q: %q, %v", told, got, err)
				}
			}
			dst := filepath.Join(t.TempDir(), "json:{x}")
			peer.Must(t, Import(t.Context(), c.path, "", dst))
			image, err := Open(dst, QCOW2)
			peer.Must(t, err)
			defer image.Close()
			got, err := io.ReadAll(io.NewSectionReader(image, 0, image.Size()))
			peer.Must(t, err)
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes, want %d: they differ", len(got), len(want))
			}
			for _, other := range importable {
				if other == c.format {
					continue
				}
				if _, err := prove(t, c.path, other); !errors.Is(err, ErrRefused) {
					t.Errorf("told %q: %v", other, err)
				}
			}
		})
	}
}

// edit copies an image and changes it.
func edit(t testing.TB, path, name string, change func(p []byte)) string {
	t.Helper()
	p, err := os.ReadFile(path)
	peer.Must(t, err)
	change(p)
	path = filepath.Join(filepath.Dir(path), name)
	peer.Must(t, os.WriteFile(path, p, 0o644))
	return path
}

// patch returns a change of some bytes.
func patch(at int, bytes string) func(p []byte) {
	return func(p []byte) { copy(p[at:], bytes) }
}

// description returns a change of a VMDK's descriptor; zero takes away the
// capacity in the header, so that QEMU goes by the descriptor.
func description(old, new string, zero bool) func(p []byte) {
	return func(p []byte) {
		text := strings.Replace(strings.TrimRight(string(p[512:][:10240]), "\x00"), old, new, 1)
		clear(p[512:][:10240])
		copy(p[512:], text)
		if zero {
			clear(p[12:20])
		}
	}
}

func TestImportRefuses(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	src, _ := randomDisk(t)
	dir := filepath.Dir(src)
	at := func(name string) string { return filepath.Join(dir, name) }
	q := packedAs(t, src, "q", "qcow2", "")
	v := packedAs(t, src, "v", "vmdk", "subformat=monolithicSparse")
	s := withFooter(t, packedAs(t, src, "s", "vmdk", "subformat=streamOptimized"))
	x := packedAs(t, src, "x", "vhdx", "")
	i := packedAs(t, src, "i", "vdi", "")
	peer.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", q, "-F", "qcow2", at("overlay"))
	peer.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file="+at("data"), at("external"), "8M")
	peer.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=x", "-o", "encrypt.format=aes,encrypt.key-secret=s", at("aes"), "8M")
	peer.Run(t, "qemu-img", "create", "-q", "-f", "vmdk", "-b", v, "-F", "vmdk", at("child"))
	for _, kind := range []string{"monolithicFlat", "twoGbMaxExtentFlat", "twoGbMaxExtentSparse"} {
		packedAs(t, src, kind+".vmdk", "vmdk", "subformat="+kind)
	}
	whole, err := os.ReadFile(x)
	peer.Must(t, err)
	metadata := bytes.Index(whole, []byte("metadata"))
	item := bytes.Index(whole[metadata:], []byte("\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b")) + metadata
	parameters := metadata + int(binary.LittleEndian.Uint32(whole[item+16:]))
	extent := `RW 16384 SPARSE "v"`
	for _, c := range []struct {
		name, path string
		told       Format
		want       string
	}{
		{"overlay", at("overlay"), "", q},
		{"overlay without a name", edit(t, at("overlay"), "nameless", patch(16, "\xff\xff\xff\xff")), "", "stands on another file"},
		{"data file", at("external"), "", "data in another file"},
		{"encryption", at("aes"), "", "encrypted"},
		{"encryption with LUKS", edit(t, q, "luks", patch(35, "\x02")), "", "encrypted"},
		{"feature", edit(t, q, "feature", patch(72, "\x80")), "", "does not know"},
		{"marked corrupt", edit(t, q, "corrupt", patch(79, "\x02")), "", "marked it so"},
		{"qcow 4", edit(t, q, "version", patch(7, "\x04")), QCOW2, "version 4"},
		{"qcow 1", edit(t, q, "one", patch(7, "\x01")), QCOW2, "qcow image of version 1"},
		{"clusters", edit(t, q, "clusters", patch(23, "\x30")), "", "clusters of 2^48"},
		{"cut short", edit(t, q, "l1", patch(40, "\x00\xff")), "", "cut short"},
		{"huge", edit(t, q, "huge", patch(24, "\x00\x00\x40\x00\x00\x00\x00\x01")), "", "at most 64 TiB"},
		{"negative", edit(t, q, "negative", patch(24, "\xff")), "", "at least 1 MiB"},
		{"tiny", edit(t, q, "tiny", patch(24, "\x00\x00\x00\x00\x00\x00\x02\x00")), "", "at least 1 MiB"},
		{"vmdk child", at("child"), "", "stands on another image"},
		{"flat", at("monolithicFlat.vmdk"), "", "text descriptor"},
		{"flat, told", at("monolithicFlat.vmdk"), VMDK, "text descriptor"},
		{"flat, told raw", at("monolithicFlat.vmdk"), Raw, "text descriptor"},
		{"flat extents", at("twoGbMaxExtentFlat.vmdk"), "", "text descriptor"},
		{"sparse extents", at("twoGbMaxExtentSparse.vmdk"), "", "text descriptor"},
		{"one of the extents", at("twoGbMaxExtentSparse-s001.vmdk"), "", "createType is \"\""},
		{"no descriptor", edit(t, v, "bare", patch(28, strings.Repeat("\x00", 16))), "", "no descriptor"},
		{"descriptor elsewhere", edit(t, v, "elsewhere", patch(28, "\x02")), "", "sector 2"},
		{"capacity 0", edit(t, v, "zero", description(extent, `RW 4 FLAT "/etc/passwd" 0`, true)), "", "no capacity"},
		{"extent of the host", edit(t, v, "host", description(`SPARSE "v"`, `SPARSE "/etc/passwd"`, false)), "", "at another place"},
		{"extent above", edit(t, v, "above", description(`SPARSE "v"`, `SPARSE "..\passwd"`, false)), "", "at another place"},
		{"flat extent", edit(t, v, "flat", description(extent, `RW 4 FLAT "passwd" 0`, false)), "", "in another file"},
		{"one more extent", edit(t, v, "more", description(extent, extent+"\n"+extent, false)), "", "names 2 extents"},
		{"odd extent", edit(t, v, "odd", description(extent, "rw\t4", false)), "", "not understood"},
		{"createType", edit(t, v, "type", description("monolithicSparse", "vmfs", false)), "", `createType is "vmfs"`},
		{"parent hint", edit(t, v, "hint", description(extent, extent+"\n#ParentFileNameHint=\"x\"", false)), "", "names a parent"},
		{"footer", edit(t, s, "footer", func(p []byte) { p[len(p)-1024+14]++ }), "", "its footer"},
		{"cut footer", edit(t, s, "cut", func(p []byte) { clear(p[len(p)-1024:]) }), "", "its footer"},
		{"as text", edit(t, v, "newlines", patch(74, "\n")), "", "newlines"},
		{"COWD", edit(t, v, "cowd", patch(0, "COWD")), "", "COWD"},
		{"vhdx parent", edit(t, x, "parent", func(p []byte) { p[parameters+4] |= 2 }), "", "difference"},
		{"vhdx locator", edit(t, x, "locator", patch(item, "\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c")), "", "difference"},
		{"vhdx regions", edit(t, x, "regions", patch(192<<10+4, "\x00\x00")), "", "region table"},
		{"vhdx metadata", edit(t, x, "metadata", patch(metadata, "x")), "", "metadata table"},
		{"vdi difference", edit(t, i, "difference", patch(0x4c, "\x04")), "", "difference"},
		{"vdi type", edit(t, i, "vditype", patch(0x4c, "\x03")), "", "image type 3"},
		{"vdi parent", edit(t, i, "vdiparent", patch(0x1b8, "x")), "", "difference"},
		{"vdi version", edit(t, i, "vdiversion", patch(0x44, "\x02")), "", "version 1.2"},
		{"VHD dynamic", packedAs(t, src, "vhd", "vpc", ""), "", "VHD"},
		{"VHD fixed", packedAs(t, src, "fixed", "vpc", "subformat=fixed"), "", "VHD"},
		{"no sign", edit(t, src, "nosign", patch(510, "xx")), "", `say that its format is raw`},
		{"packed", edit(t, src, "gz", patch(0, "\x1f\x8b\x08")), Raw, "gzip"},
		{"a CD", edit(t, src, "cd", patch(0x8001, "CD001")), "", `in spite of that, say that its format is raw`},
		{"format", src, "qed", "none that herdbook imports"},
	} {
		_, err := prove(t, c.path, c.told)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		dst := at("dst")
		if err := Import(t.Context(), c.path, c.told, dst); err == nil || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: import: %v", c.name, err)
		}
		if left, _ := filepath.Glob(dst + "*"); len(left) > 0 {
			t.Fatalf("%s: left behind: %v", c.name, left)
		}
	}
}

func TestProveRaw(t *testing.T) {
	for name, c := range map[string]struct {
		at    int
		magic string
		size  int
		ok    bool
	}{
		"boot sector": {510, "\x55\xaa", 1 << 20, true},
		"gpt":         {512, "EFI PART", 1 << 20, true},
		"gpt of 4k":   {4096, "EFI PART", 1 << 20, true},
		"ext4":        {1080, "\x53\xef", 1 << 20, true},
		"xfs":         {0, "XFSB", 1 << 20, true},
		"btrfs":       {65600, "_BHRfS_M", 1 << 20, true},
		"lvm":         {536, "LVM2 001", 1 << 20, true},
		"small":       {510, "\x55\xaa", 1<<20 - 512, false},
		"cut":         {510, "\x55\xaa", 1<<20 + 100, false},
		"nothing":     {0, "", 1 << 20, false},
		"empty":       {0, "", 0, false},
	} {
		p := make([]byte, c.size)
		if c.size > 0 {
			copy(p[c.at:], c.magic)
		}
		format, err := Prove(bytes.NewReader(p), int64(len(p)), "")
		if c.ok && (format != Raw || err != nil) || !c.ok && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %q, %v", name, format, err)
		}
		if _, err := Prove(bytes.NewReader(p), int64(len(p)), Raw); (err == nil) != (c.size >= 1<<20) {
			t.Errorf("%s: told raw: %v", name, err)
		}
	}
}

func TestImportIsWholeOrNotAtAll(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	src, _ := randomDisk(t)
	dst := filepath.Join(t.TempDir(), "dst")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Import(ctx, src, "", dst); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// A table that the header's checks do not see.
	q := packedAs(t, src, "q", "qcow2", "")
	broken := edit(t, q, "broken", patch(56, "\xff\xff"))
	if err := Import(t.Context(), broken, "", dst); err == nil || !strings.Contains(err.Error(), broken) {
		t.Errorf("broken: %v", err)
	}
	if err := Import(t.Context(), filepath.Dir(src), Raw, dst); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("a directory: %v", err)
	}
	if left, _ := filepath.Glob(dst + "*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// smallVHDX is the beginning of a VHDX, as far as Prove reads it.
func smallVHDX() []byte {
	p := make([]byte, 448<<10)
	le := binary.LittleEndian
	copy(p, "vhdxfile")
	regions, metadata := p[vhdxRegionsAt:][:vhdxRegionsLen], p[256<<10:]
	copy(regions, "regi")
	regions[8] = 1
	copy(regions[16:], "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e")
	le.PutUint64(regions[32:], 256<<10)
	le.PutUint32(regions[4:], crc32.Checksum(regions, crc32.MakeTable(crc32.Castagnoli)))
	copy(metadata, "metadata")
	metadata[10] = 2
	for i, id := range []string{"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b", "\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8"} {
		copy(metadata[32+32*i:], id)
		le.PutUint32(metadata[32+32*i+16:], vhdxTableLen+uint32(8*i))
		metadata[32+32*i+20] = 8
	}
	le.PutUint64(metadata[vhdxTableLen+8:], 8<<20)
	return p
}

func FuzzProve(f *testing.F) {
	src, content := randomDisk(f)
	for _, c := range []struct{ format, options string }{
		{"qcow2", ""}, {"vmdk", "subformat=monolithicSparse"}, {"vdi", ""},
	} {
		p, err := os.ReadFile(packedAs(f, src, "seed", c.format, c.options))
		peer.Must(f, err)
		f.Add(p[:16<<10], "")
	}
	f.Add(smallVHDX(), "vhdx")
	f.Add(content[:1024], "raw")
	if format, err := Prove(bytes.NewReader(smallVHDX()), 448<<10, ""); format != VHDX || err != nil {
		f.Fatalf("the seed is no VHDX: %q, %v", format, err)
	}
	f.Fuzz(func(t *testing.T, p []byte, told string) {
		format, err := Prove(bytes.NewReader(p), int64(len(p)), Format(told))
		if err != nil {
			if format != "" {
				t.Errorf("%q in spite of %v", format, err)
			}
			return
		}
		if told != "" && format != Format(told) {
			t.Errorf("told %q, proved %q", told, format)
		}
		if again, err := Prove(bytes.NewReader(p), int64(len(p)), format); again != format || err != nil {
			t.Errorf("proved %q, then %q: %v", format, again, err)
		}
		if size, err := virtualSize(bytes.NewReader(p), int64(len(p)), format); err != nil || size < MinImport || size > MaxImport {
			t.Errorf("a disk of %d bytes: %v", size, err)
		}
		if format == VMDK && !strings.Contains(strings.ToLower(string(p[512:])), "sparse") {
			t.Error("a vmdk without a sparse extent")
		}
	})
}
