package pack

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/ext4"
	"herdbook/internal/peer"
)

const mib = 1 << 20

// layers makes a raw disk of size bytes with words at places, and a qcow2 chain of two
// with the same disk.
func layers(t *testing.T, size int64, places ...int64) (raw, top string) {
	t.Helper()
	peer.NeedTool(t, "qemu-img", "qemu-io")
	dir := t.TempDir()
	raw, base, top := filepath.Join(dir, "raw"), filepath.Join(dir, "base.qcow2"), filepath.Join(dir, "top.qcow2")
	f, err := os.Create(raw)
	peer.Must(t, errors.Join(err, f.Truncate(size)))
	r := rand.New(rand.NewPCG(1, 2))
	write := func(at int64) {
		words := make([]byte, min(size-at, 100_000))
		for i := range words {
			words[i] = "abcdefgh \n"[r.IntN(10)]
		}
		_, err := f.WriteAt(words, at)
		peer.Must(t, err)
	}
	for _, at := range places {
		write(at)
	}
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, base)
	peer.Must(t, disk.CreateOverlay(t.Context(), top, base, disk.QCOW2, 0))
	if len(places) > 0 {
		over := []byte("written in the second layer")
		peer.Must(t, disk.Apply(t.Context(), top, []disk.Write{{Offset: places[0], Bytes: over}}))
		_, err := f.WriteAt(over, places[0])
		peer.Must(t, err)
	}
	peer.Must(t, f.Close())
	return raw, top
}

// asTold holds a file against what is said of it.
func asTold(t *testing.T, f File) {
	t.Helper()
	content, err := os.ReadFile(f.Path)
	peer.Must(t, err)
	short, long := sha256.Sum256(content), sha512.Sum512(content)
	want := File{f.Path, int64(len(content)), hex.EncodeToString(short[:]), hex.EncodeToString(long[:])}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Error(diff)
	}
	if stat, err := os.Stat(f.Path); err != nil || stat.Mode() != 0o644 {
		t.Errorf("%v, %v", stat.Mode(), err)
	}
}

// progressed returns a sink and a check that progress came, grew and ended at size.
func progressed(t *testing.T, size int64) (event.Sink, func()) {
	last := event.Event{}
	sink := func(e event.Event) {
		if e.Kind == event.Progress {
			if e.Done <= last.Done || e.Total != size {
				t.Errorf("progress %d of %d after %d; the size is %d", e.Done, e.Total, last.Done, size)
			}
			last = e
		}
	}
	return sink, func() {
		t.Helper()
		if last.Done != size {
			t.Errorf("the last progress was %d of %d", last.Done, size)
		}
	}
}

func left(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	peer.Must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestQCOW2HoldsTheDisk(t *testing.T) {
	raw, top := layers(t, 40*mib, 0, 20*mib)
	sink, ended := progressed(t, 40*mib)
	f, err := QCOW2(t.Context(), top, filepath.Join(t.TempDir(), "out.qcow2"), sink)
	peer.Must(t, err)
	ended()
	asTold(t, f)
	peer.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, f.Path)
	if said := peer.Run(t, "qemu-img", "info", "--output=json", f.Path); !strings.Contains(said, `"compression-type": "zstd"`) || strings.Contains(said, "backing") {
		t.Error(said)
	}
}

// xz itself reads it back, tests it and lists its blocks.
func TestXZHoldsTheDisk(t *testing.T) {
	peer.NeedTool(t, "xz", "cmp")
	for name, c := range map[string]struct {
		size   int64
		places []int64
		blocks int
	}{
		"zeros between":       {80*mib + 512, []int64{0, 50 * mib}, 6},
		"zeros first":         {64 * mib, []int64{63 * mib}, 4},
		"zeros at the end":    {50 * mib, []int64{1 * mib}, 4},
		"data at the end":     {50 * mib, []int64{50*mib - 512}, 4},
		"nothing but zeros":   {40 * mib, nil, 3},
		"no zeros":            {32 * mib, []int64{0, 16 * mib}, 2},
		"less than a block":   {3 * mib, []int64{mib}, 1},
		"a whole one, no end": {16 * mib, []int64{mib}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			raw, top := layers(t, c.size, c.places...)
			sink, ended := progressed(t, c.size)
			f, err := XZ(t.Context(), top, filepath.Join(t.TempDir(), "out.xz"), sink)
			peer.Must(t, err)
			ended()
			asTold(t, f)
			peer.Run(t, "xz", "-t", f.Path)
			peer.Run(t, "sh", "-c", `xz -dc "$0" | cmp - "$1"`, f.Path, raw)
			list := peer.Run(t, "xz", "--robot", "-lvv", f.Path)
			blocks := 0
			for line := range strings.Lines(list) {
				fields := strings.Fields(line)
				if fields[0] != "block" {
					continue
				}
				want := min(xzBlock, c.size-int64(blocks)*xzBlock)
				blocks++
				// Sizes stand in the block's own header, too (flags cu): so it can be unpacked alone.
				if fields[7] != fmt.Sprint(want) || fields[12] != "cu" {
					t.Errorf("%q, want %d", fields, want)
				}
			}
			if blocks != c.blocks {
				t.Errorf("%d blocks, want %d", blocks, c.blocks)
			}
		})
	}
}

// A disk of zeros costs no time that counts, whatever its size.
func TestXZOfZerosReadsNone(t *testing.T) {
	peer.NeedTool(t, "xz")
	path := filepath.Join(t.TempDir(), "top.qcow2")
	peer.Must(t, disk.Create(t.Context(), path, 1<<35))
	image, err := disk.Open(path, disk.QCOW2)
	peer.Must(t, err)
	defer image.Close()
	d := &dataBlocks{image: image, alive: t.Context().Err}
	if n, err := io.Copy(io.Discard, d); n != 0 || err != nil || len(d.passed()) != 1<<35/xzBlock {
		t.Errorf("%d bytes were read: %v", n, err)
	}
	f, err := XZ(t.Context(), path, path+".xz", nil)
	peer.Must(t, err)
	if list := peer.Run(t, "xz", "--robot", "-l", f.Path); !strings.Contains(list, fmt.Sprintf("\t%d\t%d\t%d\t", 1<<35/xzBlock, f.Size, 1<<35)) {
		t.Error(list)
	}
}

func TestBoxIsVagrants(t *testing.T) {
	raw, top := layers(t, 40*mib, 0, 20*mib)
	dir := t.TempDir()
	q, err := QCOW2(t.Context(), top, filepath.Join(dir, "out.qcow2"), nil)
	peer.Must(t, err)
	sink, ended := progressed(t, q.Size)
	f, err := Box(t.Context(), q.Path, filepath.Join(dir, "out.box"), sink)
	peer.Must(t, err)
	ended()
	asTold(t, f)
	again, err := Box(t.Context(), q.Path, filepath.Join(dir, "again.box"), nil)
	if err != nil || again.SHA512 != f.SHA512 {
		t.Errorf("a second box differs: %+v, %v", again, err)
	}
	peer.Run(t, "tar", "-C", dir, "-xf", f.Path)
	peer.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, filepath.Join(dir, "box.img"))
	text, err := os.ReadFile(filepath.Join(dir, "metadata.json"))
	peer.Must(t, err)
	var metadata map[string]any
	peer.Must(t, json.Unmarshal(text, &metadata))
	if diff := cmp.Diff(map[string]any{"provider": "libvirt", "format": "qcow2", "virtual_size": 1.0}, metadata); diff != "" {
		t.Error(diff)
	}
	box, err := os.Open(f.Path)
	peer.Must(t, err)
	defer box.Close()
	var names []string
	for r := tar.NewReader(box); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		peer.Must(t, err)
		names = append(names, h.Name)
	}
	if diff := cmp.Diff([]string{"metadata.json", "Vagrantfile", "box.img"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestFromTreeCopies(t *testing.T) {
	peer.NeedTool(t, "mke2fs")
	tree, content := t.TempDir(), strings.Repeat("kernel", 1<<18)
	peer.Must(t, os.WriteFile(filepath.Join(tree, "vmlinuz"), []byte(content), 0o600))
	path := filepath.Join(t.TempDir(), "ext4")
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", "-d", tree, path, "16M")
	image, err := os.Open(path)
	peer.Must(t, err)
	defer image.Close()
	system, err := ext4.Open(image, 16*mib)
	peer.Must(t, err)
	sink, ended := progressed(t, int64(len(content)))
	out := t.TempDir()
	f, err := FromTree(t.Context(), system.FS, "vmlinuz", filepath.Join(out, "kernel"), sink)
	peer.Must(t, err)
	ended()
	asTold(t, f)
	if got, err := os.ReadFile(f.Path); err != nil || string(got) != content {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := FromTree(t.Context(), system.FS, "initrd", filepath.Join(out, "initrd"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"kernel"}, left(t, out)); diff != "" {
		t.Error(diff)
	}
}

func TestBytes(t *testing.T) {
	f, err := Bytes(t.Context(), []byte("manifest"), filepath.Join(t.TempDir(), "manifest.json"))
	peer.Must(t, err)
	asTold(t, f)
	if got, err := os.ReadFile(f.Path); err != nil || string(got) != "manifest" {
		t.Errorf("%q, %v", got, err)
	}
}

// makers are all that write a file of a disk.
var makers = map[string]func(ctx context.Context, src, dst string, sink event.Sink) (File, error){"qcow2": QCOW2, "xz": XZ, "box": Box}

func TestACancelledPackLeavesNothing(t *testing.T) {
	peer.NeedTool(t, "xz")
	places := make([]int64, 600)
	for i := range places {
		places[i] = int64(i) * 100_000
	}
	_, top := layers(t, 64*mib, places...)
	stopped := errors.New("stopped")
	for name, pack := range makers {
		out := t.TempDir()
		ctx, cancel := context.WithCancelCause(t.Context())
		_, err := pack(ctx, top, filepath.Join(out, "out"), func(e event.Event) { cancel(stopped) })
		if !errors.Is(err, stopped) || len(left(t, out)) > 0 {
			t.Errorf("%s: %v, left %v", name, err, left(t, out))
		}
	}
}

func TestAFullDiskIsTold(t *testing.T) {
	peer.NeedRoot(t, "mounting")
	peer.NeedTool(t, "xz")
	_, top := layers(t, 4*mib, 0, 100_000, 200_000, 300_000)
	for name, pack := range makers {
		out := t.TempDir()
		err := unix.Mount("tmpfs", out, "tmpfs", 0, "size=64k")
		peer.Need(t, !errors.Is(err, unix.EPERM), "this container allows no mounts")
		peer.Must(t, err)
		_, err = pack(t.Context(), top, filepath.Join(out, "out"), nil)
		if err == nil || !strings.Contains(err.Error(), "no space is left in "+out) || name == "xz" && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", name, err)
		}
		if names := left(t, out); len(names) > 0 {
			t.Errorf("%s left %v", name, names)
		}
		peer.Must(t, unix.Unmount(out, 0))
	}
}

func TestWhatIsNoDiskIsAnError(t *testing.T) {
	peer.NeedTool(t, "xz")
	for name, pack := range makers {
		out := t.TempDir()
		if _, err := pack(t.Context(), filepath.Join(out, "none"), filepath.Join(out, "out"), nil); !errors.Is(err, os.ErrNotExist) || len(left(t, out)) > 0 {
			t.Errorf("%s: %v, left %v", name, err, left(t, out))
		}
	}
}
