package artefact

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/filesystem/readertest"
	"herdbook/internal/inspection"
	"herdbook/internal/peer"
	"herdbook/internal/store"
	"herdbook/internal/target"
)

// files are an exporter that writes them, behind the name of the image.
type files map[string]string

func (files) Fits(*inspection.System) error { return nil }

func (f files) Write(ctx context.Context, image *Image, dir string, sink event.Sink) (Made, error) {
	for name, content := range f {
		path := filepath.Join(dir, image.Name+name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			return Made{}, err
		}
	}
	return Made{}, context.Cause(ctx)
}

// failing is an exporter that fails.
type failing struct{ err error }

func (failing) Fits(*inspection.System) error { return nil }

func (f failing) Write(context.Context, *Image, string, event.Sink) (Made, error) {
	return Made{}, f.err
}

var layer = digest.Of([]byte("layer"))

func image(name string) *Image {
	return &Image{Name: name, Layer: layer, System: &inspection.System{Architecture: "amd64"}, Created: time.Unix(1e9, 0).UTC()}
}

// order asks for an artefact, for a kind of target or for openstack-CLOUD.
func order(t *testing.T, dir, name, label string, e Exporter) Order {
	t.Helper()
	kind, cloud, _ := strings.Cut(label, "-")
	to, ok := target.New(kind, name)
	if !ok {
		t.Fatalf("there is no target %q", kind)
	}
	if o, ok := to.(*target.OpenStack); ok {
		o.Cloud = cloud
	}
	return Order{Image: name, Layer: layer, Target: to, Exporter: e, Dir: dir}
}

// names lists a directory with all below, directories with a slash.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	peer.Must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if name := strings.TrimPrefix(path, dir+"/"); err == nil && path != dir {
			if e.IsDir() {
				name += "/"
			}
			list = append(list, name)
		}
		return err
	}))
	return list
}

func TestNothingOfTheOldOneStays(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"web-2.raw", "web.notes", "web.oci.bak"} { // a user's
		peer.Must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
	}
	made := func(f files) []string {
		t.Helper()
		o := order(t, dir, "web", "docker", f)
		m, err := o.Make(t.Context(), image("web"), nil)
		peer.Must(t, err)
		if found, there := o.Find(); !there || !cmp.Equal(found, m) {
			t.Errorf("%v: %s", there, cmp.Diff(m, found))
		}
		return names(t, dir)
	}
	foreign := []string{"web-2.raw", "web.docker.json"}
	first := made(files{".docker.tar": "1", ".oci/a": "1", ".oci/b/c": "1", ".cdx.json": "{}"})
	if diff := cmp.Diff(append([]string{"web-2.raw", "web.cdx.json", "web.docker.json", "web.docker.tar", "web.notes", "web.oci/"},
		"web.oci/a", "web.oci/b/", "web.oci/b/c", "web.oci.bak"), first); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(append(foreign, "web.notes", "web.oci/", "web.oci/b", "web.oci.bak"), made(files{".oci/b": "2"})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(append(foreign, "web.docker.tar", "web.notes", "web.oci.bak"), made(files{".docker.tar": "3"})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// The name of an image may have dots, too.
func TestTwoArtefactsOfOneNameAreTold(t *testing.T) {
	for want, c := range map[string][2]struct{ image, kind, file string }{
		"web.openstack.raw is of the target":       {{"web", "openstack", ".openstack.raw"}, {"web.openstack", "raw", ".raw"}},
		"web.oci is of the target":                 {{"web.oci", "raw", "/x"}, {"web", "docker", ".oci/index.json"}},
		"web.openstack-a.raw.json is of the targe": {{"web", "openstack-a.raw", ".openstack-a.raw.qcow2"}, {"web.openstack-a", "raw", ".raw"}},
	} {
		dir := t.TempDir()
		first, second := c[0], c[1]
		a := order(t, dir, first.image, first.kind, files{first.file: "a"})
		_, err := a.Make(t.Context(), image(first.image), nil)
		peer.Must(t, err)
		before := names(t, dir)
		b := order(t, dir, second.image, second.kind, files{second.file: "b"})
		_, err = b.Make(t.Context(), image(second.image), nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), fmt.Sprintf("of the image %q: give one of the two another output", first.image)) {
			t.Errorf("%s: %v", want, err)
		}
		if _, there := a.Find(); !there || !slices.Equal(names(t, dir), before) {
			t.Errorf("the first is spoilt: %q", names(t, dir))
		}
		if text, err := os.ReadFile(filepath.Join(dir, first.image+first.file)); string(text) != "a" {
			t.Errorf("the first is spoilt: %q, %v", text, err)
		}
	}
	// These have nothing in common.
	dir := t.TempDir()
	for _, o := range []Order{
		order(t, dir, "web", "openstack", files{".openstack.raw": "a"}), order(t, dir, "web-openstack", "raw", files{".raw": "b"}),
		order(t, dir, "web", "openstack-lab", files{".openstack-lab.raw": "c"}), order(t, dir, "web.1", "raw", files{".raw": "d"}),
	} {
		for range 2 {
			_, err := o.Make(t.Context(), image(o.Image), nil)
			peer.Must(t, err)
		}
	}
}

func TestWhatDeadProcessesLeftIsRemoved(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".web.raw~1", ".web.raw~live", ".web.qcow2~1", ".web-2.raw~1"} {
		peer.Must(t, os.MkdirAll(filepath.Join(dir, name, "half"), 0o755))
	}
	unlock, err := lock(filepath.Join(dir, ".web.raw~live"), 0)
	peer.Must(t, err)
	o := order(t, dir, "web", "raw", files{".raw": "disk"})
	_, err = o.Make(t.Context(), image("web"), nil)
	peer.Must(t, err)
	kept := []string{".web-2.raw~1/", ".web-2.raw~1/half/", ".web.qcow2~1/", ".web.qcow2~1/half/", ".web.raw~live/", ".web.raw~live/half/", "web.raw", "web.raw.json"}
	if diff := cmp.Diff(kept, names(t, dir)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	peer.Must(t, unlock())
	_, err = o.Make(t.Context(), image("web"), nil)
	peer.Must(t, err)
	if got := names(t, dir); slices.Contains(got, ".web.raw~live/") {
		t.Errorf("it stays: %q", got)
	}
}

// Many at once, of two images and of two revisions of one: what is there in the end is
// what its manifest says.
func TestManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	var orders []Order
	ends := make(chan error)
	for i := range 24 {
		content := strings.Repeat(fmt.Sprint(i%2), 1000+i%2)
		o := order(t, dir, []string{"web", "web-2"}[i%2], "docker", files{".oci/index.json": content, ".oci/blobs/" + fmt.Sprint(i%3): content})
		o.Layer = digest.Of([]byte(fmt.Sprint(i % 3)))
		orders = append(orders, o)
		go func() {
			_, err := o.Make(t.Context(), image(o.Image), nil)
			ends <- err
		}()
	}
	for range orders {
		peer.Must(t, <-ends)
	}
	for _, name := range []string{"web", "web-2"} {
		m, err := Read(filepath.Join(dir, name+".docker.json"))
		peer.Must(t, err)
		var want []string
		for _, f := range m.Files {
			text, err := os.ReadFile(filepath.Join(dir, f.Name))
			if err != nil || digest.Of(text) != f.Digest {
				t.Errorf("%s: %v", f.Name, err)
			}
			want = append(want, f.Name)
		}
		got := slices.DeleteFunc(names(t, dir), func(n string) bool { return !strings.HasPrefix(n, name+".oci/") || strings.HasSuffix(n, "/") })
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-told +there)\n%s", diff)
		}
	}
}

// holes is an exporter that writes as a disk is copied: first the size, then the data.
type holes struct{}

func (holes) Fits(*inspection.System) error { return nil }

func (holes) Write(_ context.Context, image *Image, dir string, _ event.Sink) (Made, error) {
	f, err := os.Create(filepath.Join(dir, image.Name+".raw"))
	if err != nil {
		return Made{}, err
	}
	_, err = f.WriteAt([]byte(strings.Repeat("data", 1<<18)), 1<<20)
	return Made{}, errors.Join(err, f.Truncate(8<<20), f.Close())
}

// The machine loses its power when the manifest has just been written.
func TestAManifestDoesNotOutliveItsFiles(t *testing.T) {
	peer.NeedTool(t, "mke2fs")
	raw := filepath.Join(t.TempDir(), "raw")
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", raw, "64M")
	cut := ""
	t.Run("make", func(t *testing.T) {
		dir := filepath.Join(readertest.Mount(t, "ext4", raw), "dist")
		_, err := order(t, dir, "web", "raw", holes{}).Make(t.Context(), image("web"), nil)
		peer.Must(t, err)
		cut = readertest.CutOff(t, raw)
		peer.Must(t, os.Rename(cut, raw+".cut"))
	})
	t.Run("find", func(t *testing.T) {
		o := order(t, filepath.Join(readertest.Mount(t, "ext4", raw+".cut"), "dist"), "web", "raw", holes{})
		m, there := o.Find()
		if !there {
			t.Fatal("it is not there")
		}
		text, err := os.ReadFile(filepath.Join(o.Dir, m.Files[0].Name))
		if err != nil || digest.Of(text) != m.Files[0].Digest {
			t.Errorf("%s is not what the manifest says: %v", m.Files[0].Name, err)
		}
	})
}

func TestPlace(t *testing.T) {
	part := filepath.Join(t.TempDir(), "part")
	f, err := os.Create(part)
	peer.Must(t, err)
	_, err = f.WriteAt([]byte("data"), 1<<20)
	peer.Must(t, errors.Join(err, f.Truncate(64<<20), f.Close()))
	link := filepath.Join(filepath.Dir(part), "link")
	peer.Must(t, Place(part, link))
	a, errA := os.Stat(part)
	b, errB := os.Stat(link)
	if peer.Must(t, errors.Join(errA, errB)); !os.SameFile(a, b) {
		t.Error("it is no link")
	}
	// Another file system takes a copy, which has room there for its holes alone.
	dir := t.TempDir()
	peer.Volume(t, dir, "size=1m")
	peer.Must(t, Place(part, filepath.Join(dir, "copy")))
	peer.Run(t, "cmp", part, filepath.Join(dir, "copy"))
	if stat, err := os.Stat(filepath.Join(dir, "copy")); err != nil || stat.Mode() != 0o644 {
		t.Errorf("%v, %v", stat.Mode(), err)
	}
}

func TestReadTakesNoPathsElsewhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "manifest")
	for name, good := range map[string]bool{"web.raw": true, "web.oci/index.json": true, "../web.raw": false, "/etc/passwd": false, "a/../../b": false} {
		peer.Must(t, os.WriteFile(path, fmt.Appendf(nil, `{"files":[{"name":%q}]}`, name), 0o644))
		if _, err := Read(path); (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Not all that lies beside is a manifest.
func TestReadTakesNoMoreThanAManifest(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "large.json")
	peer.Must(t, errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, 1<<40)))
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("the error: %v", err)
	}
	_, err := order(t, dir, "web", "raw", files{".raw": "disk"}).Make(t.Context(), image("web"), nil)
	peer.Must(t, err)
}

func TestWhatAnErrorSays(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(t.TempDir())
	peer.Must(t, err)
	for want, cause := range map[string]error{
		"export web to raw: no space is left in " + dir + "; free some there: write x: no space left on device":          fmt.Errorf("write x: %w", syscall.ENOSPC),
		"export web to raw: no space is left in " + dir + "; free some there: qemu-img: x: No space left on device":      errors.New("qemu-img: x: No space left on device"),
		"export web to raw: write x: disk quota exceeded: the store " + s.Dir() + " is full; herdbook store gc frees wh": s.Explain(fmt.Errorf("write x: %w", syscall.EDQUOT)),
		"export web to raw: it is broken": errors.New("it is broken"),
	} {
		_, err := order(t, dir, "web", "raw", failing{cause}).Make(t.Context(), image("web"), nil)
		if err == nil || !strings.HasPrefix(err.Error(), want) || !errors.Is(err, cause) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := errors.New("the user ends it")
	cancel(ended)
	if _, err := order(t, dir, "web", "raw", files{".raw": "x"}).Make(ctx, image("web"), nil); !errors.Is(err, ended) {
		t.Errorf("the error: %v", err)
	}
	if got := names(t, dir); len(got) > 0 {
		t.Errorf("what is left: %q", got)
	}
}

func TestWithin(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	r := Within(ctx, strings.NewReader("text"))
	p := make([]byte, 2)
	if n, err := r.Read(p); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	ended := errors.New("the user ends it")
	cancel(ended)
	if n, err := r.Read(p); n != 0 || !errors.Is(err, ended) {
		t.Errorf("%d, %v", n, err)
	}
}

// The identifier is a UUID of version 8 and of the usual variant, one for each layer.
func TestID(t *testing.T) {
	a, b := image("web").ID(), (&Image{Layer: digest.Of([]byte("another"))}).ID()
	if a == b || a != image("other").ID() || a[6]>>4 != 8 || a[8]>>6 != 2 || b[6]>>4 != 8 || b[8]>>6 != 2 {
		t.Errorf("%x, %x", a, b)
	}
}

func TestRetryAfter(t *testing.T) {
	const now = "Thu, 26 Nov 2026 12:00:00 GMT"
	for wish, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "0": 0, "-7": 0, "3600": time.Minute, "99999999999999999999": 0, "soon": 0,
		"Thu, 26 Nov 2026 12:00:07 GMT": 7 * time.Second, "Thu, 26 Nov 2026 11:00:00 GMT": 0, "Fri, 27 Nov 2026 12:00:00 GMT": time.Minute,
	} {
		if got := RetryAfter(wish, now); got != want {
			t.Errorf("%q: %s, want %s", wish, got, want)
		}
	}
	if got := RetryAfter("Thu, 26 Nov 2026 12:00:07 GMT", ""); got != 0 {
		t.Errorf("of no date: %s", got)
	}
}
