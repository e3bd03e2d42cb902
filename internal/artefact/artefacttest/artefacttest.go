// Package artefacttest is the suite that every exporter passes, and the images that it is
// tried on. Only tests import it.
package artefacttest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/artefact"
	"herdbook/internal/digest"
	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/peer"
	"herdbook/internal/store"
	"herdbook/internal/target"
)

// Created is when the layer of every image of this package was made.
var Created = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Image is an image called small whose only layer is a disk: qcow2, or raw, of which a
// copy is taken. It is closed at the end of the test.
func Image(t testing.TB, raw string) *artefact.Image {
	t.Helper()
	s, err := store.Open(t.TempDir())
	peer.Must(t, err)
	w, err := s.Begin("")
	peer.Must(t, err)
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, w.DiskPath())
	layer, err := w.Commit(store.Layer{Key: store.Key(digest.Of([]byte(raw))), Image: "small", Step: "import", Created: Created})
	peer.Must(t, err)
	return Open(t, s, layer.Digest)
}

// Open opens the image called small on a layer of a store.
func Open(t testing.TB, s *store.Store, layer digest.Digest) *artefact.Image {
	t.Helper()
	opened, err := disk.Open(s.DiskPath(layer), disk.QCOW2)
	peer.Must(t, err)
	t.Cleanup(func() { peer.Must(t, opened.Close()) })
	system, err := inspection.Disk(opened, opened.Size())
	peer.Must(t, err)
	chain, err := s.Chain(layer)
	peer.Must(t, err)
	return &artefact.Image{
		Name: "small", Layer: layer, Disk: opened, System: system, Created: Created,
		Labels: map[string]string{"org.herdbook.layer": string(layer)}, Chain: chain, Store: s,
	}
}

// Order asks for an artefact of an image, in a directory of its own.
func Order(t testing.TB, image *artefact.Image, to target.Target, e artefact.Exporter) artefact.Order {
	t.Helper()
	return artefact.Order{Image: image.Name, Layer: image.Layer, Target: to, Exporter: e, Dir: filepath.Join(t.TempDir(), "dist")}
}

// Suite holds an exporter against the contract: equal bytes of an equal image, with its
// parts and without; a manifest that tells the truth; nothing new under a final name when
// the work is cut off or the disk is full, and the old one whole.
func Suite(t *testing.T, image *artefact.Image, to target.Target, e artefact.Exporter) {
	t.Helper()
	order := Order(t, image, to, e)
	if _, there := order.Find(); there {
		t.Error("it is there before it was made")
	}
	first, err := order.Make(t.Context(), image, nil)
	peer.Must(t, err)
	found, there := order.Find()
	if !there {
		t.Fatal("it is not there behind Make")
	}
	again, err := artefact.Read(order.ManifestPath())
	peer.Must(t, err)
	if diff := cmp.Diff(found, again); diff != "" {
		t.Errorf("the manifest: %s", diff)
	}
	truthful(t, order, found)
	t.Run("equal bytes", func(t *testing.T) { equalBytes(t, order, image, first) })
	t.Run("spoilt", func(t *testing.T) { spoilt(t, order, image, found) })
	t.Run("cancelled", func(t *testing.T) { cancelled(t, order, image) })
	t.Run("twice at once", func(t *testing.T) { twice(t, order, image, first) })
	t.Run("no room", func(t *testing.T) { noRoom(t, order, image, first) })
	t.Run("no room in the store", func(t *testing.T) { noRoomInStore(t, order, image, first) })
}

// truthful holds a manifest against the files.
func truthful(t *testing.T, order artefact.Order, m artefact.Manifest) {
	t.Helper()
	if m.Image != order.Image || m.Layer != order.Layer || m.Architecture == "" || len(m.Use) == 0 || len(m.Files) == 0 {
		t.Errorf("the manifest: %+v", m)
	}
	main := false
	for _, f := range m.Files {
		content, err := os.Open(filepath.Join(order.Dir, f.Name))
		peer.Must(t, err)
		d, size, err := digest.OfReader(content)
		peer.Must(t, errors.Join(err, content.Close()))
		if d != f.Digest || size != f.Size {
			t.Errorf("%s has %s and %d bytes, the manifest says %+v", f.Name, d.Short(), size, f)
		}
		main = main || f.Name == m.Main
	}
	if !main {
		t.Errorf("the main file %q is not among the files", m.Main)
	}
	for _, name := range left(t, order.Dir) {
		if len(name) < len(m.Image) || name[:len(m.Image)] != m.Image {
			t.Errorf("%s does not begin with the image's name", name)
		}
	}
}

// equalBytes makes it again with the parts that are there now, and without.
func equalBytes(t *testing.T, order artefact.Order, image *artefact.Image, first artefact.Manifest) {
	for range 2 {
		other := order
		other.Dir = filepath.Join(t.TempDir(), "dist")
		m, err := other.Make(t.Context(), image, nil)
		peer.Must(t, err)
		if diff := cmp.Diff(first.Files, m.Files); diff != "" {
			t.Errorf("the bytes: %s", diff)
		}
		parts, err := filepath.Glob(filepath.Join(image.Store.Dir(), "layers", "*", "part-*"))
		peer.Must(t, err)
		for _, part := range parts {
			peer.Must(t, os.Remove(part))
		}
	}
}

// spoilt makes it again when it is no longer what was made.
func spoilt(t *testing.T, order artefact.Order, image *artefact.Image, m artefact.Manifest) {
	manifest, err := os.ReadFile(order.ManifestPath())
	peer.Must(t, err)
	for name, spoil := range map[string]func() error{
		"no manifest": func() error { return os.Remove(order.ManifestPath()) },
		"a manifest that is none": func() error {
			return os.WriteFile(order.ManifestPath(), []byte("{"), 0o644)
		},
	} {
		peer.Must(t, spoil())
		if _, there := order.Find(); there {
			t.Errorf("it is there, with %s", name)
		}
		peer.Must(t, os.WriteFile(order.ManifestPath(), manifest, 0o644))
	}
	for name, spoil := range map[string]func() error{
		"a file that is cut": func() error { return os.Truncate(filepath.Join(order.Dir, m.Main), 10) },
		"a file that lacks":  func() error { return os.Remove(filepath.Join(order.Dir, m.Main)) },
	} {
		peer.Must(t, spoil())
		if _, there := order.Find(); there {
			t.Errorf("it is there, with %s", name)
		}
		again, err := order.Make(t.Context(), image, nil)
		peer.Must(t, err)
		if _, there := order.Find(); !there {
			t.Errorf("it was not mended, with %s", name)
		}
		if diff := cmp.Diff(m.Files, again.Files); diff != "" {
			t.Errorf("it was mended to other bytes, with %s: %s", name, diff)
		}
	}
	other := order
	other.Layer = digest.Of([]byte("another"))
	if _, there := other.Find(); there {
		t.Error("it is there for another layer")
	}
}

// cancelled cuts the work off at its first phase, and before.
func cancelled(t *testing.T, order artefact.Order, image *artefact.Image) {
	before := left(t, order.Dir)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := order.Make(ctx, image, func(e event.Event) {
		if e.Kind == event.Phase {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error: %v", err)
	}
	if diff := cmp.Diff(before, left(t, order.Dir)); diff != "" {
		t.Errorf("what is left: %s", diff)
	}
	if _, there := order.Find(); !there {
		t.Error("the old one is spoilt")
	}
}

// twice makes it in two places of a program at once.
func twice(t *testing.T, order artefact.Order, image *artefact.Image, first artefact.Manifest) {
	ends := make(chan error)
	for range 2 {
		go func() {
			_, err := order.Make(t.Context(), image, nil)
			ends <- err
		}()
	}
	if err := errors.Join(<-ends, <-ends); err != nil {
		t.Error(err)
	}
	m, there := order.Find()
	if diff := cmp.Diff(first.Files, m.Files); !there || diff != "" {
		t.Errorf("%v, %s", there, diff)
	}
	truthful(t, order, m)
}

// left lists a directory, hidden names too.
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
