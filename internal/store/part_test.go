package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/peer"
)

// makePart makes a part of a layer with a content, and returns where it is.
func makePart(t *testing.T, s *Store, l Layer, name, content string) string {
	t.Helper()
	path, err := s.Part(t.Context(), l.Digest, name, func(path string) error { return os.WriteFile(path, []byte(content), 0o644) })
	peer.Must(t, err)
	return path
}

func TestAPartIsMadeOnce(t *testing.T) {
	s := open(t)
	l := mustCommit(t, s, "base", "")
	var made atomic.Int32
	type end struct {
		path string
		err  error
	}
	ends := make(chan end)
	for range 4 {
		go func() {
			path, err := s.Part(t.Context(), l.Digest, "a part", func(path string) error {
				made.Add(1)
				return os.WriteFile(path, []byte("part"), 0o644)
			})
			ends <- end{path, err}
		}()
	}
	paths := map[string]bool{}
	for range 4 {
		e := <-ends
		peer.Must(t, e.err)
		paths[e.path] = true
	}
	if made.Load() != 1 || len(paths) != 1 {
		t.Errorf("it was made %d times: %v", made.Load(), paths)
	}
	if makePart(t, s, l, "another", "x") == makePart(t, s, l, "a part", "y") {
		t.Error("two parts have one path")
	}
	path := makePart(t, s, l, "a part", "y")
	if text, err := os.ReadFile(path); err != nil || string(text) != "part" {
		t.Errorf("%q, %v", text, err)
	}
	// Somebody writes to an artefact that is a link to it.
	peer.Must(t, os.WriteFile(path, []byte("spoilt"), 0o644))
	if text, err := os.ReadFile(makePart(t, s, l, "a part", "part")); err != nil || string(text) != "part" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestAPartThatFailsLeavesNothing(t *testing.T) {
	s := open(t)
	l := mustCommit(t, s, "base", "")
	before := tree(t, s.Dir())
	broken := errors.New("broken")
	_, err := s.Part(t.Context(), l.Digest, "a part", func(path string) error {
		return errors.Join(os.WriteFile(path, []byte("half"), 0o644), broken)
	})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "make a part of layer "+l.Digest.Short()) {
		t.Errorf("the error: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = s.Part(ctx, l.Digest, "a part", func(string) error {
		cancel()
		_, err := s.Part(ctx, l.Digest, "a part", func(string) error { return nil }) // waits for the other
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error: %v", err)
	}
	peer.Must(t, s.sweepLocks())
	if diff := cmp.Diff(before, tree(t, s.Dir())); diff != "" {
		t.Errorf("what is left: %s", diff)
	}
	if _, err := s.Part(t.Context(), "none", "a part", func(string) error { return nil }); err == nil {
		t.Error("of no layer")
	}
}

func TestPartsCountAndGo(t *testing.T) {
	s, layers := herd(t)
	const large = 1 << 20
	for _, name := range []string{"base", "web", "lone"} {
		makePart(t, s, layers[name], "large", strings.Repeat("x", large))
	}
	linked := makePart(t, s, layers["base"], "linked", strings.Repeat("y", large))
	artefact := filepath.Join(t.TempDir(), "artefact")
	if err := os.Link(linked, artefact); err != nil {
		t.Skip(err)
	}
	half := s.layerPath(layers["web"].Digest, "."+partPrefix+"1")
	peer.Must(t, os.WriteFile(half, make([]byte, large), 0o644))
	for name, want := range map[string]int64{"base": large, "web": large, "twig": 0} {
		if got, err := s.PartsSize(layers[name].Digest); err != nil || got != want {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	reach(t, s, "herd.hcl", layers["shop"].Digest, layers["twig"].Digest)
	before := tree(t, filepath.Join(s.Dir(), "layers"))
	policy := Policy{MaxSize: large + large/2}
	policy.DryRun = true
	dry, err := s.Collect(dawn, policy)
	peer.Must(t, err)
	if diff := cmp.Diff(before, tree(t, filepath.Join(s.Dir(), "layers"))); diff != "" {
		t.Errorf("a dry run: %s", diff)
	}
	policy.DryRun = false
	r, err := s.Collect(dawn, policy)
	peer.Must(t, err)
	if diff := cmp.Diff(dry, r); diff != "" {
		t.Errorf("the dry run told something else: %s", diff)
	}
	// The layer with its part, then what is left; the part of the layer that is unused for longest.
	if diff := cmp.Diff([]string{"lone"}, steps(r.Layers)); diff != "" {
		t.Error(diff)
	}
	if len(r.Parts) != 1 || r.Parts[0].Layer.Step != "base" || r.Parts[0].Bytes != large {
		t.Errorf("%+v", r.Parts)
	}
	var left int64
	for _, name := range []string{"base", "web", "shop", "twig"} {
		left += layers[name].Size
	}
	if want := 3*large + layers["lone"].Size; r.Freed != want || r.Left != left+large || len(r.Work) != 1 {
		t.Errorf("%+v, want %d freed and %d left", r, want, left+large)
	}
	for path, stays := range map[string]bool{half: false, linked: true, artefact: true, s.DiskPath(layers["base"].Digest): true} {
		if _, err := os.Stat(path); (err == nil) != stays {
			t.Errorf("%s: %v", path, err)
		}
	}
	// A size that is enough takes none.
	if r, err := s.Collect(dawn, Policy{MaxSize: left + large}); err != nil || len(r.Parts)+len(r.Layers) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
