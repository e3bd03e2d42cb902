package disk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"herdbook/internal/peer"
)

// marked is a sector whose every copy can be found in a file.
func marked(n int64) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("sector %08d mark", n)), 26)[:512]
}

// markedDisk makes an image of 24 MiB of which the sectors of a quarter of all are
// marked, the rest holes.
func markedDisk(t testing.TB, format Format, options ...string) (path string, content []byte) {
	t.Helper()
	content = make([]byte, 24*mib)
	for n := int64(0); n < int64(len(content))/512; n++ {
		if n/2048%4 == 1 || n/2048 == 10 {
			copy(content[n*512:], marked(n))
		}
	}
	raw := filepath.Join(t.TempDir(), "raw")
	peer.Must(t, os.WriteFile(raw, content, 0o644))
	path = raw + ".img"
	peer.Run(t, "qemu-img", append(append([]string{"convert", "-f", "raw", "-O", string(format)}, options...), raw, path)...)
	return path, content
}

func allocated(t testing.TB, path string) int64 {
	t.Helper()
	stat, err := os.Stat(path)
	peer.Must(t, err)
	return stat.Sys().(*syscall.Stat_t).Blocks * 512
}

// scattered is ranges of all kinds: small ones inside of a sector, a cluster, across
// some, whole ones, in holes.
func scattered(size int64) []Range {
	random := rand.New(rand.NewSource(7))
	ranges := []Range{{4 * mib, 2 * mib}, {mib + 100, 300}, {9*mib + 4096, 65536 + 4096}, {0, 4096}, {10 * mib, 0}, {size - 512, 512}}
	for range 60 {
		at := random.Int63n(size - 200000)
		ranges = append(ranges, Range{at, 1 + random.Int63n(200000)}, Range{at &^ 4095, 4096 * (1 + random.Int63n(20))})
	}
	return ranges
}

// Of the discarded sectors nothing is left, neither on the disk nor in the file; all
// else is as it was.
func TestDiscard(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	for name, c := range map[string]struct {
		format  Format
		options []string
	}{
		"raw":        {Raw, nil},
		"qcow2":      {QCOW2, nil},
		"version 2":  {QCOW2, []string{"-o", "compat=0.10"}},
		"512":        {QCOW2, []string{"-o", "cluster_size=512"}},
		"2M":         {QCOW2, []string{"-o", "cluster_size=2M"}},
		"compressed": {QCOW2, []string{"-c"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, content := markedDisk(t, c.format, c.options...)
			discardsAll(t, path, c.format, content)
		})
	}
}

// discardsAll discards scattered ranges of an image that has some content.
func discardsAll(t *testing.T, path string, format Format, content []byte) {
	t.Helper()
	size := int64(len(content))
	ranges := scattered(size)
	before, gone := allocated(t, path), map[int64]bool{}
	peer.Must(t, Discard(t.Context(), path, format, ranges))
	for _, r := range ranges {
		clear(content[r.Start:][:r.Size])
		for n := (r.Start + 511) / 512; (n+1)*512 <= r.Start+r.Size; n++ {
			gone[n] = true
		}
	}
	image, err := Open(path, format)
	peer.Must(t, err)
	defer image.Close()
	got, err := io.ReadAll(io.NewSectionReader(image, 0, size))
	peer.Must(t, err)
	if !bytes.Equal(got, content) {
		t.Error("the image reads other than zeros where it was discarded, or elsewhere")
	}
	sameAsQEMU(t, path, format)
	if err := ReadsZero(image, ranges); err != nil {
		t.Errorf("all is zero, but: %v", err)
	}
	file, err := os.ReadFile(path)
	peer.Must(t, err)
	for _, match := range regexp.MustCompile(`sector ([0-9]{8}) mark`).FindAllSubmatch(file, -1) {
		if n, err := strconv.ParseInt(string(match[1]), 10, 64); err != nil || gone[n] {
			t.Fatalf("%s is still in the file: %v", match[0], err)
		}
	}
	if format == QCOW2 {
		peer.Run(t, "qemu-img", "check", "-q", "-f", "qcow2", path)
	}
	if after := allocated(t, path); after > before-512<<10 && before > 4*mib {
		t.Errorf("%d bytes were allocated, now %d", before, after)
	}
}

// With all that they share blocks with, compressed clusters go, too.
func TestDiscardOfCompressedClusters(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	path, content := markedDisk(t, QCOW2, "-c")
	file, err := os.ReadFile(path)
	peer.Must(t, err)
	image, err := newQCOW2(bytes.NewReader(file), int64(len(file)))
	peer.Must(t, err)
	from, err := image.find(mib / image.block)
	peer.Must(t, err)
	packed := int64(from.entry & (1<<54 - 1)) // with clusters of 64 KiB
	if from.kind != blockPacked || bytes.Equal(file[packed:][:512], make([]byte, 512)) {
		t.Fatalf("the cluster at 1 MiB is not compressed: %+v", from)
	}
	// A part of the first becomes a cluster that is not compressed, when it is alone.
	peer.Must(t, Discard(t.Context(), path, QCOW2, []Range{{mib + 65536, int64(len(content)) - mib - 65536}, {mib + 4096, 61440}}))
	file, err = os.ReadFile(path)
	peer.Must(t, err)
	if !bytes.Equal(file[packed:][:512], make([]byte, 512)) {
		t.Error("its packed bytes are still there")
	}
	clear(content[mib+4096:])
	after, err := Open(path, QCOW2)
	peer.Must(t, err)
	defer after.Close()
	got, err := io.ReadAll(io.NewSectionReader(after, 0, after.Size()))
	peer.Must(t, err)
	if !bytes.Equal(got, content) {
		t.Error("other bytes")
	}
}

// What was in clusters that QEMU has freed, or lost, goes as well.
func TestDiscardErasesWhatIsFree(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	for _, options := range []string{"refcount_bits=16", "refcount_bits=1", "refcount_bits=2", "refcount_bits=4", "refcount_bits=8", "refcount_bits=64", "compat=0.10", "cluster_size=512"} {
		path, content := markedDisk(t, QCOW2, "-o", options)
		peer.Run(t, "qemu-io", "-d", "unmap", "-c", "discard 1M 1M", "-c", "discard 9M 2M", "--image-opts", "driver=qcow2,pass-discard-request=off,file.filename="+path)
		file, err := os.ReadFile(path)
		peer.Must(t, err)
		if !bytes.Contains(file, marked(3000)) {
			t.Fatalf("%s: QEMU erases by itself what is discarded", options)
		}
		clear(content[mib:][:mib])
		clear(content[9*mib:][:2*mib])
		peer.Must(t, Discard(t.Context(), path, QCOW2, nil))
		file, err = os.ReadFile(path)
		peer.Must(t, err)
		if bytes.Contains(file, marked(3000)) || bytes.Contains(file, marked(2048*10+7)) {
			t.Errorf("%s: it is still there", options)
		}
		image, err := Open(path, QCOW2)
		peer.Must(t, err)
		defer image.Close()
		got, err := io.ReadAll(io.NewSectionReader(image, 0, image.Size()))
		peer.Must(t, err)
		if !bytes.Equal(got, content) {
			t.Errorf("%s: the disk has other bytes", options)
		}
		peer.Run(t, "qemu-img", "check", "-q", "-f", "qcow2", path)
	}
}

// Counts of references that are wrong are not trusted.
func TestDiscardRefusesWrongCounts(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	path, content := markedDisk(t, QCOW2)
	wrong := edit(t, path, "wrong", func(p []byte) {
		block := binary.BigEndian.Uint64(p[binary.BigEndian.Uint64(p[48:]):])
		clear(p[block+2*20:][:2*8]) // of eight clusters
	})
	if err := Discard(t.Context(), wrong, QCOW2, nil); err == nil || !strings.Contains(err.Error(), "qemu-img check") {
		t.Errorf("wrong counts: %v", err)
	}
	image, err := Open(wrong, QCOW2)
	peer.Must(t, err)
	defer image.Close()
	got, err := io.ReadAll(io.NewSectionReader(image, 0, image.Size()))
	peer.Must(t, err)
	if !bytes.Equal(got, content) {
		t.Error("the disk has other bytes")
	}
}

// What is behind an image stays, but does not shine through.
func TestDiscardInAnOverlay(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	base, content := markedDisk(t, QCOW2)
	was, err := os.ReadFile(base)
	peer.Must(t, err)
	top := base + ".top"
	peer.Must(t, CreateOverlay(t.Context(), top, base, QCOW2, 0))
	peer.Run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 5 9M 1M", top)
	copy(content[9*mib:], bytes.Repeat([]byte{5}, mib))
	discardsAll(t, top, QCOW2, content)
	if now, err := os.ReadFile(base); err != nil || !bytes.Equal(now, was) {
		t.Errorf("the image behind was changed: %v", err)
	}
}

func TestDiscardWritesNothingWhereNothingIs(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	path := filepath.Join(t.TempDir(), "empty")
	peer.Must(t, Create(t.Context(), path, 1<<40))
	before, err := os.ReadFile(path)
	peer.Must(t, err)
	peer.Must(t, Discard(t.Context(), path, QCOW2, []Range{{0, 1 << 40}}))
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the image has changed: %v", err)
	}
}

func TestDiscardRefuses(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	path, _ := markedDisk(t, QCOW2)
	snapshots, _ := markedDisk(t, QCOW2)
	peer.Run(t, "qemu-img", "snapshot", "-c", "one", snapshots)
	full := []Range{{0, 24 * mib}}
	for name, c := range map[string]struct {
		path   string
		format Format
		ranges []Range
		want   string
	}{
		"snapshots": {snapshots, QCOW2, full, "internal snapshots"},
		"behind":    {path, QCOW2, []Range{{0, mib}, {24*mib - 511, 512}}, "do not lie"},
		"before":    {path, QCOW2, []Range{{-1, 2}}, "do not lie"},
		"negative":  {path, QCOW2, []Range{{mib, -2}}, "do not lie"},
		"overflow":  {path, Raw, []Range{{1 << 62, 1<<63 - 1}}, "do not lie"},
		"vmdk":      {path, VMDK, full, "raw, qcow2"},
		"a dir":     {filepath.Dir(path), Raw, nil, "regular"},
	} {
		before, err := os.ReadFile(path)
		peer.Must(t, err)
		if err := Discard(t.Context(), c.path, c.format, c.ranges); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
			t.Errorf("%s: the image has changed: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, format := range []Format{Raw, QCOW2} {
		path, _ := markedDisk(t, format)
		if err := Discard(ctx, path, format, full); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %s: %v", format, err)
		}
	}
}

// An image that a machine is running on is left alone.
func TestDiscardOfAnImageInUse(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	for _, format := range []Format{Raw, QCOW2} {
		path, _ := markedDisk(t, format)
		before, err := os.ReadFile(path)
		peer.Must(t, err)
		cmd := exec.Command("qemu-io", "-f", string(format), path)
		in, err := cmd.StdinPipe()
		peer.Must(t, err)
		out, err := cmd.StdoutPipe()
		peer.Must(t, err)
		peer.Must(t, cmd.Start())
		_, err = fmt.Fprintln(in, "length")
		peer.Must(t, err)
		for line := bufio.NewReader(out); ; { // it has opened the image when it tells the size
			text, err := line.ReadString('\n')
			peer.Must(t, err)
			if strings.Contains(text, "MiB") {
				break
			}
		}
		if err := Discard(t.Context(), path, format, []Range{{0, 24 * mib}}); err == nil || !strings.Contains(err.Error(), "lock") {
			t.Errorf("%s: %v", format, err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
			t.Errorf("%s: the image has changed: %v", format, err)
		}
		peer.Must(t, in.Close())
		peer.Must(t, cmd.Wait())
		peer.Must(t, Discard(t.Context(), path, format, []Range{{0, 24 * mib}}))
	}
}

func TestWriteZeros(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	peer.Must(t, os.WriteFile(path, bytes.Repeat([]byte{7}, 300000), 0o644))
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	peer.Must(t, err)
	defer file.Close()
	peer.Must(t, writeZeros(t.Context(), file, Range{1000, 200001}))
	got, err := os.ReadFile(path)
	peer.Must(t, err)
	want := bytes.Repeat([]byte{7}, 300000)
	clear(want[1000:][:200001])
	if !bytes.Equal(got, want) {
		t.Error("other bytes are zeros")
	}
}

func TestReadsZero(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	for _, c := range []struct {
		format  Format
		options []string
	}{{Raw, nil}, {QCOW2, nil}, {QCOW2, []string{"-c"}}, {VMDK, nil}, {VMDK, []string{"-o", "subformat=streamOptimized"}}, {VHDX, nil}, {VDI, nil}} {
		path, content := markedDisk(t, c.format, c.options...)
		if c.format == QCOW2 {
			top := path + ".top"
			peer.Must(t, CreateOverlay(t.Context(), top, path, QCOW2, int64(len(content))+5*mib))
			content = append(content, make([]byte, 5*mib)...)
			path = top
		}
		image, err := Open(path, c.format)
		peer.Must(t, err)
		defer image.Close()
		random := rand.New(rand.NewSource(3))
		for range 300 {
			r := Range{Start: random.Int63n(int64(len(content)))}
			r.Size = min(random.Int63n(2*mib), int64(len(content))-r.Start)
			first := bytes.IndexFunc(content[r.Start:][:r.Size], func(r rune) bool { return r != 0 })
			switch err := ReadsZero(image, []Range{{0, 100}, r}); {
			case first < 0 && err != nil:
				t.Errorf("%s: %+v is zeros, but: %v", c.format, r, err)
			case first >= 0 && (err == nil || !strings.Contains(err.Error(), fmt.Sprintf("byte %d is", r.Start+int64(first)))):
				t.Errorf("%s: %+v has a byte at %d, but: %v", c.format, r, r.Start+int64(first), err)
			}
		}
		if err := ReadsZero(image, []Range{{0, int64(len(content)) + 1}}); err == nil {
			t.Errorf("%s: a range behind the end reads as zeros", c.format)
		}
	}
}

// An image of 60 TiB that holds nothing takes no time.
func TestReadsZeroOfHoles(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	path := filepath.Join(t.TempDir(), "x")
	peer.Must(t, os.WriteFile(path, nil, 0o644))
	peer.Must(t, os.Truncate(path, 8<<40))
	image, err := Open(path, Raw)
	peer.Must(t, err)
	defer image.Close()
	peer.Must(t, ReadsZero(image, []Range{{0, 8 << 40}}))
}

func TestResize(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	base, content := markedDisk(t, QCOW2)
	small := base + ".small" // less than what is behind it
	peer.Must(t, CreateOverlay(t.Context(), small, base, QCOW2, mib))
	raw, _ := markedDisk(t, Raw)
	flat, _ := markedDisk(t, QCOW2)
	for path, c := range map[string]struct {
		format Format
		have   int64
	}{small: {QCOW2, mib}, raw: {Raw, 24 * mib}, flat: {QCOW2, 24 * mib}} {
		for _, size := range []int64{24*mib + 512, 24*mib + 512, 30 * mib} {
			peer.Must(t, Resize(t.Context(), path, c.format, size))
			image, err := Open(path, c.format)
			peer.Must(t, err)
			got, err := io.ReadAll(io.NewSectionReader(image, 0, image.Size()))
			peer.Must(t, err)
			want := append(bytes.Clone(content[:c.have]), make([]byte, size-c.have)...)
			if !bytes.Equal(got, want) {
				t.Errorf("%s of %d bytes, want %d: other bytes", c.format, len(got), size)
			}
			peer.Must(t, image.Close())
		}
		for size, want := range map[int64]string{30*mib - 512: "would be lost", 30*mib + 1: "sectors"} {
			if err := Resize(t.Context(), path, c.format, size); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s to %d: %v, want %q", c.format, size, err, want)
			}
		}
	}
	if err := Resize(t.Context(), base, VDI, 40*mib); err == nil {
		t.Error("a vdi was resized")
	}
}

// Of an overlay only that is its own which was written to it.
func TestOwn(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	dir := t.TempDir()
	base, top := filepath.Join(dir, "base.qcow2"), filepath.Join(dir, "top.qcow2")
	peer.Must(t, Create(t.Context(), base, 16<<20))
	peer.Run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 1 0 8M", base)
	peer.Must(t, CreateOverlay(t.Context(), top, "base.qcow2", QCOW2, 0))
	peer.Run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 2 1M 64k", "-c", "write -z 2M 64k", "-c", "write -P 3 9M 128k", top)
	image, err := Open(top, QCOW2)
	peer.Must(t, err)
	got, err := Own(image, []Range{{0, 1<<20 + 4096}, {2 << 20, 1 << 20}, {9<<20 + 512, 7<<20 - 512}})
	peer.Must(t, err)
	want := []Range{{1 << 20, 4096}, {9<<20 + 512, 128<<10 - 512}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	peer.Must(t, errors.Join(image.Close(), Discard(t.Context(), top, QCOW2, got)))
	// What was its own reads as zeros, and all else as before: what lies in the same
	// cluster, too.
	peer.Run(t, "qemu-io", "-f", "qcow2", "-c", "read -P 0 1M 4k", "-c", "read -P 2 1028k 60k", "-c", "read -P 1 2112k 64k", "-c", "read -P 3 9M 512",
		"-c", "read -P 0 9437696 130560", "-c", "read -P 1 0 1M", top)
	raw := filepath.Join(dir, "raw")
	peer.Must(t, os.WriteFile(raw, make([]byte, 4096), 0o600))
	image, err = Open(raw, Raw)
	peer.Must(t, err)
	defer image.Close()
	if got, err = Own(image, want); err != nil || !slices.Equal(got, want) {
		t.Errorf("of a raw image %v: %v", got, err)
	}
}
