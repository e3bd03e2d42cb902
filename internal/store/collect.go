package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"herdbook/internal/digest"
)

// Policy says what may be collected. Layers that a definition reaches, and
// those that they stand on, always stay.
type Policy struct {
	MaxAge  time.Duration // layers that were not used for longer go; 0: no limit
	MaxSize int64         // then the longest unused go until the rest is no larger, in bytes, and parts of the rest; 0: no limit
	DryRun  bool          // only tell
}

// Report is what a collection removed, or would.
type Report struct {
	Layers []Layer   // in the order of their removal
	Parts  []Trimmed // layers that stay without theirs
	Freed  int64     // bytes
	Work   []string  // names of what processes left that are no more, and of what was fetched
	Left   int64     // bytes of the layers that stay, with their parts
}

// Trimmed is a layer that lost parts.
type Trimmed struct {
	Layer Layer
	Bytes int64
}

// FailedAge is how long what a failed step left is kept, unless told otherwise.
const FailedAge = 24 * time.Hour

// ErrInUse says that layers are being made or read, so that none can go.
var ErrInUse = errors.New("another herdbook uses the store; collect when it is done")

// Collect removes what no one needs: first the keys of the layers that go, then
// the layers, children before their parents, of each first its record, then its
// disk, so that a crash in between leaves nothing that looks whole.
func (s *Store) Collect(now time.Time, p Policy) (r Report, err error) {
	lock := flock.New(filepath.Join(s.dir, "locks", "use"))
	free, err := lock.TryLock()
	if err == nil && !free {
		err = ErrInUse
	}
	if err != nil {
		return r, fmt.Errorf("collect: %w", s.Explain(err))
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if err := s.collect(now, p, &r); err != nil {
		return r, fmt.Errorf("collect: %w", s.Explain(err))
	}
	return r, nil
}

func (s *Store) collect(now time.Time, p Policy, r *Report) error {
	if err := s.collectWork(now, p, r); err != nil {
		return err
	}
	if err := s.collectFetched(now, p, r); err != nil {
		return err
	}
	layers, err := s.List()
	if err != nil {
		return err
	}
	reached, stale, err := s.reached()
	if err != nil {
		return err
	}
	for d := range s.basesInUse(r.Work) {
		reached[d] = true
	}
	sizes, err := s.sizes(layers)
	if err != nil {
		return err
	}
	doomed := s.choose(choice{layers, sizes, reached}, now, p)
	stay := map[digest.Digest]bool{}
	for _, l := range layers {
		stay[l.Digest] = true
		r.Left += sizes[l.Digest]
	}
	for _, l := range doomed {
		delete(stay, l.Digest)
		r.Left -= sizes[l.Digest]
	}
	if !p.DryRun {
		if err := s.sweep(stay, stale); err != nil {
			return err
		}
	}
	for _, l := range doomed {
		if !p.DryRun {
			if err := s.remove(l.Digest); err != nil {
				return fmt.Errorf("layer %s: %w", l.Digest.Short(), err)
			}
		}
		r.Layers, r.Freed = append(r.Layers, l), r.Freed+sizes[l.Digest]
	}
	for _, l := range layers { // the longest unused first
		if stay[l.Digest] {
			if err := s.collectParts(l, p, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// collectWork removes what processes left that are no more, failed steps of
// yesterday, and layers that are not whole.
func (s *Store) collectWork(now time.Time, p Policy, r *Report) error {
	dir := filepath.Join(s.dir, "layers")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		gone, err := s.isLeftover(path, now)
		if err != nil {
			return err
		}
		if !gone {
			continue
		}
		r.Work = append(r.Work, e.Name())
		if !p.DryRun {
			if err := errors.Join(os.RemoveAll(path), removeIfThere(s.workLock(path))); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) isLeftover(path string, now time.Time) (bool, error) {
	name := filepath.Base(path)
	if strings.HasPrefix(name, failPrefix) {
		stat, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil && now.Sub(stat.ModTime()) > FailedAge, err
	}
	if d, err := digest.Parse(name); err == nil {
		_, err := s.Layer(d)
		return errors.Is(err, ErrNoLayer), nil
	}
	if !strings.HasPrefix(name, workPrefix) {
		return false, nil // not ours
	}
	lock := flock.New(s.workLock(path))
	free, err := lock.TryLock()
	if err != nil || !free {
		return false, err
	}
	return true, lock.Unlock()
}

// Expire removes what failed steps left, memory of machines among it, that is older than
// age. A shell that looks at it goes on. In a store that cannot be written to it stays.
func (s *Store) Expire(now time.Time, age time.Duration) error {
	failed, err := filepath.Glob(filepath.Join(s.dir, "layers", failPrefix+"*"))
	if err != nil {
		return err
	}
	for _, path := range failed {
		stat, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && now.Sub(stat.ModTime()) <= age {
			continue
		}
		err = errors.Join(err, os.RemoveAll(path))
		if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
			return fmt.Errorf("remove what a failed step left: %w", s.Explain(err))
		}
	}
	return nil
}

// choice is what there is to choose of.
type choice struct {
	layers  []Layer                 // are put in the order of their last use
	sizes   map[digest.Digest]int64 // with parts
	reached map[digest.Digest]bool
}

// choose lists the layers that may go, children before their parents.
func (s *Store) choose(c choice, now time.Time, p Policy) []Layer {
	layers := c.layers
	children := map[digest.Digest]int{}
	total := int64(0)
	used := map[digest.Digest]time.Time{}
	for _, l := range layers {
		children[l.Parent]++
		total += c.sizes[l.Digest]
		used[l.Digest] = s.lastUse(l)
	}
	kept := map[digest.Digest]bool{}
	byDigest := map[digest.Digest]Layer{}
	for _, l := range layers {
		byDigest[l.Digest] = l
	}
	for d := range c.reached {
		for d != "" && !kept[d] {
			kept[d] = true
			d = byDigest[d].Parent
		}
	}
	slices.SortStableFunc(layers, func(a, b Layer) int { return used[a.Digest].Compare(used[b.Digest]) })
	var doomed []Layer
	gone := map[digest.Digest]bool{}
	for _, mayGo := range []func(Layer) bool{
		func(l Layer) bool { return p.MaxAge > 0 && now.Sub(used[l.Digest]) > p.MaxAge },
		func(Layer) bool { return p.MaxSize > 0 && total > p.MaxSize },
	} {
		for i := 0; i < len(layers); i++ {
			l := layers[i]
			if gone[l.Digest] || kept[l.Digest] || children[l.Digest] > 0 || !mayGo(l) {
				continue
			}
			gone[l.Digest] = true
			children[l.Parent]--
			total -= c.sizes[l.Digest]
			doomed = append(doomed, l)
			i = -1 // its parent, unused for longer, may be free to go now
		}
	}
	return doomed
}

// basesInUse are the parents of what is being made now or has failed: their
// disks are open, or needed for a look inside. What is gone does not count.
func (s *Store) basesInUse(gone []string) map[digest.Digest]bool {
	bases := map[digest.Digest]bool{}
	files, err := filepath.Glob(filepath.Join(s.dir, "layers", "*-*", diskName))
	if err != nil {
		return bases
	}
	for _, file := range files {
		if slices.Contains(gone, filepath.Base(filepath.Dir(file))) {
			continue
		}
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		// The name of the backing file stands near the start of a qcow2 image.
		head := make([]byte, 4096)
		n, _ := f.Read(head)
		f.Close()
		_, rest, ok := strings.Cut(string(head[:n]), "../")
		if ok && len(rest) >= 64 {
			bases[digest.Digest(rest[:64])] = true
		}
	}
	return bases
}

func (s *Store) lastUse(l Layer) time.Time {
	stat, err := os.Stat(s.layerPath(l.Digest, usedName))
	if err != nil {
		return l.Created
	}
	return stat.ModTime()
}

// sweep removes the keys of layers that do not stay, stale roots, and what
// processes that are no more left among keys, roots and locks.
func (s *Store) sweep(stay map[digest.Digest]bool, stale []string) error {
	keys, err := s.entries("keys")
	if err != nil {
		return err
	}
	for _, path := range keys {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !isName(path) || !stay[digest.Digest(strings.TrimSpace(string(text)))] {
			stale = append(stale, path)
		}
	}
	roots, err := s.entries("roots")
	if err != nil {
		return err
	}
	stale = append(stale, slices.DeleteFunc(roots, isName)...)
	for _, path := range stale {
		if err := removeIfThere(path); err != nil {
			return err
		}
	}
	return s.sweepLocks()
}

// sweepLocks removes the locks of keys and of work that nobody holds. Nobody
// is about to take one either: who makes layers uses the store.
func (s *Store) sweepLocks() error {
	locks, err := s.entries("locks")
	if err != nil {
		return err
	}
	for _, path := range locks {
		if !isName(path) && !strings.HasPrefix(filepath.Base(path), workPrefix) {
			continue
		}
		lock := flock.New(path)
		free, err := lock.TryLock()
		if err == nil && free {
			err = errors.Join(removeIfThere(path), lock.Unlock())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entries are the paths of what is in a directory of the store.
func (s *Store) entries(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, dir))
	var paths []string
	for _, e := range entries {
		paths = append(paths, filepath.Join(s.dir, dir, e.Name()))
	}
	return paths, err
}

// isName tells whether a file has a key's or a root's name. Others are what a
// crash left of the writing of one.
func isName(path string) bool {
	_, err := digest.Parse(filepath.Base(path))
	return err == nil
}

func (s *Store) remove(d digest.Digest) error {
	if err := removeIfThere(s.layerPath(d, recordName)); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(s.dir, "layers", string(d)))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
