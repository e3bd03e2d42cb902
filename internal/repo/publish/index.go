package publish

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"herdbook/internal/bucket"
	"herdbook/internal/repo"
	"herdbook/internal/repo/doors"
	"herdbook/internal/signed"
)

// state is the index as it stands in the bucket.
type state struct {
	index   repo.Index
	version string // of the object; "" if there is none yet
}

// truth is the name of the index that all others are derived from.
func (r Repository) truth() string {
	if r.keys() != nil {
		return repo.SignedIndexName
	}
	return repo.IndexName
}

// keys are those that a signature is held against; nil if there is none.
func (r Repository) keys() signed.Keys {
	if r.Signer != nil {
		return r.Signer.Keys()
	}
	return r.Keys
}

// Index reads the index. That of a signed repository must verify with the signer's
// key: who has another one must not add to it.
func (r Repository) Index(ctx context.Context) (repo.Index, error) {
	s, err := r.load(ctx)
	if err != nil {
		return s.index, fmt.Errorf("read repository %s: %w", r.Address, err)
	}
	return s.index, nil
}

func (r Repository) load(ctx context.Context) (state, error) {
	text, version, err := r.read(ctx, r.truth())
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return state{}, fmt.Errorf("read index: %w", err)
	}
	if missing || r.keys() == nil {
		if err := r.checkKind(ctx); err != nil || missing {
			return state{}, err
		}
	}
	if keys := r.keys(); keys != nil {
		if text, err = signed.VerifySole(text, keys, r.Now); err != nil {
			return state{}, fmt.Errorf("read %s: %w; was it signed with another key than this repository's?", r.truth(), err)
		}
	}
	x, err := repo.Parse(text)
	return state{x, version}, err
}

// read reads a small object.
func (r Repository) read(ctx context.Context, name string) (text []byte, version string, err error) {
	text, object, err := bucket.Read(ctx, r.Bucket, name, repo.MaxIndex)
	return text, object.Version, err
}

// checkKind refuses a repository that is signed where this one is not, or the other
// way round, by the index that it must not have: its images would vanish from one of
// its two indexes.
func (r Repository) checkKind(ctx context.Context) error {
	other, advice := repo.SignedIndexName, "where none is wanted; use an empty place, or give the key that made it"
	if r.keys() != nil {
		other, advice = repo.IndexName, fmt.Sprintf("but no %s; use an empty place, or go without a key", repo.SignedIndexName)
	}
	body, _, err := r.Bucket.Open(ctx, other) // not a list, which readers may not have
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("read index: %w", err)
	}
	return errors.Join(fmt.Errorf("it has %s %s", other, advice), body.Close())
}

// errNoIndex says that there is nothing to be changed.
var errNoIndex = errors.New("there is no index: is this the right place?")

// mayWrite refuses a repository that was opened to be read only.
func (r Repository) mayWrite() error {
	if r.Signer == nil && r.Keys != nil {
		return errors.New("there is no key to sign with: give the signing key")
	}
	return nil
}

// maxAttempts bounds how often a change is tried on an index that others change.
const maxAttempts = 100

var errBusy = fmt.Errorf("others changed the index %d times meanwhile; nothing is lost, run the command again", maxAttempts)

// update changes the index, and brings all that is derived from it up to date. The
// change is a function, since it is made again if others were faster; one that
// changes nothing is not written.
func (r Repository) update(ctx context.Context, change func(repo.Index) (repo.Index, error)) error {
	if err := r.mayWrite(); err != nil {
		return err
	}
	for range maxAttempts {
		s, err := r.load(ctx)
		if errors.Is(err, bucket.ErrChanged) { // while it was read
			continue
		}
		if err != nil {
			return err
		}
		next, err := change(s.index)
		if err != nil {
			return err
		}
		if bytes.Equal(repo.Format(next), repo.Format(s.index)) && !r.mustRenew(s) {
			return r.openDoors(ctx, s)
		}
		s, err = r.write(ctx, s, next)
		if err == nil {
			return r.openDoors(ctx, s)
		}
		if !errors.Is(err, bucket.ErrChanged) {
			return err
		}
	}
	return errBusy
}

// mustRenew tells whether more than half of the time is over for which the index
// counts as the newest, or whether it does not say yet what it should.
func (r Repository) mustRenew(s state) bool {
	x := s.index
	switch {
	case s.version == "":
		return false
	case x.Version == 0 || r.ValidFor == 0 != x.Expires.IsZero() || r.Location != "" && r.Location != x.Location:
		return true
	}
	return r.ValidFor > 0 && x.Expires.Sub(r.Now) < r.ValidFor/2
}

// header is that of the index after an old one. It is never older than that, whatever
// the clock says.
func (r Repository) header(old state) repo.Header {
	h := repo.Header{Version: old.index.Version + 1, Signed: r.Now, Location: cmp.Or(r.Location, old.index.Location)}
	if h.Signed.Before(old.index.Signed) {
		h.Signed = old.index.Signed
	}
	if r.ValidFor > 0 {
		h.Expires = r.Now.Add(r.ValidFor)
	}
	return h
}

// write puts an index in place of the one that was read.
func (r Repository) write(ctx context.Context, old state, next repo.Index) (state, error) {
	next.Header = r.header(old)
	// As it comes back when it is verified.
	next, err := repo.Parse(signed.Covered(repo.Format(next)))
	if err == nil {
		_, err = doors.Files(next) // or there would be an index without them
	}
	if err != nil {
		return state{}, fmt.Errorf("make index: %w", err)
	}
	text := repo.Format(next)
	if r.Signer != nil {
		if err := r.putKey(ctx); err != nil {
			return state{}, err
		}
		if text, err = r.Signer.Sign(text, r.Now); err != nil {
			return state{}, err
		}
	}
	condition := bucket.Condition{Version: old.version, Absent: old.version == ""}
	object, err := r.Bucket.Put(ctx, r.truth(), bytes.NewReader(text), condition)
	return state{next, object.Version}, err
}

// putKey writes the public key, if it is not there.
func (r Repository) putKey(ctx context.Context) error {
	key, err := r.Signer.PublicKey()
	if err != nil {
		return err
	}
	return r.putChanged(ctx, repo.KeyName, key)
}

// putChanged writes an object, unless it has the content already.
func (r Repository) putChanged(ctx context.Context, name string, text []byte) error {
	there, _, err := r.read(ctx, name)
	if err == nil && bytes.Equal(there, text) {
		return nil
	}
	_, err = r.Bucket.Put(ctx, name, bytes.NewReader(text), bucket.Condition{})
	return err
}
