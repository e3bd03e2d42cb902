package store

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/peer"
)

// TestLayersSurviveAKillAtAnyWrite kills a process that makes layers before
// its first change of the store, before its second, and so on to the end.
func TestLayersSurviveAKillAtAnyWrite(t *testing.T) {
	killed := atEveryWrite(t, "make layers", func(t *testing.T) *Store {
		s := open(t)
		base := mustCommit(t, s, "base", "")
		lost := mustCommit(t, s, "two", mustCommit(t, s, "one", base.Digest).Digest)
		peer.Must(t, os.Remove(filepath.Join(s.Dir(), "keys", string(key("one")))))
		peer.Must(t, os.Remove(filepath.Join(s.Dir(), "keys", string(key("two")))))
		peer.Must(t, os.RemoveAll(filepath.Join(s.Dir(), "layers", string(lost.Parent))))
		peer.Must(t, os.Truncate(s.DiskPath(lost.Digest), 1)) // a damaged one, in the way
		return s
	}, afterMaking)
	if killed < 50 {
		t.Errorf("killed only %d times: does the tracer see the writes?", killed)
	}
}

func afterMaking(t *testing.T, s *Store, said string) {
	s, err := Open(s.Dir())
	peer.Must(t, err)
	checkWhole(t, s)
	for _, name := range []string{"base", "one", "two", "proof"} {
		l, ok, err := s.Lookup(key(name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !ok && (name == "base" || strings.Contains(said, "made "+name)) {
			t.Errorf("%s was committed, and is lost", name)
		}
		if _, err := s.Chain(l.Digest); ok && err != nil {
			t.Errorf("%s has no whole chain: %v", name, err)
		}
	}
	if path, ok := s.Failed("image"); ok {
		if text, err := os.ReadFile(path); err != nil || !strings.HasSuffix(string(text), "failure") {
			t.Errorf("kept %q: %v", text, err)
		}
	}
	_, err = s.Collect(time.Now(), Policy{})
	peer.Must(t, err)
	checkTidy(t, s)
	peer.Must(t, makeLayers(s, io.Discard))
	checkWhole(t, s)
	checkTidyAfter(t, s)
	if l, ok, err := s.Lookup(key("proof")); !ok || err != nil || l.Step != "two" {
		t.Errorf("made again: %+v %v %v", l, ok, err)
	}
}

// checkTidyAfter allows for the locks of keys, which wait for the next
// collection.
func checkTidyAfter(t *testing.T, s *Store) {
	t.Helper()
	peer.Must(t, s.sweepLocks())
	checkTidy(t, s)
}

// TestLayersSurviveAKillOfCollection kills a collection before each of its
// writes. The next one must come to the same end.
func TestLayersSurviveAKillOfCollection(t *testing.T) {
	prepare := func(t *testing.T) *Store {
		s, layers := herd(t)
		reach(t, s, "herd.hcl", layers["twig"].Digest)
		peer.Must(t, os.Remove(reach(t, s, "gone.hcl", layers["shop"].Digest)))
		peer.Must(t, damages["short disk"](s, layers["lone"]))
		w, err := begin(s, "dead", layers["twig"].Digest)
		peer.Must(t, err)
		peer.Must(t, w.lock.Unlock()) // as the kernel does for a dead process
		peer.Must(t, os.WriteFile(filepath.Join(s.Dir(), "keys", ".half"), nil, 0o644))
		return s
	}
	var want []string
	killed := atEveryWrite(t, "collect", prepare, func(t *testing.T, s *Store, _ string) {
		checkWhole(t, s)
		list, err := s.List()
		peer.Must(t, err)
		for _, l := range list {
			// A parent never goes before its child.
			if _, err := s.Chain(l.Digest); err != nil {
				t.Errorf("%s: %v", l.Step, err)
			}
		}
		if _, ok, err := s.Lookup(key("twig")); !ok || err != nil {
			t.Errorf("what a definition reaches is gone: %v", err)
		}
		peer.Must(t, deeds["collect"](s))
		checkTidy(t, s)
		got := tree(t, s.Dir())
		if want == nil {
			want = got
		}
		// Layers have the same names in all runs; roots have not.
		if diff := cmp.Diff(withoutRoots(want), withoutRoots(got)); diff != "" {
			t.Error(diff)
		}
		if list, err := s.List(); err != nil || len(list) != 2 {
			t.Errorf("%v stay: %v", steps(list), err)
		}
	})
	if killed < 20 {
		t.Errorf("killed only %d times: does the tracer see the writes?", killed)
	}
}

func withoutRoots(tree []string) []string {
	var rest []string
	for _, line := range tree {
		if !strings.HasPrefix(line, "roots") {
			rest = append(rest, line)
		}
	}
	return rest
}

// atEveryWrite lets a child do a deed in a store of its own until its n-th
// write, for all n, checks each, and counts the kills.
func atEveryWrite(t *testing.T, deed string, prepare func(*testing.T) *Store, check func(*testing.T, *Store, string)) int {
	t.Helper()
	// A kill is the same everywhere, but syncing memory takes no time.
	if stat, err := os.Stat("/dev/shm"); err == nil && stat.IsDir() {
		t.Setenv("TMPDIR", "/dev/shm")
	}
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	for n := 0; ; n++ {
		s := prepare(t)
		at, said := peer.UntilWrite(t, child(t, s, deed), s.Dir(), n)
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(s.Dir()), ".*")); len(left) > 0 {
			t.Errorf("left where nobody collects: %v", left)
		}
		check(t, s, said)
		if t.Failed() {
			t.Fatalf("killed at write %d: %s", n, at)
		}
		if at == "" {
			return n
		}
	}
}
