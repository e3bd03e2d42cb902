package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/digest"
	"herdbook/internal/peer"
)

const day = 24 * time.Hour

// herd makes a store of two families, base-web-shop and lone, and a layer twig
// upon base. Days of last use: base 1, web 2, shop 3, twig 9, lone 5.
func herd(t testing.TB) (*Store, map[string]Layer) {
	t.Helper()
	s := open(t)
	layers := map[string]Layer{}
	for _, l := range []struct {
		name, parent string
		used         time.Duration
	}{{"base", "", 1}, {"web", "base", 2}, {"shop", "web", 3}, {"twig", "base", 9}, {"lone", "", 5}} {
		layers[l.name] = mustCommit(t, s, l.name, layers[l.parent].Digest)
		peer.Must(t, s.Touch(layers[l.name].Digest, dawn.Add(l.used*day)))
	}
	return s, layers
}

func steps(layers []Layer) []string {
	var names []string
	for _, l := range layers {
		names = append(names, l.Step)
	}
	return names
}

// reach notes that the definition called name reaches layers, and makes it.
func reach(t testing.TB, s *Store, name string, layers ...digest.Digest) string {
	t.Helper()
	path := filepath.Join(filepath.Dir(s.Dir()), name)
	peer.Must(t, os.WriteFile(path, nil, 0o644))
	peer.Must(t, s.Reach(path, layers))
	return path
}

func TestCollectTakesWhatThePolicySays(t *testing.T) {
	_, layers := herd(t)
	size := func(names ...string) (n int64) {
		for _, name := range names {
			n += layers[name].Size
		}
		return n
	}
	all := size("base", "web", "shop", "twig", "lone")
	for name, test := range map[string]struct {
		policy Policy
		reach  []string
		want   []string // in this order
	}{
		"no policy":                    {},
		"nothing is so old":            {policy: Policy{MaxAge: 100 * day}},
		"of age, not reached":          {policy: Policy{MaxAge: 6 * day}, want: []string{"shop", "web"}},
		"of any age":                   {policy: Policy{MaxAge: 1}, want: []string{"shop", "web", "lone", "twig", "base"}},
		"what is reached, and parents": {policy: Policy{MaxAge: 1}, reach: []string{"web"}, want: []string{"shop", "lone", "twig"}},
		"all is reached":               {policy: Policy{MaxAge: 1, MaxSize: 1}, reach: []string{"shop", "twig", "lone"}},
		"it fits":                      {policy: Policy{MaxSize: all}},
		"one byte too much":            {policy: Policy{MaxSize: all - 1}, want: []string{"shop"}},
		"size, the longest unused":     {policy: Policy{MaxSize: all - size("shop") - 1}, want: []string{"shop", "web"}},
		"size, not what is reached":    {policy: Policy{MaxSize: 1}, reach: []string{"shop"}, want: []string{"lone", "twig"}},
		"age and size":                 {policy: Policy{MaxAge: 6 * day, MaxSize: size("base", "lone", "twig") - 1}, want: []string{"shop", "web", "lone"}},
		"age is enough":                {policy: Policy{MaxAge: 6 * day, MaxSize: size("base", "lone", "twig")}, want: []string{"shop", "web"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, layers := herd(t)
			var reached []digest.Digest
			for _, name := range test.reach {
				reached = append(reached, layers[name].Digest)
			}
			reach(t, s, "herd.hcl", reached...)
			collectAsTold(t, s, dawn.Add(10*day), test.policy, test.want)
		})
	}
}

// collectAsTold collects, dry and in earnest, and holds both against the names
// of the layers that must go.
func collectAsTold(t *testing.T, s *Store, now time.Time, p Policy, want []string) {
	t.Helper()
	list, err := s.List()
	peer.Must(t, err)
	before := tree(t, filepath.Join(s.Dir(), "layers"))
	p.DryRun = true
	dry, err := s.Collect(now, p)
	peer.Must(t, err)
	if got := tree(t, filepath.Join(s.Dir(), "layers")); !cmp.Equal(got, before) {
		t.Error("the dry run changed something:", cmp.Diff(before, got))
	}
	p.DryRun = false
	r, err := s.Collect(now, p)
	peer.Must(t, err)
	if diff := cmp.Diff(r, dry); diff != "" {
		t.Error("the dry run told something else:", diff)
	}
	if diff := cmp.Diff(want, steps(r.Layers)); diff != "" {
		t.Error(diff)
	}
	var freed, left int64
	for _, l := range list {
		gone := slices.Contains(want, l.Step)
		if gone {
			freed += l.Size
		} else {
			left += l.Size
		}
		found, ok, err := s.Lookup(l.Key)
		if err != nil || ok == gone {
			t.Errorf("lookup %s: %+v %v %v", l.Step, found, ok, err)
		}
		_, err = os.Stat(filepath.Join(s.Dir(), "layers", string(l.Digest)))
		_, keyErr := os.Stat(filepath.Join(s.Dir(), "keys", string(l.Key)))
		if errors.Is(err, fs.ErrNotExist) != gone || errors.Is(keyErr, fs.ErrNotExist) != gone {
			t.Errorf("%s: %v, its key: %v", l.Step, err, keyErr)
		}
		if _, err := s.Chain(l.Digest); !gone && err != nil {
			t.Error(err)
		}
	}
	if r.Freed != freed || r.Left != left {
		t.Errorf("freed %d, left %d; want %d, %d", r.Freed, r.Left, freed, left)
	}
}

func TestRootsOfDeletedDefinitionsGo(t *testing.T) {
	s, layers := herd(t)
	reach(t, s, "stays.hcl", layers["lone"].Digest)
	gone := reach(t, s, "goes.hcl", layers["shop"].Digest)
	peer.Must(t, os.Remove(gone))
	collectAsTold(t, s, dawn.Add(10*day), Policy{MaxAge: 1}, []string{"shop", "web", "twig", "base"})
	if roots := tree(t, filepath.Join(s.Dir(), "roots")); len(roots) != 2 {
		t.Errorf("want one root: %v", roots)
	}
}

func TestReachReplacesWhatWasReached(t *testing.T) {
	s, layers := herd(t)
	reach(t, s, "herd.hcl", layers["shop"].Digest, layers["lone"].Digest)
	reach(t, s, "herd.hcl", layers["lone"].Digest)
	collectAsTold(t, s, dawn.Add(10*day), Policy{MaxAge: 1}, []string{"shop", "web", "twig", "base"})
}

func TestReachWritesNothingWhenNothingChanged(t *testing.T) {
	s, layers := herd(t)
	path := reach(t, s, "herd.hcl", layers["shop"].Digest)
	root := filepath.Join(s.Dir(), "roots", string(digest.Of([]byte(path))))
	peer.Must(t, os.Chtimes(root, dawn, dawn))
	peer.Must(t, s.Reach(path, []digest.Digest{layers["shop"].Digest}))
	if stat, err := os.Stat(root); err != nil || !stat.ModTime().Equal(dawn) {
		t.Errorf("it was written anew: %v", err)
	}
}

func TestAnUnreadableRootStopsCollection(t *testing.T) {
	s, layers := herd(t)
	path := reach(t, s, "herd.hcl", layers["shop"].Digest)
	root := filepath.Join(s.Dir(), "roots", string(digest.Of([]byte(path))))
	peer.Must(t, os.Truncate(root, 10))
	before := tree(t, filepath.Join(s.Dir(), "layers"))
	_, err := s.Collect(dawn.Add(10*day), Policy{MaxAge: 1})
	if err == nil || !strings.Contains(err.Error(), root) || !strings.Contains(err.Error(), "build its definition again") {
		t.Errorf("collect: %v", err)
	}
	if got := tree(t, filepath.Join(s.Dir(), "layers")); !cmp.Equal(got, before) {
		t.Error(cmp.Diff(before, got))
	}
}

func TestFailedStepsAreKeptForADay(t *testing.T) {
	s, layers := herd(t)
	w, err := begin(s, "try", layers["shop"].Digest)
	peer.Must(t, err)
	peer.Must(t, w.Keep("web"))
	dir := s.failedPath("web")
	peer.Must(t, os.Chtimes(dir, dawn.Add(10*day), dawn.Add(10*day)))
	// What it stands on must stay for a look inside.
	collectAsTold(t, s, dawn.Add(11*day), Policy{MaxAge: 1}, []string{"lone", "twig"})
	if _, ok := s.Failed("web"); !ok {
		t.Fatal("what failed a day ago is gone")
	}
	now := dawn.Add(11*day + time.Second)
	for _, dry := range []bool{true, false} {
		r, err := s.Collect(now, Policy{MaxAge: 1, DryRun: dry})
		peer.Must(t, err)
		if _, ok := s.Failed("web"); ok != dry {
			t.Errorf("a day and a second later, dry %v: kept is %v", dry, ok)
		}
		if diff := cmp.Diff([]string{"failed-web"}, r.Work); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"shop", "web", "base"}, steps(r.Layers)); diff != "" {
			t.Error(diff)
		}
	}
}

func stepsThere(t *testing.T, s *Store) []string {
	t.Helper()
	layers, err := s.List()
	peer.Must(t, err)
	return steps(layers)
}

func TestWhatFailedOfATargetIsNotThatOfAnImage(t *testing.T) {
	s, layers := herd(t)
	w, err := begin(s, "target", layers["shop"].Digest)
	peer.Must(t, err)
	peer.Must(t, w.Keep("web/openstack"))
	if path, ok := s.Failed("web-openstack"); ok {
		t.Errorf("it is at %s", path)
	}
	if _, ok := s.Failed("web/openstack"); !ok {
		t.Error("it is gone")
	}
	collectAsTold(t, s, dawn, Policy{MaxAge: 1, MaxSize: 1}, []string{"lone", "twig"}) // what it stands on stays
}

func TestWhatFailedExpiresWithoutACollection(t *testing.T) {
	s, layers := herd(t)
	for i, image := range []string{"web", "web/docker"} {
		w, err := begin(s, image, layers["shop"].Digest)
		peer.Must(t, err)
		peer.Must(t, w.Keep(image))
		peer.Must(t, os.Chtimes(s.failedPath(image), dawn, dawn.Add(time.Duration(i)*day)))
	}
	before := stepsThere(t, s)
	peer.Must(t, s.Expire(dawn.Add(day), day))
	if _, ok := s.Failed("web"); !ok {
		t.Error("what is a day old is gone")
	}
	peer.Must(t, s.Expire(dawn.Add(day+time.Second), day))
	if _, ok := s.Failed("web"); ok {
		t.Error("what is older is there")
	}
	if _, ok := s.Failed("web/docker"); !ok {
		t.Error("what is younger is gone")
	}
	if diff := cmp.Diff(before, stepsThere(t, s)); diff != "" {
		t.Errorf("layers: %s", diff)
	}
}

func TestDamagedLayersAreCollected(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			s, layers := herd(t)
			peer.Must(t, damage(s, layers["lone"]))
			for _, dry := range []bool{true, false} {
				r, err := s.Collect(dawn, Policy{DryRun: dry})
				peer.Must(t, err)
				if diff := cmp.Diff(Report{Work: []string{string(layers["lone"].Digest)}, Left: r.Left}, r); diff != "" {
					t.Error(diff)
				}
				_, err = os.Stat(filepath.Join(s.Dir(), "layers", string(layers["lone"].Digest)))
				_, keyErr := os.Stat(filepath.Join(s.Dir(), "keys", string(key("lone"))))
				if errors.Is(err, fs.ErrNotExist) == dry || errors.Is(keyErr, fs.ErrNotExist) == dry {
					t.Errorf("dry %v: layer: %v, key: %v", dry, err, keyErr)
				}
			}
			checkTidy(t, s)
		})
	}
}

func TestCollectLeavesWhatIsNotOurs(t *testing.T) {
	s, _ := herd(t)
	alien := filepath.Join(s.Dir(), "layers", "lost+found", "x")
	peer.Must(t, os.MkdirAll(alien, 0o755))
	_, err := s.Collect(dawn.Add(1000*day), Policy{MaxAge: 1, MaxSize: 1})
	peer.Must(t, err)
	if _, err := os.Stat(alien); err != nil {
		t.Error(err)
	}
}

// checkTidy makes sure that the store holds whole layers, their keys, roots,
// what has failed, and nothing else.
func checkTidy(t *testing.T, s *Store) {
	t.Helper()
	list, err := s.List()
	peer.Must(t, err)
	whole := map[string]bool{}
	for _, l := range list {
		whole[string(l.Digest)] = true
	}
	for _, dir := range []string{"layers", "keys", "roots", "locks"} {
		entries, err := os.ReadDir(filepath.Join(s.Dir(), dir))
		peer.Must(t, err)
		for _, e := range entries {
			name, ok := e.Name(), false
			switch dir {
			case "layers":
				ok = whole[name] || strings.HasPrefix(name, failPrefix)
			case "keys":
				text, err := os.ReadFile(filepath.Join(s.Dir(), dir, name))
				peer.Must(t, err)
				ok = isName(name) && whole[strings.TrimSpace(string(text))]
			case "roots":
				ok = isName(name)
			case "locks":
				ok = name == "use" || name == "publish"
			}
			if !ok {
				t.Errorf("left behind: %s/%s", dir, name)
			}
		}
	}
}

// The other tests write the name of the parent into their disks themselves.
func TestWhatAnOverlayOfQEMUStandsOnStays(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	s, layers := herd(t)
	w, err := s.Begin(layers["lone"].Digest)
	peer.Must(t, err)
	peer.Run(t, "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", w.BackingName(), w.DiskPath(), "1G")
	collectAsTold(t, s, dawn.Add(10*day), Policy{MaxAge: 1}, []string{"shop", "web", "twig", "base"})
	peer.Must(t, w.Discard())
	collectAsTold(t, s, dawn.Add(10*day), Policy{MaxAge: 1}, []string{"lone"})
}

func TestWhatWasFetchedGoesWhenItWasNotUsedForLong(t *testing.T) {
	s := open(t)
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	if _, err := s.Collect(now, Policy{MaxAge: time.Hour}); err != nil { // there are no directories yet
		t.Fatal(err)
	}
	stays := map[string]bool{}
	for path, times := range map[string]struct{ read, written time.Duration }{
		filepath.Join(s.MediaDir(), "old"):                 {2 * time.Hour, 2 * time.Hour},
		filepath.Join(s.MediaDir(), "new"):                 {2 * time.Hour, time.Minute},
		filepath.Join(s.PackagesDir(), "cache/a/old.deb"):  {2 * time.Hour, 3 * time.Hour},
		filepath.Join(s.PackagesDir(), "cache/a/read.deb"): {time.Minute, 3 * time.Hour},
		// A note tells when its file was used, and goes with it.
		filepath.Join(s.MediaDir(), "gone"):            {2 * time.Hour, 2 * time.Hour},
		filepath.Join(s.MediaDir(), "gone.verified"):   {2 * time.Hour, 2 * time.Hour},
		filepath.Join(s.MediaDir(), "lone.verified"):   {2 * time.Hour, 2 * time.Hour},
		filepath.Join(s.MediaDir(), "used"):            {2 * time.Hour, 2 * time.Hour},
		filepath.Join(s.MediaDir(), "used.verified"):   {time.Minute, time.Minute},
		filepath.Join(s.RepositoriesDir(), "old.text"): {2 * time.Hour, 2 * time.Hour},
		filepath.Join(s.RepositoriesDir(), "old.json"): {2 * time.Hour, 2 * time.Hour},
		filepath.Join(s.RepositoriesDir(), "new.text"): {2 * time.Hour, 2 * time.Hour},
		filepath.Join(s.RepositoriesDir(), "new.json"): {time.Minute, time.Minute},
	} {
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("fetched"), 0o644),
			os.Chtimes(path, now.Add(-times.read), now.Add(-times.written)))
		if err != nil {
			t.Fatal(err)
		}
		stays[path] = min(times.read, times.written) < time.Hour || filepath.Base(path) == "used" ||
			filepath.Base(path) == "new.text" || filepath.Base(path) == "old.json"
	}
	for _, p := range []Policy{{}, {MaxAge: time.Hour, DryRun: true}, {MaxAge: time.Hour}} {
		r, err := s.Collect(now, p)
		if err != nil {
			t.Fatal(err)
		}
		want, freed := []string{"media/gone", "media/lone.verified", "media/old", "repositories/old.text", "packages: 1 files"}, 6*len("fetched")
		if p.MaxAge == 0 {
			want, freed = nil, 0
		}
		if !slices.Equal(r.Work, want) || r.Freed != int64(freed) {
			t.Errorf("%+v: told of %q, %d bytes", p, r.Work, r.Freed)
		}
		for path, stay := range stays {
			if _, err := os.Stat(path); (err == nil) != (stay || p.MaxAge == 0 || p.DryRun) {
				t.Errorf("%+v: %s: %v", p, path, err)
			}
		}
	}
}
