package unpack

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"herdbook/internal/event"
	"herdbook/internal/peer"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// rawDisk returns a disk of 8 MiB and a bit: a boot sector, bytes, and holes.
func rawDisk() []byte {
	p := make([]byte, 8<<20+512)
	rand.New(rand.NewSource(3)).Read(p[1<<20:][:2<<20])
	copy(p[6<<20+5:], "a word in the middle of nowhere")
	p[510], p[511] = 0x55, 0xAA
	return p
}

func write(t testing.TB, path string, content []byte) string {
	t.Helper()
	peer.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	peer.Must(t, os.WriteFile(path, content, 0o644))
	return path
}

// shell runs a line of sh in a directory.
func shell(t testing.TB, dir, line string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", line)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

func left(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	entries, err := os.ReadDir(dir)
	peer.Must(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// inputs makes a directory with a disk and what stands beside disks in archives.
func inputs(t testing.TB) (dir string, content []byte) {
	t.Helper()
	peer.NeedTool(t, "sh", "gzip", "xz", "zstd", "bzip2", "tar", "qemu-img")
	dir, content = t.TempDir(), rawDisk()
	write(t, filepath.Join(dir, "disk.raw"), content)
	write(t, filepath.Join(dir, "noise"), content[1<<20:][:1<<20])
	write(t, filepath.Join(dir, "x.ovf"), []byte("<?xml version='1.0'?><Envelope/>\n"))
	write(t, filepath.Join(dir, "x.mf"), []byte("SHA256(x.ovf)= 00\n"))
	shell(t, dir, "qemu-img convert -f raw -O vmdk -o subformat=streamOptimized disk.raw x.vmdk; cp disk.raw other.raw; ln -s /etc/passwd link")
	return dir, content
}

func TestDisk(t *testing.T) {
	dir, content := inputs(t)
	vmdk, err := os.ReadFile(filepath.Join(dir, "x.vmdk"))
	peer.Must(t, err)
	for _, c := range []struct {
		line   string // makes out
		packed string
		name   string
		want   []byte
	}{
		{"gzip -c disk.raw", "gzip", "", content},
		{"xz -0 -c disk.raw", "xz", "", content},
		{"xz -0 -T2 --block-size=1MiB -c disk.raw", "xz", "", content},
		{"zstd -q -c disk.raw", "zstd", "", content},
		{"zstd -q -1 --long=27 -c disk.raw", "zstd", "", content},
		{"bzip2 -c disk.raw", "bzip2", "", content},
		{"head -c 1000000 disk.raw | gzip -c; tail -c +1000001 disk.raw | gzip -c", "gzip", "", content},
		{"head -c 1000000 disk.raw | xz -0 -c; tail -c +1000001 disk.raw | xz -0 -c", "xz", "", content},
		{"head -c 1000000 disk.raw | zstd -qc; tail -c +1000001 disk.raw | zstd -qc", "zstd", "", content},
		{"head -c 1000000 disk.raw | bzip2 -c; tail -c +1000001 disk.raw | bzip2 -c", "bzip2", "", content},
		{`printf '\120\52\115\30\4\0\0\0xxxx'; zstd -q -c disk.raw`, "zstd", "", content},
		{"gzip -c x.vmdk", "gzip", "", vmdk},
		{"gzip -c disk.raw | xz -0 -c", "xz gzip", "", content},
		{"tar -c disk.raw", "tar", "disk.raw", content},
		{"tar -c --format=oldgnu -S disk.raw | gzip -c", "gzip tar", "disk.raw", content}, // as GCE wants it
		{"tar -c --format=posix -S disk.raw | zstd -qc", "zstd tar", "disk.raw", content},
		{"tar -c --format=ustar x.ovf x.mf x.vmdk", "tar", "x.vmdk", vmdk}, // an OVA
		{"tar -c --format=ustar noise x.ovf x.vmdk", "tar", "x.vmdk", vmdk},
		{"gzip -c x.vmdk > x.vmdk.gz; tar -c x.ovf x.vmdk.gz", "tar gzip", "x.vmdk.gz", vmdk},
		{"xz -0 -c disk.raw > d.xz; tar -c d.xz x.ovf | xz -0 -c", "xz tar xz", "d.xz", content},
		{"tar -c -P --transform='s,^,../../../,' --show-transformed link disk.raw", "tar", "../../../disk.raw", content},
		{"tar -c noise link", "tar", "noise", content[1<<20:][:1<<20]}, // the only file
	} {
		t.Run(c.line, func(t *testing.T) {
			shell(t, dir, "( "+c.line+" ) > out")
			into := t.TempDir()
			var events []event.Event
			image, err := Disk(t.Context(), filepath.Join(dir, "out"), into, Options{Limit: int64(len(content)), Sink: collect(&events)})
			peer.Must(t, err)
			if diff := cmp.Diff(&Image{Path: image.Path, Packed: strings.Fields(c.packed), Name: c.name}, image); diff != "" {
				t.Error(diff)
			}
			if names := left(t, into); len(names) != 1 || filepath.Join(into, names[0]) != image.Path {
				t.Errorf("%v in the directory, %s was returned", names, image.Path)
			}
			got, err := os.ReadFile(image.Path)
			peer.Must(t, err)
			if !bytes.Equal(got, c.want) {
				t.Errorf("%d bytes, want %d: they differ", len(got), len(c.want))
			}
			stat, err := os.Stat(image.Path)
			peer.Must(t, err)
			if used := stat.Sys().(*syscall.Stat_t).Blocks * 512; used > 5<<20 {
				t.Errorf("%d bytes of %d are used: no holes", used, stat.Size())
			}
			packed, err := os.Stat(filepath.Join(dir, "out"))
			peer.Must(t, err)
			var done int64
			for _, e := range events {
				if e.Kind != event.Progress || e.Done <= done || e.Total != packed.Size() {
					t.Errorf("%+v after %d of %d bytes", e, done, packed.Size())
				}
				done = e.Done
			}
			if done == 0 || done > packed.Size() {
				t.Errorf("progress ends at %d of %d bytes", done, packed.Size())
			}
		})
	}
}

func collect(events *[]event.Event) event.Sink {
	return func(e event.Event) { *events = append(*events, e) }
}

func TestDiskThatIsNotPacked(t *testing.T) {
	dir, _ := inputs(t)
	into := t.TempDir()
	for _, name := range []string{"disk.raw", "x.vmdk", "noise", "x.mf"} {
		image, err := Disk(t.Context(), filepath.Join(dir, name), into, Options{})
		if diff := cmp.Diff(&Image{Path: filepath.Join(dir, name)}, image); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	if names := left(t, into); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestWhatFollowsAGzipFileIsIgnored(t *testing.T) {
	dir, content := inputs(t)
	shell(t, dir, "(gzip -c disk.raw; echo '{\"metadata\": 1}') > out")
	var events []event.Event
	image, err := Disk(t.Context(), filepath.Join(dir, "out"), t.TempDir(), Options{Sink: collect(&events)})
	peer.Must(t, err)
	got, err := os.ReadFile(image.Path)
	peer.Must(t, err)
	if !bytes.Equal(got, content) {
		t.Error("the disk differs")
	}
	if !slices.ContainsFunc(events, func(e event.Event) bool {
		return e.Kind == event.Notice && strings.HasPrefix(e.Text, "16 bytes that follow")
	}) {
		t.Errorf("no notice in %+v", events)
	}
}

func TestDiskRefuses(t *testing.T) {
	dir, _ := inputs(t)
	shell(t, dir, `mkdir many names; for i in $(seq 1001); do : > many/$i; done
		for i in $(seq 20); do echo $i > names/$i$(printf '%0200d' 0); done`)
	for _, c := range []struct {
		line string
		is   error
		want string
	}{
		{"tar -c disk.raw other.raw x.ovf", ErrNotOne, `it holds 2: "disk.raw", "other.raw"; pack`},
		{"tar -c x.vmdk disk.raw | xz -0 -c", ErrNotOne, `"x.vmdk", "disk.raw"`},
		{"gzip -c disk.raw > d.gz; tar -c d.gz other.raw", ErrNotOne, `"d.gz", "other.raw"`},
		{"tar -c x.ovf x.mf noise", ErrNotOne, `none of its 3 files is known for one: "x.ovf", "x.mf", "noise"`},
		{"tar -c link many/1", nil, ""}, // an empty one, but one
		{"tar -c link", ErrNotOne, "holds no files"},
		{"tar -c many", ErrNotOne, "more than 1000 members"},
		{"tar -c names", ErrNotOne, `0", …`},
		{"printf '\\37\\213\\10\\377'; gzip -c disk.raw", nil, "gzip: "},
		{"gzip -c disk.raw | gzip -c | gzip -c | gzip -c | gzip -c", nil, "more than 4 things packed"},
		{"truncate -s 20M big; gzip -c big", ErrTooLarge, "limit"},
		{"truncate -s 20M big; tar -c big", ErrTooLarge, `"big" has 20971520 bytes`},
		{"truncate -s 20M big; tar -cS big", ErrTooLarge, `"big" has 20971520 bytes`},
		{"truncate -s 20M big; xz -0 -c big | zstd -qc", ErrTooLarge, "limit"},
		{"truncate -s 40M big; (tar -c disk.raw; cat big) | xz -0 -c", ErrTooLarge, "limit"},
		{"gzip -c disk.raw | head -c 1000000", io.ErrUnexpectedEOF, "is it cut short"},
		{"gzip -c disk.raw | head -c -1", io.ErrUnexpectedEOF, "is it cut short"},
		{"zstd -q -c disk.raw | head -c 1000000", io.ErrUnexpectedEOF, "is it cut short"},
		{"zstd -q --check -c disk.raw | head -c -1", io.ErrUnexpectedEOF, "is it cut short"},
		{"bzip2 -c disk.raw | head -c 1000000", io.ErrUnexpectedEOF, "is it cut short"},
		{"tar -c disk.raw | head -c 1000000", io.ErrUnexpectedEOF, "is it cut short"},
		{"xz -0 -c disk.raw | head -c 1000000", nil, "Unexpected end of input"},
		{"xz -0 -c disk.raw | head -c -1", nil, "Unexpected end of input"},
		{"xz -0 -c disk.raw; echo rest", nil, "xz: "},
		{"gzip -c disk.raw | head -c 1500000; head -c 1000 x.vmdk; gzip -c disk.raw | tail -c +1501001", nil, "gzip: "},
		{"xz -0 -c disk.raw | head -c 1500000; head -c 1000 x.vmdk; xz -0 -c disk.raw | tail -c +1501001", nil, "corrupt"},
		{"zstd -q --check -c disk.raw | head -c 1500000; head -c 1000 x.vmdk; zstd -q --check -c disk.raw | tail -c +1501001", nil, "zstd: "},
		{"bzip2 -c disk.raw | head -c 1500000; head -c 1000 x.vmdk; bzip2 -c disk.raw | tail -c +1501001", nil, "bzip2: "},
	} {
		shell(t, dir, "( "+c.line+" ) > out")
		into := t.TempDir()
		_, err := Disk(t.Context(), filepath.Join(dir, "out"), into, Options{Limit: 8<<20 + 512})
		if c.want == "" {
			peer.Must(t, err)
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v, want %q", c.line, err, c.want)
		}
		if err != nil && len(err.Error()) > 1500 {
			t.Errorf("%s: an error of %d bytes", c.line, len(err.Error()))
		}
		if names := left(t, into); len(names) != 0 {
			t.Errorf("%s: left behind: %v", c.line, names)
		}
	}
}

func TestACancelledDiskLeavesNothing(t *testing.T) {
	dir, _ := inputs(t)
	for _, line := range []string{
		"gzip -c disk.raw", "xz -0 -c disk.raw", "zstd -q -c disk.raw", "bzip2 -c disk.raw", "tar -c disk.raw", "tar -c disk.raw | xz -0 -c",
		"truncate -s 1T huge; tar -cS huge | gzip -c", // a small file, and hours of zeros
	} {
		shell(t, dir, line+" > out")
		into := t.TempDir()
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the user went away")
		_, err := Disk(ctx, filepath.Join(dir, "out"), into, Options{Sink: func(event.Event) { cancel(why) }})
		if !errors.Is(err, why) {
			t.Errorf("%s: %v", line, err)
		}
		if names := left(t, into); len(names) != 0 {
			t.Errorf("%s: left behind: %v", line, names)
		}
		cancel(nil)
	}
}

func TestAFullDirectoryIsNamed(t *testing.T) {
	peer.NeedRoot(t, "a small file system")
	dir, _ := inputs(t)
	shell(t, dir, "gzip -c disk.raw > out")
	into := t.TempDir()
	peer.OwnMounts(t)
	peer.Must(t, syscall.Mount("tmpfs", into, "tmpfs", 0, "size=1M"))
	t.Cleanup(func() { peer.Must(t, syscall.Unmount(into, 0)) })
	_, err := Disk(t.Context(), filepath.Join(dir, "out"), into, Options{})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "no space is left for the disk in "+into) {
		t.Errorf("%v", err)
	}
	if names := left(t, into); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestXZIsMissing(t *testing.T) {
	src := write(t, filepath.Join(t.TempDir(), "x"), []byte("\xfd7zXZ\x00 and so on"))
	t.Setenv("PATH", "")
	into := t.TempDir()
	if _, err := Disk(t.Context(), src, into, Options{}); !errors.Is(err, ErrNoXZ) {
		t.Error(err)
	}
	if _, err := Disk(t.Context(), into, into, Options{}); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("a directory: %v", err)
	}
}

func FuzzDisk(f *testing.F) {
	dir := f.TempDir()
	small := make([]byte, 20<<10)
	small[510], small[511] = 0x55, 0xAA
	write(f, filepath.Join(dir, "a"), small)
	write(f, filepath.Join(dir, "b"), []byte("text"))
	for _, line := range []string{"gzip -c a", "zstd -qc a", "bzip2 -c a", "tar -c a", "tar -c b a", "tar -cS --format=posix a | gzip -c", "gzip -c a > c; tar -c c"} {
		shell(f, dir, "( "+line+" ) > out")
		p, err := os.ReadFile(filepath.Join(dir, "out"))
		peer.Must(f, err)
		f.Add(p)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	peer.Must(f, w.WriteHeader(&tar.Header{Name: "../x", Typeflag: tar.TypeSymlink, Linkname: "/etc"}))
	peer.Must(f, w.WriteHeader(&tar.Header{Name: "../x/y", Typeflag: tar.TypeReg, Size: 4}))
	fmt.Fprint(w, "text")
	peer.Must(f, w.Close())
	f.Add(archive.Bytes())
	f.Fuzz(func(t *testing.T, p []byte) {
		if bytes.Contains(p, []byte("\xfd7zXZ\x00")) {
			t.Skip("a program for every try takes too long")
		}
		dir := t.TempDir()
		src, into := write(t, filepath.Join(dir, "src"), p), filepath.Join(dir, "into")
		peer.Must(t, os.Mkdir(into, 0o755))
		image, err := Disk(t.Context(), src, into, Options{Limit: 1 << 20})
		if names := left(t, dir); !slices.Equal(names, []string{"into", "src"}) {
			t.Fatalf("written outside: %v", names)
		}
		names := left(t, into)
		switch {
		case err != nil || image.Packed == nil:
			if len(names) != 0 {
				t.Errorf("left behind: %v, %v", names, err)
			}
		case len(names) != 1 || image.Path != filepath.Join(into, names[0]):
			t.Errorf("%v in the directory, %s was returned", names, image.Path)
		default:
			stat, err := os.Lstat(image.Path)
			if err != nil || !stat.Mode().IsRegular() || stat.Size() > 1<<20 {
				t.Errorf("%v, %v", stat, err)
			}
		}
	})
}
