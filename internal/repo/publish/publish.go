// Package publish puts images into a repository: a directory of plain files
// that any web server can serve and that virt-builder builds from. Images are
// written before the index that names them, each file whole or not at all, so a
// reader sees a whole old or a whole new repository at any moment.
package publish

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
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
	entry.File = fileName(entries, entry)
	entry.Other = append(entry.Other, byHand(old)...)
	// What virt-builder could not read must not get as far as the disk.
	if _, err := repo.Parse(repo.Format([]repo.Entry{entry})); err != nil {
		return entry, false, fmt.Errorf("make index: %w", err)
	}
	sink.Emit(event.Event{Kind: event.Phase, Text: "compress"})
	err = r.inScratch(func(scratch string) error {
		if err := r.writeImage(ctx, scratch, image.Disk, &entry); err != nil {
			return err
		}
		if place < 0 {
			entries = append(entries, entry)
		} else {
			entries[place] = entry
		}
		return r.writeIndex(scratch, entries)
	})
	return entry, err == nil, err
}

// byHand are the fields that someone wrote into the index, without those that
// tell of the old file.
func byHand(old repo.Entry) []repo.Field {
	return slices.DeleteFunc(slices.Clone(old.Other), func(f repo.Field) bool {
		return f.Key == "sig" || strings.HasPrefix(f.Key, "checksum")
	})
}

// inScratch calls write with a directory for files that are not whole yet. One
// that a killed publisher left goes: who has the lock is alone.
func (r Repository) inScratch(write func(scratch string) error) (err error) {
	scratch := filepath.Join(r.Dir, ".publish")
	if err := os.RemoveAll(scratch); err != nil {
		return err
	}
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	return write(scratch)
}

// fileName names an image's file. The name of the architecture is in it only if
// another image has the plain name.
func fileName(entries []repo.Entry, e repo.Entry) string {
	plain := fmt.Sprintf("%s-%d.qcow2", e.ID, e.Revision)
	if slices.ContainsFunc(entries, func(other repo.Entry) bool { return other.File == plain }) {
		return fmt.Sprintf("%s-%s-%d.qcow2", e.ID, e.Arch, e.Revision)
	}
	return plain
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

// complete mends what a crash between the writes of an index left undone.
func (r Repository) complete(entries []repo.Entry) error {
	whole, err := r.isComplete()
	if whole || err != nil {
		return err
	}
	return r.inScratch(func(scratch string) error { return r.writeIndex(scratch, entries) })
}

// blanks are what a signature does not cover.
var blanks = regexp.MustCompile(`(?m)[ \t\r]+$`)

// isComplete tells whether the files beside the signed index are those that
// were written with it.
func (r Repository) isComplete() (bool, error) {
	if r.Signer == nil {
		return true, nil
	}
	key, err := r.Signer.PublicKey()
	if err != nil {
		return false, err
	}
	text, err := r.read()
	if err != nil {
		return false, err
	}
	for name, want := range map[string][]byte{repo.KeyName: key, repo.IndexName: text} {
		got, err := os.ReadFile(filepath.Join(r.Dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if !bytes.Equal(blanks.ReplaceAll(got, nil), blanks.ReplaceAll(want, nil)) {
			return false, nil
		}
	}
	return true, nil
}

// Entries reads the index. A signed repository's must verify with the signer's
// key: who has another one must not add to it.
func (r Repository) Entries() ([]repo.Entry, error) {
	if err := r.checkKind(); err != nil {
		return nil, err
	}
	text, err := r.read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return repo.Parse(text)
}

// read returns the text of the index, verified if it is signed.
func (r Repository) read() ([]byte, error) {
	name := repo.IndexName
	if r.Signer != nil {
		name = repo.SignedIndexName
	}
	text, err := os.ReadFile(filepath.Join(r.Dir, name))
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	if r.Signer == nil {
		return text, nil
	}
	if text, err = signed.Verify(text, r.Signer.Keys(), r.Now); err != nil {
		return nil, fmt.Errorf("read %s: %w; was it signed with another key than this repository's signing_key?", name, err)
	}
	return text, nil
}

// checkKind refuses a repository that is signed where this one is not, or the
// other way round: its images would vanish from one of its two indexes.
func (r Repository) checkKind() error {
	there := func(name string) bool {
		_, err := os.Lstat(filepath.Join(r.Dir, name))
		return err == nil
	}
	isSigned := there(repo.SignedIndexName)
	switch {
	case r.Signer == nil && isSigned:
		return fmt.Errorf("it has %s; move the directory away, or give the signing_key that made it", repo.SignedIndexName)
	case r.Signer != nil && !isSigned && there(repo.IndexName):
		return fmt.Errorf("it has %s but no %s; move the directory away, or publish without a signing_key", repo.IndexName, repo.SignedIndexName)
	}
	return nil
}

// writeImage writes the image beside its place, and when it is whole, renames it.
func (r Repository) writeImage(ctx context.Context, scratch, src string, e *repo.Entry) error {
	temporary := filepath.Join(scratch, e.File)
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
func (r Repository) writeIndex(scratch string, entries []repo.Entry) error {
	text := repo.Format(entries)
	if _, err := repo.Parse(text); err != nil {
		return fmt.Errorf("make index: %w", err)
	}
	write := func(name string, text []byte) error {
		return renameio.WriteFile(filepath.Join(r.Dir, name), text, 0o644, renameio.WithTempDir(scratch))
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
		if err := errors.Join(write(repo.KeyName, key), write(repo.SignedIndexName, message)); err != nil {
			return err
		}
	}
	return write(repo.IndexName, text)
}
