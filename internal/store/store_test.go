package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/digest"
	"herdbook/internal/peer"
)

// dawn is when the layers of the tests were made.
var dawn = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)

func key(name string) Key { return Key(digest.Of([]byte("key of " + name))) }

func open(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	peer.Must(t, err)
	return s
}

// begin makes a work directory with a disk that names its parent as a qcow2
// overlay does.
func begin(s *Store, name string, parent digest.Digest) (*Work, error) {
	w, err := s.Begin(parent)
	if err != nil {
		return nil, err
	}
	scratch, err := w.Scratch()
	if err == nil {
		err = os.WriteFile(filepath.Join(scratch, "socket"), nil, 0o600)
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "making %s\n", name)
	}
	if err == nil {
		err = os.WriteFile(w.DiskPath(), []byte("QFI\xfb"+w.BackingName()+" "+name), 0o644)
	}
	if err != nil {
		return nil, errors.Join(err, w.Discard())
	}
	return w, nil
}

// commit makes the layer name, whose key is named like it. A failure leaves
// nothing behind, as in a build.
func commit(s *Store, name string, parent digest.Digest) (Layer, error) {
	w, err := begin(s, name, parent)
	if err != nil {
		return Layer{}, err
	}
	l, err := w.Commit(Layer{Key: key(name), Inputs: []string{"name " + name}, Image: "image", Step: name, Created: dawn, How: "host"})
	if err != nil {
		return l, errors.Join(err, w.Discard())
	}
	return l, nil
}

func mustCommit(t testing.TB, s *Store, name string, parent digest.Digest) Layer {
	t.Helper()
	l, err := commit(s, name, parent)
	peer.Must(t, err)
	return l
}

// tree lists the files below dir, with their sizes.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var list []string
	peer.Must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		name, _ := filepath.Rel(dir, path)
		if d.IsDir() {
			list = append(list, name+"/")
		} else {
			list = append(list, fmt.Sprintf("%s %d", name, info.Size()))
		}
		return err
	}))
	return list
}

func TestWhatIsCommittedIsFound(t *testing.T) {
	s := open(t)
	first := mustCommit(t, s, "first", "")
	second := mustCommit(t, s, "second", first.Digest)
	want := Layer{
		Digest: second.Digest, Parent: first.Digest, Key: key("second"), Inputs: []string{"name second"},
		Image: "image", Step: "second", Size: second.Size, Created: dawn, How: "host",
	}
	// Another process sees it too.
	s, err := Open(s.Dir())
	peer.Must(t, err)
	got, ok, err := s.Lookup(key("second"))
	if err != nil || !ok || !cmp.Equal(got, want) {
		t.Errorf("lookup: %v %v\n%s", ok, err, cmp.Diff(want, got))
	}
	text, err := os.ReadFile(s.DiskPath(second.Digest))
	if err != nil || digest.Of(text) != second.Digest || int64(len(text)) != second.Size {
		t.Errorf("the disk has other bytes: %v", err)
	}
	log, err := s.Log(second.Digest)
	peer.Must(t, err)
	defer log.Close()
	if text, err := io.ReadAll(log); err != nil || string(text) != "making second\n" {
		t.Errorf("log: %q %v", text, err)
	}
	chain, err := s.Chain(second.Digest)
	if diff := cmp.Diff([]Layer{first, second}, chain); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if _, err := os.Stat(filepath.Join(s.Dir(), "layers", string(second.Digest), "scratch")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the scratch directory went into the layer: %v", err)
	}
	if _, ok, err := s.Lookup(key("third")); ok || err != nil {
		t.Errorf("a key that nobody recorded: %v %v", ok, err)
	}
}

func TestListIsNewestFirst(t *testing.T) {
	s := open(t)
	for i, name := range []string{"old", "new", "middle"} {
		w, err := begin(s, name, "")
		peer.Must(t, err)
		_, err = w.Commit(Layer{Key: key(name), Step: name, Created: dawn.Add([]time.Duration{0, 2, 1}[i] * time.Hour)})
		peer.Must(t, err)
	}
	list, err := s.List()
	peer.Must(t, err)
	var got []string
	for _, l := range list {
		got = append(got, l.Step)
	}
	if diff := cmp.Diff([]string{"new", "middle", "old"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestWorkLeavesNothingWhenItEnds(t *testing.T) {
	s := open(t)
	base := mustCommit(t, s, "base", "")
	before := tree(t, s.Dir())
	w, err := begin(s, "x", base.Digest)
	peer.Must(t, err)
	peer.Must(t, w.Discard())
	peer.Must(t, w.Discard())
	// A commit without a disk is a failure that must be cleaned up after as well.
	w, err = s.Begin("")
	peer.Must(t, err)
	if _, err := w.Commit(Layer{Key: key("x")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("commit without a disk: %v", err)
	}
	peer.Must(t, w.Discard())
	w, err = begin(s, "base", "")
	peer.Must(t, err)
	_, err = w.Commit(Layer{Key: key("base"), Created: dawn})
	peer.Must(t, err)
	peer.Must(t, w.Discard()) // after a commit: nothing
	if got := tree(t, s.Dir()); !cmp.Equal(got, before) {
		t.Error(cmp.Diff(before, got))
	}
	if _, err := s.Chain(base.Digest); err != nil {
		t.Error(err)
	}
}

func TestEqualContentIsOneLayerOfTwoKeys(t *testing.T) {
	s := open(t)
	one := mustCommit(t, s, "same", "")
	w, err := begin(s, "same", "")
	peer.Must(t, err)
	two, err := w.Commit(Layer{Key: key("other"), Created: dawn.Add(time.Hour)})
	peer.Must(t, err)
	if one.Digest != two.Digest {
		t.Fatalf("%s and %s", one.Digest, two.Digest)
	}
	for _, k := range []Key{key("same"), key("other")} {
		l, ok, err := s.Lookup(k)
		if !ok || err != nil || l.Digest != one.Digest || l.Step != "same" {
			t.Errorf("lookup: %+v %v %v", l, ok, err)
		}
	}
}

// damages are what can happen to a layer's files.
var damages = map[string]func(s *Store, l Layer) error{
	"no record": func(s *Store, l Layer) error { return os.Remove(s.layerPath(l.Digest, recordName)) },
	"empty record": func(s *Store, l Layer) error {
		return os.WriteFile(s.layerPath(l.Digest, recordName), nil, 0o644)
	},
	"half a record": func(s *Store, l Layer) error { return os.Truncate(s.layerPath(l.Digest, recordName), 40) },
	"another layer's record": func(s *Store, l Layer) error {
		path := s.layerPath(l.Digest, recordName)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		other := strings.Replace(string(text), string(l.Digest), string(digest.Of(nil)), 1)
		return os.WriteFile(path, []byte(other), 0o644)
	},
	"no disk":     func(s *Store, l Layer) error { return os.Remove(s.DiskPath(l.Digest)) },
	"short disk":  func(s *Store, l Layer) error { return os.Truncate(s.DiskPath(l.Digest), l.Size-1) },
	"longer disk": func(s *Store, l Layer) error { return os.Truncate(s.DiskPath(l.Digest), l.Size+1) },
	"empty disk":  func(s *Store, l Layer) error { return os.Truncate(s.DiskPath(l.Digest), 0) },
}

func TestDamagedLayersAreNotThere(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			base := mustCommit(t, s, "base", "")
			top := mustCommit(t, s, "top", base.Digest)
			peer.Must(t, damage(s, base))
			if l, ok, err := s.Lookup(key("base")); ok || err != nil {
				t.Errorf("lookup: %+v %v %v", l, ok, err)
			}
			if _, err := s.Layer(base.Digest); !errors.Is(err, ErrNoLayer) {
				t.Errorf("layer: %v", err)
			}
			if list, err := s.List(); err != nil || len(list) != 1 || list[0].Digest != top.Digest {
				t.Errorf("list: %+v %v", list, err)
			}
			if chain, err := s.Chain(top.Digest); !errors.Is(err, ErrNoLayer) || !strings.Contains(err.Error(), base.Digest.Short()) {
				t.Errorf("chain with a damaged parent: %+v %v", chain, err)
			}
			if _, err := s.Begin(base.Digest); !errors.Is(err, ErrNoLayer) {
				t.Errorf("begin upon a damaged layer: %v", err)
			}
			// Made again, it is whole again, in the same place.
			if again := mustCommit(t, s, "base", ""); again.Digest != base.Digest {
				t.Errorf("made again: %+v", again)
			}
			if chain, err := s.Chain(top.Digest); err != nil || len(chain) != 2 {
				t.Errorf("chain made again: %+v %v", chain, err)
			}
			checkWhole(t, s)
		})
	}
}

// checkWhole reads every layer that the store gives against its digest.
func checkWhole(t *testing.T, s *Store) {
	t.Helper()
	list, err := s.List()
	peer.Must(t, err)
	for _, l := range list {
		text, err := os.ReadFile(s.DiskPath(l.Digest))
		if err != nil || digest.Of(text) != l.Digest {
			t.Errorf("the disk of %s (%s) does not fit its name: %v", l.Step, l.Digest.Short(), err)
		}
		if text, err := os.ReadFile(s.LogPath(l.Digest)); err != nil || string(text) != "making "+l.Step+"\n" {
			t.Errorf("the log of %s: %q %v", l.Step, text, err)
		}
	}
}

func TestDamagedKeysAreNotThere(t *testing.T) {
	s := open(t)
	l := mustCommit(t, s, "x", "")
	for _, text := range []string{"", "\n", string(l.Digest[:63]), string(l.Digest) + string(l.Digest), "../../etc/passwd", strings.ToUpper(string(l.Digest)), strings.Repeat("\x00", 64), string(digest.Of(nil))} {
		peer.Must(t, os.WriteFile(filepath.Join(s.Dir(), "keys", string(key("x"))), []byte(text), 0o644))
		if l, ok, err := s.Lookup(key("x")); ok || err != nil {
			t.Errorf("key file %q: %+v %v %v", text, l, ok, err)
		}
	}
	peer.Must(t, s.Record(key("x"), l.Digest))
	if _, ok, err := s.Lookup(key("x")); !ok || err != nil {
		t.Errorf("recorded again: %v %v", ok, err)
	}
}

func TestNamesWithPathsAreRefused(t *testing.T) {
	s := open(t)
	l := mustCommit(t, s, "x", "")
	before := tree(t, filepath.Dir(s.Dir()))
	for _, bad := range []string{
		"..", "../..", "../keys", "/etc/passwd", "x\x00", strings.Repeat("A", 64), strings.Repeat("g", 64),
		"../layers/" + string(l.Digest), string(l.Digest) + "/../x", strings.Repeat("../", 21) + "x",
	} {
		calls := map[string]func() error{
			"Layer":   func() error { _, err := s.Layer(digest.Digest(bad)); return err },
			"Chain":   func() error { _, err := s.Chain(digest.Digest(bad)); return err },
			"Log":     func() error { _, err := s.Log(digest.Digest(bad)); return err },
			"Touch":   func() error { return s.Touch(digest.Digest(bad), dawn) },
			"Begin":   func() error { _, err := s.Begin(digest.Digest(bad)); return err },
			"Lookup":  func() error { _, _, err := s.Lookup(Key(bad)); return err },
			"LockKey": func() error { _, err := s.LockKey(t.Context(), Key(bad)); return err },
			"key":     func() error { return s.Record(Key(bad), l.Digest) },
			"digest":  func() error { return s.Record(key("y"), digest.Digest(bad)) },
		}
		for name, call := range calls {
			if err := call(); err == nil || !strings.Contains(err.Error(), "parse digest") {
				t.Errorf("%s %q: %v", name, bad, err)
			}
		}
	}
	if got := tree(t, filepath.Dir(s.Dir())); !cmp.Equal(got, before) {
		t.Error(cmp.Diff(before, got))
	}
}

func TestRecordedParentsWithPathsAreRefused(t *testing.T) {
	s := open(t)
	l := mustCommit(t, s, "x", "")
	path := s.layerPath(l.Digest, recordName)
	for _, parent := range []string{"../../../etc", string(l.Digest)} {
		text := fmt.Sprintf(`{"digest": %q, "parent": %q, "size": %d}`, l.Digest, parent, l.Size)
		peer.Must(t, os.WriteFile(path, []byte(text), 0o644))
		if chain, err := s.Chain(l.Digest); err == nil {
			t.Errorf("parent %q: %d layers", parent, len(chain))
		}
	}
}

func TestKeepLeavesTheLastFailureOfAnImage(t *testing.T) {
	s := open(t)
	base := mustCommit(t, s, "base", "")
	if path, ok := s.Failed("debian/web"); ok {
		t.Errorf("nothing has failed yet: %s", path)
	}
	for _, name := range []string{"first try", "second try"} {
		w, err := begin(s, name, base.Digest)
		peer.Must(t, err)
		peer.Must(t, w.Keep("debian/web"))
		peer.Must(t, w.Discard()) // as a deferred one would
		path, ok := s.Failed("debian/web")
		if !ok {
			t.Fatal("it was not kept")
		}
		text, err := os.ReadFile(path)
		if err != nil || !strings.HasSuffix(string(text), name) {
			t.Errorf("kept %q: %v", text, err)
		}
		// The overlay still finds its parent.
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), w.BackingName())); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), "scratch")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the scratch directory was kept: %v", err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(s.Dir(), "*", "work-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Errorf("a failure is listed: %+v %v", list, err)
	}
}

func TestTouchChangesTheUseOnly(t *testing.T) {
	s := open(t)
	l := mustCommit(t, s, "x", "")
	peer.Must(t, os.Remove(s.layerPath(l.Digest, usedName))) // as a store of before has none
	if used := s.lastUse(l); !used.Equal(dawn) {
		t.Errorf("never used: %v", used)
	}
	for _, hours := range []time.Duration{30, 20} {
		peer.Must(t, s.Touch(l.Digest, dawn.Add(hours*time.Hour)))
		if used := s.lastUse(l); !used.Equal(dawn.Add(hours * time.Hour)) {
			t.Errorf("used after %d h: %v", hours, used)
		}
	}
	if got, err := s.Layer(l.Digest); err != nil || !cmp.Equal(got, l) {
		t.Error(err, cmp.Diff(l, got))
	}
	if err := s.Touch(digest.Of(nil), dawn); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a layer that is not there: %v", err)
	}
}
