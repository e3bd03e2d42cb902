package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"herdbook/internal/digest"
	"herdbook/internal/peer"
)

// volume is a small file system for the time of a test.
func volume(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	peer.Volume(t, dir, options)
	return dir
}

// fill leaves a number of pages and a number of files free, and returns a
// function that frees the rest.
func fill(t *testing.T, dir string, pages, files uint64) (free func()) {
	t.Helper()
	var stat unix.Statfs_t
	peer.Must(t, unix.Statfs(dir, &stat))
	filler := filepath.Join(dir, "filler")
	peer.Must(t, os.Mkdir(filler, 0o700))
	peer.Must(t, os.WriteFile(filepath.Join(filler, "blocks"), make([]byte, (stat.Bfree-pages)*uint64(stat.Bsize)), 0o600))
	for i := range stat.Ffree - files - 2 { // without the two just made
		peer.Must(t, os.WriteFile(filepath.Join(filler, fmt.Sprint(i)), nil, 0o600))
	}
	return func() { peer.Must(t, os.RemoveAll(filler)) }
}

// TestAFullDiskLeavesNothingHalf commits with room for nothing, for one thing
// more, and so on until all has room. Room is counted in files, then in pages.
func TestAFullDiskLeavesNothingHalf(t *testing.T) {
	dir := volume(t, "size=256k,nr_inodes=64")
	s, err := Open(filepath.Join(dir, "store"))
	peer.Must(t, err)
	base := mustCommit(t, s, "base", "")
	seen := map[string]bool{}
	for _, room := range []func(n uint64) (pages, files uint64){
		func(n uint64) (uint64, uint64) { return 16, n },
		func(n uint64) (uint64, uint64) { return n, 16 },
	} {
		for n := uint64(0); ; n++ {
			name := fmt.Sprintf("layer %d of %d", n, len(seen))
			pages, files := room(n)
			free := fill(t, dir, pages, files)
			_, err := commit(s, name, base.Digest)
			_, ok, lookupErr := s.Lookup(key(name))
			if lookupErr != nil || ok != (err == nil) {
				t.Errorf("room for %d: lookup: %v %v", n, ok, lookupErr)
			}
			checkWhole(t, s)
			free()
			if err == nil {
				break
			}
			seen[checkFull(t, s, err)] = true
			if left, _ := filepath.Glob(filepath.Join(s.Dir(), "*", "work-*")); len(left) > 0 {
				t.Errorf("room for %d: left behind: %v", n, left)
			}
			mustCommit(t, s, name, base.Digest)
			_, err = s.Collect(dawn, Policy{MaxSize: 1}) // room for the next round
			peer.Must(t, err)
			mustCommit(t, s, "base", "")
			checkTidy(t, s)
		}
	}
	if !seen["begin a layer"] || !seen["commit layer"] {
		t.Errorf("not every stage has met the full disk: %v", seen)
	}
}

// checkFull makes sure that an error of the store tells what to do about a full
// disk, and returns what was done.
func checkFull(t *testing.T, s *Store, err error) (deed string) {
	t.Helper()
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("it does not say that the disk is full: %v", err)
	}
	deed, _, _ = strings.Cut(err.Error(), ":")
	ours := deed == "begin a layer" || deed == "commit layer" || deed == "make scratch directory"
	if ours && !strings.Contains(err.Error(), "the store "+s.Dir()+" is full; herdbook store gc frees") {
		t.Errorf("it does not say what to do: %v", err)
	}
	return deed
}

func TestAFullDiskIsNamedByAll(t *testing.T) {
	dir := volume(t, "size=256k,nr_inodes=64")
	s, err := Open(filepath.Join(dir, "store"))
	peer.Must(t, err)
	base := mustCommit(t, s, "base", "")
	peer.Must(t, os.Remove(s.layerPath(base.Digest, usedName)))
	use(t, s) // as every build does
	free := fill(t, dir, 0, 0)
	for name, err := range writes(t.Context(), s, base.Digest) {
		if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "the store "+s.Dir()+" is full") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(filepath.Join(dir, "another")); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "is full") {
		t.Errorf("open another: %v", err)
	}
	// Collection needs no room.
	r, err := s.Collect(dawn.Add(day), Policy{MaxAge: 1})
	if err != nil || len(r.Layers) != 1 {
		t.Errorf("collect: %+v %v", r, err)
	}
	free()
}

func use(t *testing.T, s *Store) {
	t.Helper()
	done, err := s.Use(t.Context())
	peer.Must(t, err)
	peer.Must(t, done())
}

// writes tries everything that writes to a store.
func writes(ctx context.Context, s *Store, d digest.Digest) map[string]error {
	errs := map[string]error{}
	_, errs["begin"] = s.Begin(d)
	_, errs["lock"] = s.LockKey(ctx, key("new"))
	errs["record"] = s.Record(key("new"), d)
	errs["touch"] = s.Touch(d, dawn)
	errs["reach"] = s.Reach("/herd.hcl", []digest.Digest{d})
	return errs
}

func TestAReadOnlyStoreServesItsLayers(t *testing.T) {
	dir := volume(t, "size=1m")
	s, err := Open(filepath.Join(dir, "store"))
	peer.Must(t, err)
	base := mustCommit(t, s, "base", "")
	top := mustCommit(t, s, "top", base.Digest)
	use(t, s)
	peer.Must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	s, err = Open(s.Dir())
	peer.Must(t, err)
	l, ok, err := s.Lookup(key("top"))
	if !ok || err != nil || !cmp.Equal(l, top) {
		t.Errorf("lookup: %+v %v %v", l, ok, err)
	}
	if chain, err := s.Chain(top.Digest); err != nil || len(chain) != 2 {
		t.Errorf("chain: %+v %v", chain, err)
	}
	use(t, s)
	errs := writes(t.Context(), s, top.Digest)
	_, errs["open"] = Open(filepath.Join(dir, "another"))
	_, errs["collect"] = s.Collect(dawn.Add(day), Policy{MaxAge: 1})
	for name, err := range errs {
		store := s.Dir()
		if name == "open" {
			store = filepath.Join(dir, "another")
		}
		if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "the store "+store+" cannot be written to; --store puts it elsewhere") {
			t.Errorf("%s: %v", name, err)
		}
	}
	checkWhole(t, s)
}
