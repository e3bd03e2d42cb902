// Package publish puts images into a repository: a directory of plain files
// that any web server can serve and that virt-builder builds from. Images are
// written before the index that names them, each file whole or not at all, so a
// reader sees a whole old or a whole new repository at any moment.
package publish

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/repo"
	"herdbook/internal/signed"
)

// Repository is a directory to publish in.
type Repository struct {
	Dir    string
	Signer *signed.Signer // nil: without a signature
	Now    time.Time      // when what is written now is signed
}

// Image is what is published. Entry needs ID, Arch, Size and Layer; File,
// Checksum, Revision, Format and CompressedSize are filled in.
type Image struct {
	Disk  string // path of the layer's disk, a qcow2 chain
	Entry repo.Entry
}

// Publish puts an image into the repository and returns its entry. If the same
// layer is published under the name already, it returns that and false. Other
// revisions stay as they are, only the index names the newest.
func (r Repository) Publish(ctx context.Context, image Image, sink event.Sink) (repo.Entry, bool, error) {
	entry, fresh, err := r.publish(ctx, image, sink)
	if err != nil {
		return entry, false, fmt.Errorf("publish %s in %s: %w", image.Entry.ID, r.Dir, err)
	}
	return entry, fresh, nil
}

func (r Repository) publish(ctx context.Context, image Image, sink event.Sink) (entry repo.Entry, fresh bool, err error) {
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return entry, false, err
	}
	lock := flock.New(filepath.Join(r.Dir, ".lock"))
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return entry, false, fmt.Errorf("wait for another publisher: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	entries, err := r.Entries()
	if err != nil {
		return entry, false, err
	}
	entry = image.Entry
	place, old := find(entries, entry)
	if old.Layer == entry.Layer && r.has(old) {
		return old, false, r.complete(entries)
	}
	entry.Revision, entry.Format = old.Revision+1, string(disk.QCOW2)
	entry.File = fmt.Sprintf("%s-%d.qcow2", entry.ID, entry.Revision)
	sink.Emit(event.Event{Kind: event.Phase, Text: "compress"})
	if err := r.writeImage(ctx, image.Disk, &entry); err != nil {
		return entry, false, err
	}
	if place < 0 {
		entries = append(entries, entry)
	} else {
		entry.Other = old.Other // what someone wrote into the index by hand
		entries[place] = entry
	}
	return entry, true, r.writeIndex(entries)
}

// find returns the place of an image's entry and the entry; -1 and none if it
// is new.
func find(entries []repo.Entry, e repo.Entry) (int, repo.Entry) {
	for i, old := range entries {
		if old.ID == e.ID && old.Arch == e.Arch {
			return i, old
		}
	}
	return -1, repo.Entry{}
}

// has tells whether an entry's file is there, in its size. Its bytes are not
// read: that is verifying.
func (r Repository) has(e repo.Entry) bool {
	stat, err := os.Stat(filepath.Join(r.Dir, e.File))
	return err == nil && stat.Mode().IsRegular() && stat.Size() == e.CompressedSize
}

// isComplete tells whether the files that follow the index are there.
func (r Repository) isComplete() bool {
	for _, name := range []string{repo.SignedIndexName, repo.KeyName} {
		if _, err := os.Stat(filepath.Join(r.Dir, name)); err != nil && r.Signer != nil {
			return false
		}
	}
	_, err := os.Stat(filepath.Join(r.Dir, repo.IndexName))
	return err == nil
}

// complete mends what a crash between the writes of an index left undone.
func (r Repository) complete(entries []repo.Entry) error {
	if r.isComplete() {
		return nil
	}
	return r.writeIndex(entries)
}

// Entries reads the index. A signed repository's must verify with the signer's
// key: who has another one must not add to it.
func (r Repository) Entries() ([]repo.Entry, error) {
	name := repo.IndexName
	if r.Signer != nil {
		name = repo.SignedIndexName
	}
	text, err := os.ReadFile(filepath.Join(r.Dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, r.mustBeNew(name)
	}
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	if r.Signer != nil {
		if text, err = signed.Verify(text, r.Signer.Keys(), r.Now); err != nil {
			return nil, fmt.Errorf("read %s: %w; was it signed with another key than this repository's signing_key?", name, err)
		}
	}
	return repo.Parse(text)
}

// mustBeNew refuses a repository that is signed where this one is not, or the
// other way round: its images would vanish from one of its two indexes.
func (r Repository) mustBeNew(missing string) error {
	other := repo.SignedIndexName
	if missing == other {
		other = repo.IndexName
	}
	if _, err := os.Stat(filepath.Join(r.Dir, other)); err == nil {
		return fmt.Errorf("it has %s but no %s; move the directory away, or give the signing_key that made it", other, missing)
	}
	return nil
}

// writeImage writes the image beside its place, and when it is whole, renames it.
func (r Repository) writeImage(ctx context.Context, src string, e *repo.Entry) (err error) {
	dir, err := os.MkdirTemp(r.Dir, ".publish-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	temporary := filepath.Join(dir, e.File)
	if err := disk.Flatten(ctx, src, temporary, disk.FlattenOptions{Compress: true}); err != nil {
		return err
	}
	f, err := os.Open(temporary)
	if err != nil {
		return err
	}
	sum := sha512.New()
	e.CompressedSize, err = io.Copy(sum, f)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("digest %s: %w", e.File, err)
	}
	e.Checksum = hex.EncodeToString(sum.Sum(nil))
	return errors.Join(os.Chmod(temporary, 0o644), os.Rename(temporary, filepath.Join(r.Dir, e.File)))
}

// writeIndex writes the public key, the signed index and the index: each is
// right without those that follow.
func (r Repository) writeIndex(entries []repo.Entry) error {
	text := repo.Format(entries)
	if _, err := repo.Parse(text); err != nil {
		return fmt.Errorf("make index: %w", err)
	}
	if r.Signer != nil {
		key, err := r.Signer.PublicKey()
		if err != nil {
			return err
		}
		message, err := r.Signer.Sign(text, r.Now)
		if err != nil {
			return err
		}
		if err := errors.Join(r.write(repo.KeyName, key), r.write(repo.SignedIndexName, message)); err != nil {
			return err
		}
	}
	return r.write(repo.IndexName, text)
}

func (r Repository) write(name string, text []byte) error {
	return renameio.WriteFile(filepath.Join(r.Dir, name), text, 0o644)
}
