package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"herdbook/internal/digest"
)

// Work is a layer in the making. Its directory lies among the layers, so that the
// name of the backing file is the same before and after the commit.
type Work struct {
	Dir    string
	Parent digest.Digest

	store   *Store
	lock    *flock.Flock
	log     *os.File
	reports []StepReport
	done    bool
}

// Begin opens a work directory. It must be ended by Commit, Keep or Discard.
func (s *Store) Begin(parent digest.Digest) (*Work, error) {
	if parent != "" {
		if _, err := s.Layer(parent); err != nil {
			return nil, fmt.Errorf("begin a layer: %w", err)
		}
	}
	dir, err := os.MkdirTemp(filepath.Join(s.dir, "layers"), workPrefix)
	if err != nil {
		return nil, fmt.Errorf("begin a layer: %w", s.Explain(err))
	}
	w := &Work{Dir: dir, Parent: parent, store: s, lock: flock.New(s.workLock(dir))}
	ok, err := w.lock.TryLock()
	if err == nil && !ok {
		err = errors.New("its lock is held")
	}
	if err == nil {
		w.log, err = os.OpenFile(filepath.Join(dir, LogName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin a layer: %w", s.Explain(err)), os.RemoveAll(dir), w.end())
	}
	return w, nil
}

// workLock is the lock of a work directory. It lies beside, not in it, since
// the directory is renamed.
func (s *Store) workLock(dir string) string {
	return filepath.Join(s.dir, "locks", filepath.Base(dir))
}

// DiskPath is where the layer's disk must be made.
func (w *Work) DiskPath() string { return filepath.Join(w.Dir, diskName) }

// Scratch is a directory for what is not of the layer; it goes with the work.
func (w *Work) Scratch() (string, error) {
	dir := filepath.Join(w.Dir, "scratch")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make scratch directory: %w", w.store.Explain(err))
	}
	return dir, nil
}

// BackingName is the parent's disk, as the overlay must name it.
func (w *Work) BackingName() string {
	return filepath.Join("..", string(w.Parent), diskName)
}

// Write appends to the log of the work.
func (w *Work) Write(p []byte) (int, error) { return w.log.Write(p) }

// Report adds a report to the layer's record.
func (w *Work) Report(kind string, content any) error {
	text, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("record a report: %w", err)
	}
	w.reports = append(w.reports, StepReport{kind, text})
	return nil
}

// Commit makes a layer of the work. Digest, Parent and Size of the record are
// filled in.
func (w *Work) Commit(l Layer) (Layer, error) {
	l, err := w.commit(l)
	if err != nil {
		return l, fmt.Errorf("commit layer: %w", w.store.Explain(err))
	}
	return l, nil
}

func (w *Work) commit(l Layer) (Layer, error) {
	if err := os.RemoveAll(filepath.Join(w.Dir, "scratch")); err != nil {
		return l, err
	}
	disk, err := os.Open(w.DiskPath())
	if err != nil {
		return l, err
	}
	l.Parent, l.Reports = w.Parent, w.reports
	l.Digest, l.Size, err = digest.OfReader(disk)
	if err := errors.Join(err, disk.Sync(), disk.Close()); err != nil {
		return l, err
	}
	if err := errors.Join(w.log.Sync(), w.log.Close()); err != nil {
		return l, err
	}
	text, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return l, err
	}
	if err := writeSynced(filepath.Join(w.Dir, recordName), append(text, '\n')); err != nil {
		return l, err
	}
	if err := syncDir(w.Dir); err != nil {
		return l, err
	}
	if err := w.publish(l.Digest); err != nil {
		return l, err
	}
	if err := w.store.Touch(l.Digest, l.Created); err != nil {
		return l, err
	}
	if err := w.store.Record(l.Key, l.Digest); err != nil {
		return l, err
	}
	return l, w.end()
}

// publish gives the directory its name. An equal layer that is there stays.
func (w *Work) publish(d digest.Digest) (err error) {
	// Two processes may make the same layer by different keys. The second must
	// not take the first one's for a damaged one.
	lock := flock.New(filepath.Join(w.store.dir, "locks", "publish"))
	if err := lock.Lock(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if _, err := w.store.Layer(d); err == nil {
		return os.RemoveAll(w.Dir)
	}
	target := filepath.Join(w.store.dir, "layers", string(d))
	// A damaged one of the same name makes room.
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	if err := os.Rename(w.Dir, target); err != nil {
		return err
	}
	return syncDir(filepath.Dir(target))
}

func writeSynced(path string, p []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(p)
	return errors.Join(err, f.Sync(), f.Close())
}

// end frees the lock.
func (w *Work) end() error {
	if w.done {
		return nil
	}
	w.done = true
	return errors.Join(w.lock.Unlock(), removeIfThere(w.lock.Path()))
}

// Discard throws the work away. After Commit or Keep it does nothing.
func (w *Work) Discard() error {
	if w.done {
		return nil
	}
	// The log may be closed already by a commit that failed.
	_ = w.log.Close()
	if err := errors.Join(os.RemoveAll(w.Dir), w.end()); err != nil {
		return fmt.Errorf("discard work: %w", err)
	}
	return nil
}

// Keep leaves the disk and the log of a failed step for a look inside, in place
// of what an earlier failure of the image left.
func (w *Work) Keep(image string) error {
	_ = w.log.Close()
	target := w.store.failedPath(image)
	if err := errors.Join(os.RemoveAll(target), os.RemoveAll(filepath.Join(w.Dir, "scratch"))); err != nil {
		return fmt.Errorf("keep what failed: %w", err)
	}
	if err := os.Rename(w.Dir, target); err != nil {
		return fmt.Errorf("keep what failed: %w", err)
	}
	return w.end()
}

// failedPath is where what failed of an image lies. The image of a target, such as
// web/openstack, has the slash as a plus, which is in no other name.
func (s *Store) failedPath(image string) string {
	return filepath.Join(s.dir, "layers", failPrefix+strings.ReplaceAll(image, "/", "+"))
}

// Failed returns the disk that a failed step of an image left; false if there
// is none.
func (s *Store) Failed(image string) (path string, ok bool) {
	path = filepath.Join(s.failedPath(image), diskName)
	_, err := os.Stat(path)
	return path, err == nil
}

// LockKey waits until no other process makes the layer of a key. The function
// that it returns frees the lock.
func (s *Store) LockKey(ctx context.Context, k Key) (unlock func() error, err error) {
	if _, err := s.keyPath(k); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(s.dir, "locks", string(k)))
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return nil, fmt.Errorf("wait for another herdbook that makes the same layer: %w", s.Explain(err))
	}
	return lock.Unlock, nil
}
