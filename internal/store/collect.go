package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"herdbook/internal/digest"
)

// Policy says what may be collected. Layers that a definition reaches, and
// those that they stand on, always stay.
type Policy struct {
	MaxAge  time.Duration // layers that were not used for longer go; 0: no limit
	MaxSize int64         // then the longest unused go until the rest is no larger, in bytes; 0: no limit
	DryRun  bool          // only tell
}

// Report is what a collection removed, or would.
type Report struct {
	Layers []Layer // in the order of their removal
	Freed  int64   // bytes
	Work   []string
	Left   int64 // bytes of the layers that stay
}

// failedAge is how long what a failed step left is kept.
const failedAge = 24 * time.Hour

// ErrInUse says that layers are being made or read, so that none can go.
var ErrInUse = errors.New("another herdbook uses the store; collect when it is done")

// Collect removes what no one needs, children before their parents: first the
// keys of a layer, then its record, then its disk, so that a crash in between
// leaves nothing that looks whole.
func (s *Store) Collect(now time.Time, p Policy) (r Report, err error) {
	lock := flock.New(filepath.Join(s.dir, "locks", "use"))
	free, err := lock.TryLock()
	if err == nil && !free {
		err = ErrInUse
	}
	if err != nil {
		return r, fmt.Errorf("collect: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if err := s.collectWork(now, p, &r); err != nil {
		return r, fmt.Errorf("collect: %w", err)
	}
	layers, err := s.List()
	if err != nil {
		return r, fmt.Errorf("collect: %w", err)
	}
	reached, stale, err := s.reached()
	if err != nil {
		return r, fmt.Errorf("collect: %w", err)
	}
	doomed := s.choose(layers, reached, now, p)
	keys, err := s.keysOf(doomed)
	if err != nil {
		return r, fmt.Errorf("collect: %w", err)
	}
	for _, l := range layers {
		if !slices.ContainsFunc(doomed, func(d Layer) bool { return d.Digest == l.Digest }) {
			r.Left += l.Size
		}
	}
	for _, l := range doomed {
		if !p.DryRun {
			if err := s.remove(l.Digest, keys[l.Digest]); err != nil {
				return r, fmt.Errorf("collect layer %s: %w", l.Digest.Short(), err)
			}
		}
		r.Layers, r.Freed = append(r.Layers, l), r.Freed+l.Size
	}
	for _, path := range stale {
		if p.DryRun {
			break
		}
		if err := removeIfThere(path); err != nil {
			return r, fmt.Errorf("collect: %w", err)
		}
	}
	return r, nil
}

// collectWork removes what processes left that are no more, failed steps of
// yesterday, and directories without a record.
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
		return err == nil && now.Sub(stat.ModTime()) > failedAge, err
	}
	if !strings.HasPrefix(name, workPrefix) {
		_, err := os.Stat(filepath.Join(path, recordName))
		return errors.Is(err, fs.ErrNotExist), nil
	}
	lock := flock.New(s.workLock(path))
	free, err := lock.TryLock()
	if err != nil || !free {
		return false, err
	}
	return true, lock.Unlock()
}

// choose lists the layers that may go, children before their parents.
func (s *Store) choose(layers []Layer, reached map[digest.Digest]bool, now time.Time, p Policy) []Layer {
	children := map[digest.Digest]int{}
	total := int64(0)
	used := map[digest.Digest]time.Time{}
	for _, l := range layers {
		children[l.Parent]++
		total += l.Size
		used[l.Digest] = s.lastUse(l)
	}
	bases := s.basesInUse()
	kept := map[digest.Digest]bool{}
	byDigest := map[digest.Digest]Layer{}
	for _, l := range layers {
		byDigest[l.Digest] = l
	}
	for d := range reached {
		for d != "" && !kept[d] {
			kept[d] = true
			d = byDigest[d].Parent
		}
	}
	// The longest unused first; a parent is older than its children, but goes
	// only when they are gone, so the list is gone through until nothing moves.
	slices.SortStableFunc(layers, func(a, b Layer) int { return used[a.Digest].Compare(used[b.Digest]) })
	var doomed []Layer
	gone := map[digest.Digest]bool{}
	for moved := true; moved; {
		moved = false
		for _, l := range layers {
			old := p.MaxAge > 0 && now.Sub(used[l.Digest]) > p.MaxAge
			large := p.MaxSize > 0 && total > p.MaxSize
			if gone[l.Digest] || kept[l.Digest] || bases[l.Digest] || children[l.Digest] > 0 || !old && !large {
				continue
			}
			gone[l.Digest], moved = true, true
			children[l.Parent]--
			total -= l.Size
			doomed = append(doomed, l)
		}
	}
	return doomed
}

// basesInUse are the parents of what is being made now or has failed: their
// disks are open, or needed for a look inside.
func (s *Store) basesInUse() map[digest.Digest]bool {
	bases := map[digest.Digest]bool{}
	files, err := filepath.Glob(filepath.Join(s.dir, "layers", "*-*", diskName))
	if err != nil {
		return bases
	}
	for _, file := range files {
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

// keysOf finds the keys that stand for layers.
func (s *Store) keysOf(layers []Layer) (map[digest.Digest][]Key, error) {
	keys := map[digest.Digest][]Key{}
	if len(layers) == 0 {
		return keys, nil
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, "keys"))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(s.dir, "keys", e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		d := digest.Digest(strings.TrimSpace(string(text)))
		keys[d] = append(keys[d], Key(e.Name()))
	}
	return keys, nil
}

func (s *Store) remove(d digest.Digest, keys []Key) error {
	for _, k := range keys {
		if err := removeIfThere(filepath.Join(s.dir, "keys", string(k))); err != nil {
			return err
		}
	}
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
