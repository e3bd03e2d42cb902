// Package store keeps layers, keys and media on disk, and collects what nobody
// needs any more. What a layer is made of is left to others.
//
// The layout, below one directory:
//
//	layers/DIGEST/disk.qcow2   the layer: an overlay on its parent, ../PARENT/disk.qcow2
//	layers/DIGEST/layer.json   its record
//	layers/DIGEST/log.ndjson   the events of its making
//	layers/DIGEST/used         its time of last use
//	layers/DIGEST/part-*       what artefacts of the layer have in common, a file named by what it is
//	layers/DIGEST/tests/       how each test of it ended last, a file named by the test's key
//	layers/work-*              a layer in the making, locked by who makes it
//	layers/failed-*            what a failed step left, for a look inside
//	keys/KEY                   the digest of the layer that a key stands for
//	media/CHECKSUM             what was fetched to start images from
//	repositories/              what was seen of repositories
//	roots/                     what definitions reach, which is never collected
//	locks/                     locks between processes
//
// A digest is the SHA-256 of disk.qcow2. The order of writes makes a crash at
// any moment harmless: the files of a layer are written and synced in its work
// directory; that is renamed to its digest and the directory synced; last the
// key is written, whole or not at all. Deletion goes the other way round.
package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"

	"herdbook/internal/digest"
	"herdbook/internal/program"
)

// Key is what a layer is asked for by: a digest of all that went into it, not
// of the layer.
type Key string

// Layer is the record of a layer.
type Layer struct {
	Digest  digest.Digest `json:"digest"`           // of disk.qcow2
	Parent  digest.Digest `json:"parent,omitempty"` // "" for a first layer
	Key     Key           `json:"key"`
	Inputs  []string      `json:"inputs"` // the lines that the key was made of
	Image   string        `json:"image"`
	Step    string        `json:"step"`
	Size    int64         `json:"size"` // bytes of disk.qcow2
	Created time.Time     `json:"created"`
	Elapsed time.Duration `json:"elapsed"` // of its making, in nanoseconds
	How     string        `json:"how"`     // accelerator, or host
	Reports []StepReport  `json:"reports,omitempty"`
}

// StepReport is what a program told of how it made a layer.
type StepReport struct {
	Kind    string          `json:"kind"`    // of the step
	Content json.RawMessage `json:"content"` // its form depends on Kind
}

const (
	diskName   = "disk.qcow2"
	recordName = "layer.json"
	LogName    = "log.ndjson" // what a step said, event by event, beside its disk
	usedName   = "used"
	workPrefix = "work-"
	failPrefix = "failed-"
	mediaName  = "media"
	testedName = "tests"

	packagesName     = "packages"
	repositoriesName = "repositories"
)

// Store is an open store. Several processes may use one at once.
type Store struct {
	dir string
}

// Open opens a store and makes its directories if they are missing.
func Open(dir string) (*Store, error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	s := &Store{absolute}
	for _, sub := range []string{"layers", "keys", "roots", "locks"} {
		if err := os.MkdirAll(filepath.Join(absolute, sub), 0o755); err != nil {
			return nil, fmt.Errorf("open store: %w", s.Explain(err))
		}
	}
	return s, nil
}

// Use keeps collection out until the function that it returns is called. Who
// makes or reads layers holds it; many may at once.
func (s *Store) Use(ctx context.Context) (done func() error, err error) {
	lock := flock.New(filepath.Join(s.dir, "locks", "use"))
	if _, err := lock.TryRLockContext(ctx, 100*time.Millisecond); err != nil {
		return nil, fmt.Errorf("wait for the end of a collection: %w", s.Explain(err))
	}
	return lock.Unlock, nil
}

// Dir is the store's directory.
func (s *Store) Dir() string { return s.dir }

// FullError says that there is no room in a store, and what to do about it.
type FullError struct {
	Dir string // of the store
	err error
}

// Error implements error.
func (e *FullError) Error() string {
	return fmt.Sprintf("%v: the store %s is full; herdbook store gc frees what no definition needs, --store puts it elsewhere", e.err, e.Dir)
}

// Unwrap returns the cause.
func (e *FullError) Unwrap() error { return e.err }

// Explain adds to an error of something that was done in the store what can be
// done about it. The programs that work there tell a full disk in their own words.
func (s *Store) Explain(err error) error {
	switch {
	case err == nil:
		return nil
	case program.Full(err):
		return &FullError{s.dir, err}
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: the store %s cannot be written to; --store puts it elsewhere", err, s.dir)
	}
	return err
}

func (s *Store) layerPath(d digest.Digest, name string) string {
	return filepath.Join(s.dir, "layers", string(d), name)
}

// MediaDir is the directory of what was fetched to start images from, each file
// named by its checksum. It may not be there yet.
func (s *Store) MediaDir() string { return filepath.Join(s.dir, mediaName) }

// PackagesDir is the directory of the packages' proxy. It may not be there yet.
func (s *Store) PackagesDir() string { return filepath.Join(s.dir, packagesName) }

// RepositoriesDir is the directory of what was seen of repositories. It may not be
// there yet.
func (s *Store) RepositoriesDir() string { return filepath.Join(s.dir, repositoriesName) }

// DiskPath is the path of a layer's disk, a qcow2 overlay.
func (s *Store) DiskPath(d digest.Digest) string { return s.layerPath(d, diskName) }

// LogPath is the path of the events of a layer's making, JSON lines.
func (s *Store) LogPath(d digest.Digest) string { return s.layerPath(d, LogName) }

// ErrNoLayer says that a layer is not there, or not whole.
var ErrNoLayer = errors.New("no such layer")

// Layer reads a layer's record and makes sure of its disk.
func (s *Store) Layer(d digest.Digest) (Layer, error) {
	if _, err := digest.Parse(string(d)); err != nil {
		return Layer{}, err
	}
	text, err := os.ReadFile(s.layerPath(d, recordName))
	if errors.Is(err, fs.ErrNotExist) {
		return Layer{}, fmt.Errorf("read layer %s: %w", d.Short(), ErrNoLayer)
	}
	if err != nil {
		return Layer{}, fmt.Errorf("read layer %s: %w", d.Short(), err)
	}
	var l Layer
	if err := json.Unmarshal(text, &l); err != nil {
		return Layer{}, fmt.Errorf("read layer %s: %w: its record: %w", d.Short(), ErrNoLayer, err)
	}
	stat, err := os.Stat(s.DiskPath(d))
	if err != nil || stat.Size() != l.Size || l.Digest != d {
		return Layer{}, fmt.Errorf("read layer %s: %w: its disk does not fit its record", d.Short(), ErrNoLayer)
	}
	return l, nil
}

// Lookup finds the layer that a key stands for; false if there is none, or only
// a damaged one.
func (s *Store) Lookup(k Key) (Layer, bool, error) {
	path, err := s.keyPath(k)
	if err != nil {
		return Layer{}, false, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Layer{}, false, nil
	}
	if err != nil {
		return Layer{}, false, fmt.Errorf("look up key %.12s: %w", k, err)
	}
	d, err := digest.Parse(strings.TrimSpace(string(text)))
	if err != nil {
		return Layer{}, false, nil // damaged: as if it were not there
	}
	l, err := s.Layer(d)
	if errors.Is(err, ErrNoLayer) {
		return Layer{}, false, nil
	}
	if err != nil {
		return Layer{}, false, err
	}
	return l, true, nil
}

func (s *Store) keyPath(k Key) (string, error) {
	if _, err := digest.Parse(string(k)); err != nil {
		return "", fmt.Errorf("key: %w", err)
	}
	return filepath.Join(s.dir, "keys", string(k)), nil
}

// Record lets a key stand for a layer that is there. It is the last write of a
// layer, and the only one of a test that a layer passed.
func (s *Store) Record(k Key, d digest.Digest) error {
	path, err := s.keyPath(k)
	if err != nil {
		return err
	}
	if _, err := digest.Parse(string(d)); err != nil {
		return fmt.Errorf("record key %.12s: %w", k, err)
	}
	if err := writeWhole(path, []byte(string(d)+"\n")); err != nil {
		return fmt.Errorf("record key %.12s: %w", k, s.Explain(err))
	}
	return syncDir(filepath.Join(s.dir, "keys"))
}

// writeWhole writes a file whole or not at all. What a crash leaves of it lies
// beside it, where collection finds it.
func writeWhole(path string, text []byte) error {
	return renameio.WriteFile(path, text, 0o644, renameio.WithTempDir(filepath.Dir(path)))
}

// Touch notes that a layer was used at a time; collection goes by it.
func (s *Store) Touch(d digest.Digest, now time.Time) error {
	if _, err := digest.Parse(string(d)); err != nil {
		return fmt.Errorf("note the use of a layer: %w", err)
	}
	path := s.layerPath(d, usedName)
	err := os.Chtimes(path, now, now)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.WriteFile(path, nil, 0o644); err == nil {
			err = os.Chtimes(path, now, now)
		}
	}
	if err != nil {
		return fmt.Errorf("note the use of layer %s: %w", d.Short(), s.Explain(err))
	}
	return nil
}

// List returns every whole layer, the newest first.
func (s *Store) List() ([]Layer, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil {
		return nil, fmt.Errorf("list store: %w", err)
	}
	var list []Layer
	for _, e := range entries {
		d, err := digest.Parse(e.Name())
		if err != nil {
			continue
		}
		l, err := s.Layer(d)
		if errors.Is(err, ErrNoLayer) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, l)
	}
	slices.SortStableFunc(list, func(a, b Layer) int { return b.Created.Compare(a.Created) })
	return list, nil
}

// Chain returns a layer and those that it stands on, the first one first.
func (s *Store) Chain(d digest.Digest) ([]Layer, error) {
	var chain []Layer
	for d != "" {
		l, err := s.Layer(d)
		if err != nil {
			return nil, err
		}
		if len(chain) > 1000 {
			return nil, fmt.Errorf("read layer %s: it stands on itself", d.Short())
		}
		chain = append(chain, l)
		d = l.Parent
	}
	slices.Reverse(chain)
	return chain, nil
}

// Log opens the events of a layer's making.
func (s *Store) Log(d digest.Digest) (io.ReadCloser, error) {
	if _, err := digest.Parse(string(d)); err != nil {
		return nil, fmt.Errorf("read the log of a layer: %w", err)
	}
	f, err := os.Open(s.LogPath(d))
	if err != nil {
		return nil, fmt.Errorf("read the log of layer %s: %w", d.Short(), err)
	}
	return f, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
