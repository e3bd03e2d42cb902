package docker

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"golang.org/x/sys/unix"

	"herdbook/internal/artefact"
	"herdbook/internal/artefact/artefacttest"
	"herdbook/internal/digest"
	"herdbook/internal/filesystem/readertest"
	"herdbook/internal/peer"
	"herdbook/internal/store"
)

// chain is a store in which one layer after another is laid on a disk that the kernel
// changes.
type chain struct {
	store *store.Store
	raw   string
	top   digest.Digest
}

// newChain begins with a disk on which no system is yet, and then lays a tree on it.
func newChain(t *testing.T, tree string) *chain {
	t.Helper()
	s, err := store.Open(t.TempDir())
	peer.Must(t, err)
	c := &chain{store: s, raw: filepath.Join(t.TempDir(), "disk")}
	peer.Must(t, os.WriteFile(c.raw, nil, 0o644))
	peer.Must(t, os.Truncate(c.raw, 64<<20))
	c.commit(t, "install", "partition")
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", "-I", "256", "-d", tree, c.raw)
	c.commit(t, "install", "unpack")
	return c
}

// commit makes a layer of the disk as it is.
func (c *chain) commit(t *testing.T, image, step string) {
	t.Helper()
	w, err := c.store.Begin(c.top)
	peer.Must(t, err)
	args := []string{"convert", "-f", "raw", "-O", "qcow2"}
	if c.top != "" {
		args = append(args, "-B", w.BackingName(), "-F", "qcow2")
	}
	peer.Run(t, "qemu-img", append(args, c.raw, w.DiskPath())...)
	created := artefacttest.Created.Add(-time.Minute)
	l, err := w.Commit(store.Layer{Key: store.Key(digest.Of([]byte(w.Dir))), Image: image, Step: step, Created: created})
	peer.Must(t, err)
	c.top = l.Digest
}

// change lets the kernel change the disk.
func (c *chain) change(t *testing.T, image, step string, do func(in func(string) string)) {
	t.Helper()
	// A test may mount once; so each change is one of its own.
	t.Run(step, func(t *testing.T) {
		dir := readertest.Mount(t, "ext4", c.raw)
		do(func(name string) string { return filepath.Join(dir, name) })
		peer.Must(t, unix.Unmount(dir, 0))
	})
	c.commit(t, image, step)
}

// fork is a chain that goes on from here by itself.
func (c *chain) fork(t *testing.T) *chain {
	t.Helper()
	other := *c
	other.raw = filepath.Join(t.TempDir(), "disk")
	peer.Run(t, "cp", "--sparse=always", c.raw, other.raw)
	return &other
}

func (c *chain) image(t *testing.T) *artefact.Image { return artefacttest.Open(t, c.store, c.top) }

// make makes the artefact of an image, and returns its directory and the image in it.
func (e *Exporter) make(t *testing.T, image *artefact.Image) (string, v1.Image) {
	t.Helper()
	order := artefacttest.Order(t, image, &e.Docker, e)
	_, err := order.Make(t.Context(), image, nil)
	peer.Must(t, err)
	return order.Dir, containerOf(t, order)
}

// containerOf is the image in the layout of an artefact.
func containerOf(t *testing.T, order artefact.Order) v1.Image {
	t.Helper()
	at, err := layout.FromPath(filepath.Join(order.Dir, "small.oci"))
	peer.Must(t, err)
	index, err := at.ImageIndex()
	peer.Must(t, err)
	manifest, err := index.IndexManifest()
	peer.Must(t, err)
	container, err := index.Image(manifest.Manifests[0].Digest)
	peer.Must(t, err)
	peer.Must(t, validate.Image(container))
	return container
}

// names lists what is in a layer.
func names(t *testing.T, l v1.Layer) []string {
	t.Helper()
	r, err := l.Uncompressed()
	peer.Must(t, err)
	defer r.Close()
	var list []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return list
		}
		peer.Must(t, err)
		list = append(list, h.Name)
	}
}

func layersOf(t *testing.T, image v1.Image) []v1.Layer {
	t.Helper()
	layers, err := image.Layers()
	peer.Must(t, err)
	return layers
}

func digestsOf(t *testing.T, image v1.Image) (list []string) {
	t.Helper()
	for _, l := range layersOf(t, image) {
		d, err := l.Digest()
		peer.Must(t, err)
		list = append(list, d.String())
	}
	return list
}

// changeable is a tree with a file for every change.
func changeable(t *testing.T) string {
	dir := tree(t)
	for _, name := range []string{
		"opt/kept", "opt/touched", "opt/again", "opt/gone", "opt/tree/a/b", "opt/tree/c", "opt/now-file/x", "opt/now-dir", "opt/mode", "opt/owner", "opt/time", "opt/attribute",
		"opt/inplace/deep/er/file", "opt/one", "opt/old-name", "opt/replaced/old", "opt/replaced/same", "opt/quiet/x",
	} {
		path := filepath.Join(dir, name)
		peer.Must(t, os.MkdirAll(filepath.Dir(path), 0o750))
		peer.Must(t, os.WriteFile(path, []byte("content of "+filepath.Base(name)), 0o644))
	}
	peer.Must(t, os.Chown(filepath.Join(dir, "opt/inplace/deep"), 7, 8))
	peer.Must(t, os.Symlink("kept", filepath.Join(dir, "opt/link")))
	peer.Must(t, os.Symlink("kept", filepath.Join(dir, "opt/link-to-file")))
	peer.Must(t, os.Link(filepath.Join(dir, "opt/kept"), filepath.Join(dir, "opt/kept-too")))
	return dir
}

// everyChange makes each kind of change once.
func everyChange(t *testing.T) func(in func(string) string) {
	return func(in func(string) string) {
		write := func(name, text string) { peer.Must(t, os.WriteFile(in(name), []byte(text), 0o644)) }
		stat, err := os.Stat(in("opt/again"))
		peer.Must(t, err)
		for _, name := range []string{"opt/gone", "opt/tree", "opt/now-file", "opt/now-dir", "opt/again", "opt/link", "opt/link-to-file", "opt/replaced", "etc/hosts"} {
			peer.Must(t, os.RemoveAll(in(name)))
		}
		// The same size and time as before, and only one of them the same.
		touched, err := os.Stat(in("opt/touched"))
		peer.Must(t, err)
		write("opt/touched", "CONTENT of touched")
		peer.Must(t, os.Chtimes(in("opt/touched"), touched.ModTime(), touched.ModTime()))
		write("opt/again", "content of again")
		peer.Must(t, os.Chtimes(in("opt/again"), stat.ModTime(), stat.ModTime()))
		write("opt/now-file", "a file")
		peer.Must(t, os.MkdirAll(in("opt/now-dir/below"), 0o711))
		write("opt/now-dir/below/file", "new")
		peer.Must(t, os.Chmod(in("opt/mode"), 0o4711))
		peer.Must(t, os.Chown(in("opt/owner"), 12, 34))
		peer.Must(t, os.Chtimes(in("opt/time"), modified, modified))
		peer.Must(t, unix.Setxattr(in("opt/attribute"), "user.note", []byte("new"), 0))
		f, err := os.OpenFile(in("opt/inplace/deep/er/file"), os.O_WRONLY|os.O_APPEND, 0)
		peer.Must(t, err)
		_, err = f.WriteString(" and more")
		peer.Must(t, err)
		peer.Must(t, f.Close())
		peer.Must(t, os.Link(in("opt/one"), in("opt/two")))
		peer.Must(t, os.Rename(in("opt/old-name"), in("opt/new-name")))
		peer.Must(t, os.Symlink("mode", in("opt/link")))
		write("opt/link-to-file", "no link")
		peer.Must(t, os.MkdirAll(in("opt/replaced"), 0o700))
		write("opt/replaced/new", "new")
		peer.Must(t, unix.Mknod(in("opt/device"), unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0))))
		write("usr/lib/modules/6.1/new.ko", "module")
		write("boot/vmlinuz-6.2", "kernel")
		write("tmp/other", "x")
		peer.Must(t, os.Symlink("nowhere", in("opt/dangling")))
	}
}

func TestALayerIsTheDifference(t *testing.T) {
	c := newChain(t, changeable(t))
	c.change(t, "base", "nothing", func(in func(string) string) { peer.Must(t, os.WriteFile(in("boot/new"), nil, 0o600)) })
	c.change(t, "role", "everything", everyChange(t))
	_, container := newExporter().make(t, c.image(t))
	layers := layersOf(t, container)
	if len(layers) != 2 {
		t.Fatalf("%d layers", len(layers))
	}
	want := []string{
		"etc/", "etc/.wh.hosts", "opt/", "opt/attribute", "opt/dangling", "opt/.wh.gone", "opt/inplace/", "opt/inplace/deep/", "opt/inplace/deep/er/", "opt/inplace/deep/er/file",
		"opt/link", "opt/link-to-file", "opt/mode", "opt/new-name", "opt/now-dir/", "opt/now-dir/below/", "opt/now-dir/below/file", "opt/now-file", "opt/.wh.old-name",
		"opt/one", "opt/owner", "opt/replaced/", "opt/replaced/new", "opt/replaced/.wh.old", "opt/replaced/.wh.same", "opt/time", "opt/touched", "opt/.wh.tree", "opt/two",
	}
	if diff := cmp.Diff(want, names(t, layers[1])); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	config, err := container.ConfigFile()
	peer.Must(t, err)
	var history []string
	for _, h := range config.History {
		history = append(history, fmt.Sprint(h.CreatedBy, " ", h.EmptyLayer))
	}
	if diff := cmp.Diff([]string{"herdbook install: partition true", "herdbook install: unpack false", "herdbook base: nothing true", "herdbook role: everything false"}, history); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	steps, err := newExporter().steps(t.Context(), c.image(t), 1)
	peer.Must(t, err)
	if steps[1].layer != nil || steps[3].layer == nil {
		t.Error("no more than one layer has another than all")
	}
}

// Podman makes one tree of the layers. It is that of an image with one layer.
func TestLayersMakeTheTreeOfOne(t *testing.T) {
	c := newChain(t, changeable(t))
	c.change(t, "role", "everything", everyChange(t))
	c.change(t, "role", "and-more", func(in func(string) string) {
		peer.Must(t, os.Remove(in("opt/two")))
		peer.Must(t, os.MkdirAll(in("opt/tree/a"), 0o755)) // that was gone
		peer.Must(t, os.RemoveAll(in("opt/now-dir")))
	})
	run := podman(t, t.TempDir())
	tree := func(squash bool) map[string]string {
		e := newExporter()
		e.Squash = squash
		dir, _ := e.make(t, c.image(t))
		run("load", "--quiet", "--input", filepath.Join(dir, "small.docker.tar"))
		var images []struct{ RootFS struct{ Layers []string } }
		peer.Must(t, json.Unmarshal([]byte(run("image", "inspect", "small:1")), &images))
		if got, want := len(images[0].RootFS.Layers), map[bool]int{false: 3, true: 1}[squash]; got != want {
			t.Errorf("%d layers, want %d", got, want)
		}
		mounted := strings.TrimSpace(run("image", "mount", "small:1"))
		defer run("image", "unmount", "small:1")
		return treeOf(t, mounted)
	}
	one, layered := tree(true), tree(false)
	if diff := cmp.Diff(one, layered); diff != "" || len(one) < 50 {
		t.Errorf("%d files (-one +layered)\n%s", len(one), diff)
	}
	if !strings.Contains(layered["opt/inplace/deep"], "7:8") || layered["opt/two"] != "" {
		t.Errorf("%q, %q", layered["opt/inplace/deep"], layered["opt/two"])
	}
}

// treeOf tells all that there is of a tree, but the times of what is the moment's.
func treeOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	peer.Must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		peer.Must(t, err)
		name, err := filepath.Rel(dir, path)
		peer.Must(t, err)
		var s unix.Stat_t
		peer.Must(t, unix.Lstat(path, &s))
		text := fmt.Sprintf("%o %d:%d", s.Mode, s.Uid, s.Gid)
		if name != "." && !slices.Contains([]string{"boot", "dev", "proc", "run", "sys", "tmp"}, name) {
			text += fmt.Sprint(" ", s.Mtim)
		}
		switch e.Type() {
		case 0:
			content, err := os.ReadFile(path)
			peer.Must(t, err)
			text += fmt.Sprintf(" %x", sha256.Sum256(content))
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			peer.Must(t, err)
			text += " → " + target
		}
		value := make([]byte, 100)
		for _, attribute := range []string{"security.capability", "user.note"} {
			if n, err := unix.Lgetxattr(path, attribute, value); err == nil {
				text += fmt.Sprintf(" %s=%x", attribute, value[:n])
			}
		}
		all[name] = text
		return nil
	}))
	return all
}

func TestImagesShareTheLayersOfTheirBase(t *testing.T) {
	base := newChain(t, tree(t))
	base.change(t, "base", "packages", func(in func(string) string) { peer.Must(t, os.WriteFile(in("srv/base"), []byte("base"), 0o644)) })
	parts := func() map[string]uint64 {
		all := map[string]uint64{}
		list, err := filepath.Glob(filepath.Join(base.store.Dir(), "layers", "*", "part-*"))
		peer.Must(t, err)
		for _, part := range list {
			var s unix.Stat_t
			peer.Must(t, unix.Stat(part, &s))
			all[part] = s.Ino
		}
		return all
	}
	var digests [][]string
	var before []map[string]uint64
	for _, role := range []string{"web", "database"} {
		c := base.fork(t)
		c.change(t, role, role, func(in func(string) string) { peer.Must(t, os.WriteFile(in("srv/role"), []byte(role), 0o644)) })
		_, container := newExporter().make(t, c.image(t))
		digests, before = append(digests, digestsOf(t, container)), append(before, parts())
	}
	if a, b := digests[0], digests[1]; len(a) != 3 || len(b) != 3 || !slices.Equal(a[:2], b[:2]) || a[2] == b[2] {
		t.Errorf("%q", digests)
	}
	for part, inode := range before[0] {
		if before[1][part] != inode {
			t.Errorf("%s was made again", part)
		}
	}
	if made := len(before[1]) - len(before[0]); made != 2 { // the layer of the role, and its digests
		t.Errorf("the second image made %d parts", made)
	}
}

// A name that means a file that is gone would delete one of another layer.
func TestANameThatMeansDeletionIsRefused(t *testing.T) {
	dir := tree(t)
	peer.Must(t, os.WriteFile(filepath.Join(dir, "srv/.wh.one"), nil, 0o644))
	image, e := newImage(t, dir), newExporter()
	order := artefacttest.Order(t, image, &e.Docker, e)
	if _, err := order.Make(t.Context(), image, nil); err == nil || !strings.Contains(err.Error(), "srv/.wh.one: ") || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("the error: %v", err)
	}
}

// What sysprep removed is in no layer below, nor in one of a base that has none itself.
func TestStepsBeforeSysprepAreOneLayer(t *testing.T) {
	c := newChain(t, tree(t))
	c.change(t, "install", "file", func(in func(string) string) { peer.Must(t, os.WriteFile(in("srv/secret"), []byte("hush"), 0o600)) })
	c.change(t, "base", "sysprep", func(in func(string) string) { peer.Must(t, os.Remove(in("srv/secret"))) })
	c.change(t, "role", "one", func(in func(string) string) { peer.Must(t, os.WriteFile(in("srv/1"), []byte("1"), 0o600)) })
	c.change(t, "role", "two", func(in func(string) string) { peer.Must(t, os.WriteFile(in("srv/2"), []byte("2"), 0o600)) })
	_, container := newExporter().make(t, c.image(t))
	layers := layersOf(t, container)
	if len(layers) != 3 { // what is generalised, and the role's two
		t.Errorf("%d layers", len(layers))
	}
	for i, l := range layers {
		if slices.Contains(names(t, l), "srv/secret") {
			t.Errorf("layer %d has what was removed", i)
		}
	}
}

func TestWhereLayersEnd(t *testing.T) {
	var chain []store.Layer
	for _, step := range []string{`template "web"`, "one", "two", "sysprep", "three", "sysprep", "four", "five"} {
		chain = append(chain, store.Layer{Step: step})
	}
	var ends []string
	for i, l := range chain {
		if cut(chain, i) {
			ends = append(ends, l.Step)
		}
	}
	if want := []string{`template "web"`, "sysprep", "sysprep", "four", "five"}; !slices.Equal(ends, want) {
		t.Errorf("%q, want %q", ends, want)
	}
}
