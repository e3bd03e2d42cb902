package workpiece

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/disk"
	"herdbook/internal/peer"
)

const size = 8 << 20

// image makes an image whose disk begins with a boot sector, and has a pattern
// in its middle.
func image(t *testing.T, format string, options ...string) Piece {
	t.Helper()
	peer.NeedTool(t, "qemu-img", "qemu-io")
	raw := filepath.Join(t.TempDir(), "raw")
	content := make([]byte, size)
	content[510], content[511] = 0x55, 0xAA
	copy(content[4<<20:], bytes.Repeat([]byte("before"), 10000))
	peer.Must(t, os.WriteFile(raw, content, 0o640))
	path := filepath.Join(t.TempDir(), "image: with, signs")
	if format == "raw" {
		path = raw
	} else {
		peer.Run(t, "qemu-img", append(append([]string{"convert", "-f", "raw", "-O", format}, options...), raw, "file:"+path)...)
		peer.Must(t, os.Chmod(path, 0o640))
	}
	p, err := Find(path, Options{})
	peer.Must(t, err)
	if string(p.Format) != format {
		t.Fatalf("%s is taken for %s", format, p.Format)
	}
	return p
}

func sum(t *testing.T, path string) string {
	t.Helper()
	p, err := os.ReadFile(path)
	peer.Must(t, err)
	return fmt.Sprintf("%x", sha256.Sum256(p))
}

// scribble changes an overlay as a machine would.
func scribble(t *testing.T, overlay string) {
	t.Helper()
	peer.Run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 0x61 5M 64k", "-c", "write -z 4M 64k", overlay)
}

// holds reads the piece and compares.
func holds(t *testing.T, p Piece, changed bool) {
	t.Helper()
	r, err := p.Read()
	peer.Must(t, err)
	got := make([]byte, r.Size())
	if _, err := r.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	peer.Must(t, r.Close())
	want := make([]byte, size)
	want[510], want[511] = 0x55, 0xAA
	if changed {
		copy(want[5<<20:], bytes.Repeat([]byte("a"), 64<<10))
	} else {
		copy(want[4<<20:], bytes.Repeat([]byte("before"), 10000))
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s of %d bytes does not hold what it should (changed: %v)", p.Format, len(got), changed)
	}
}

// alone holds that nothing is left beside the image.
func alone(t *testing.T, p Piece) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(filepath.Dir(p.Path), ".*"))
	peer.Must(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestChange(t *testing.T) {
	for _, kind := range []string{"raw", "qcow2", "vmdk", "vmdk subformat=streamOptimized", "vhdx", "vdi"} {
		t.Run(kind, func(t *testing.T) {
			format, options, _ := strings.Cut(kind, " ")
			var of []string
			if options != "" {
				of = []string{"-o", options}
			}
			p := image(t, format, of...)
			holds(t, p, false)
			before := sum(t, p.Path)
			failure := errors.New("no")
			for what, work := range map[string]func(string) (bool, error){
				"fails":    func(o string) (bool, error) { scribble(t, o); return true, failure },
				"is a try": func(o string) (bool, error) { scribble(t, o); return false, nil },
			} {
				if err := p.Change(t.Context(), work); err != nil && !errors.Is(err, failure) {
					t.Error(err)
				}
				if sum(t, p.Path) != before {
					t.Errorf("work that %s changed the image", what)
				}
				alone(t, p)
			}
			peer.Must(t, p.Change(t.Context(), func(o string) (bool, error) { scribble(t, o); return true, nil }))
			holds(t, p, true)
			alone(t, p)
			if stat, err := os.Stat(p.Path); err != nil || stat.Mode().Perm() != 0o640 {
				t.Errorf("%v, %v", stat.Mode(), err)
			}
			if again, err := Find(p.Path, Options{}); err != nil || again != p {
				t.Errorf("%v, %v", again, err)
			}
			if options != "" && !strings.Contains(peer.Run(t, "qemu-img", "info", "file:"+p.Path), strings.TrimPrefix(options, "subformat=")) {
				t.Errorf("the image is not of the kind any more that it was")
			}
		})
	}
}

// An overlay that grew makes the image grow.
func TestChangeGrows(t *testing.T) {
	for _, format := range []string{"raw", "qcow2"} {
		p := image(t, format)
		peer.Must(t, p.Change(t.Context(), func(o string) (bool, error) {
			peer.Run(t, "qemu-img", "resize", "-q", "-f", "qcow2", o, "12M")
			return true, nil
		}))
		r, err := p.Read()
		peer.Must(t, err)
		if r.Size() != 12<<20 {
			t.Errorf("%s has %d bytes", format, r.Size())
		}
		peer.Must(t, r.Close())
	}
}

// A herdbook that was killed after the change was made leaves it to the next one.
func TestRedo(t *testing.T) {
	p := image(t, "raw")
	peer.Must(t, disk.CreateOverlay(t.Context(), p.redo(), p.Path, p.Format, 0))
	scribble(t, p.redo())
	peer.Must(t, os.WriteFile(p.overlay(), []byte("half of an overlay"), 0o644))
	holds(t, p, true) // through the redo file
	peer.Must(t, p.Change(t.Context(), func(string) (bool, error) {
		locked(t, p)
		return false, nil
	}))
	alone(t, p)
	holds(t, p, true)
}

// locked holds that no machine can write to the piece.
func locked(t *testing.T, p Piece) {
	t.Helper()
	out, err := exec.Command("qemu-io", "-f", string(p.Format), "-c", "write 0 1k", "file:"+p.Path).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "lock") {
		t.Errorf("a machine could write to it: %v\n%s", err, out)
	}
}

// What is looked for before the file itself is written to cannot change meanwhile.
func TestAlone(t *testing.T) {
	p := image(t, "raw")
	peer.Must(t, disk.CreateOverlay(t.Context(), p.redo(), p.Path, p.Format, 0))
	scribble(t, p.redo())
	seen := make([]byte, 1)
	peer.Must(t, p.Alone(t.Context(), func(d *disk.Image) error {
		locked(t, p)
		_, err := d.ReadAt(seen, 5<<20) // what waited is written
		return err
	}, func() error {
		return disk.Discard(t.Context(), p.Path, p.Format, []disk.Range{{Start: 5 << 20, Size: 32 << 10}})
	}))
	if seen[0] != 'a' {
		t.Errorf("it saw %q", seen)
	}
	r, err := p.Read()
	peer.Must(t, err)
	peer.Must(t, errors.Join(disk.ReadsZero(r.Image, []disk.Range{{Start: 5 << 20, Size: 32 << 10}}), r.Close()))
	failure := errors.New("no")
	err = p.Alone(t.Context(), func(*disk.Image) error { return failure }, func() error { t.Error("it was written to"); return nil })
	if !errors.Is(err, failure) {
		t.Error(err)
	}
	alone(t, p)
}

func TestInterruptedWorkChangesNothing(t *testing.T) {
	p := image(t, "qcow2")
	before := sum(t, p.Path)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	err := p.Change(ctx, func(o string) (bool, error) { scribble(t, o); cancel(why); return true, nil })
	if !errors.Is(err, why) || sum(t, p.Path) != before {
		t.Errorf("%v", err)
	}
	alone(t, p)
}

// Nobody else may use the image: no other herdbook, and no machine.
func TestInUse(t *testing.T) {
	p := image(t, "qcow2")
	peer.Must(t, p.Change(t.Context(), func(string) (bool, error) {
		if _, err := p.Read(); !errors.Is(err, ErrInUse) {
			t.Errorf("read while it is changed: %v", err)
		}
		if err := p.Change(t.Context(), nil); !errors.Is(err, ErrInUse) {
			t.Errorf("changed twice: %v", err)
		}
		locked(t, p)
		return false, nil
	}))
	r, err := p.Read()
	peer.Must(t, err)
	again, err := p.Read()
	peer.Must(t, err)
	peer.Must(t, errors.Join(r.Close(), again.Close()))

	stop := machine(t, p)
	if _, err := p.Read(); !errors.Is(err, ErrInUse) {
		t.Errorf("read while a machine writes: %v", err)
	}
	if err := p.Change(t.Context(), nil); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "a machine writes to it") {
		t.Errorf("changed while a machine writes: %v", err)
	}
	stop()
	holds(t, p, false)
}

// machine stands for one that runs: qemu-io has opened the image, and waits to be
// told what to do.
func machine(t *testing.T, p Piece) (stop func()) {
	t.Helper()
	cmd := exec.Command("qemu-io", "-f", "qcow2", "file:"+p.Path)
	in, err := cmd.StdinPipe()
	peer.Must(t, err)
	out, err := cmd.StdoutPipe()
	peer.Must(t, err)
	peer.Must(t, cmd.Start())
	_, err = io.WriteString(in, "length\n")
	peer.Must(t, err)
	_, err = bufio.NewReader(out).ReadString('B') // "8 MiB": it has opened the image
	peer.Must(t, err)
	return func() { peer.Must(t, errors.Join(in.Close(), cmd.Wait())) }
}

func TestFindRefuses(t *testing.T) {
	p := image(t, "raw")
	overlay := filepath.Join(t.TempDir(), "overlay")
	peer.Must(t, disk.CreateOverlay(t.Context(), overlay, p.Path, disk.Raw, 0))
	if _, err := Find(overlay, Options{}); !errors.Is(err, disk.ErrRefused) {
		t.Errorf("%v", err)
	}
	on, err := Find(overlay, Options{Backing: true})
	peer.Must(t, err)
	holds(t, on, false)
	link := filepath.Join(t.TempDir(), "link")
	peer.Must(t, os.Symlink(p.Path, link))
	if linked, err := Find(link, Options{}); err != nil || linked != p {
		t.Errorf("%v, %v", linked, err)
	}
	for path, want := range map[string]string{
		"/nonexistent": "no such file", t.TempDir(): "no regular file", "/dev/null": "no regular file",
	} {
		if _, err := Find(path, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
