package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"

	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/repo"
	"herdbook/internal/signed"
)

// ErrNotFresh is wrapped by the error that says that an index is not the newest that
// there is.
var ErrNotFresh = errors.New("the index is not to be taken for the newest")

// memory is what is remembered of one source. User and password of its address are
// not among that.
type memory struct {
	path   string // without suffix
	signed bool
	user   *url.Userinfo
}

// memory is that of a source and the keys that it may be signed with.
func (c *Client) memory(s Source, keys signed.Keys) *memory {
	address, user := withUser(s.URL, nil)
	id := digest.Of([]byte(strings.TrimRight(address, "/") + "\n" + strings.Join(signed.Fingerprints(keys), "\n")))
	return &memory{path: filepath.Join(c.Dir, string(id)), signed: keys != nil, user: user}
}

// withUser returns an address with another user, or none, and the one that it had.
func withUser(address string, user *url.Userinfo) (string, *url.Userinfo) {
	u, err := url.Parse(address)
	if err != nil || u.User == nil && user == nil {
		return address, nil
	}
	old := u.User
	u.User = user
	return u.String(), old
}

// record is what is noted of a source whose index was taken.
type record struct {
	URL     string        `json:"url"`     // for people
	Version int           `json:"version"` // the highest that was seen; 0 if it never told one
	Digest  digest.Digest `json:"digest"`  // of the text of that version
	Fetched time.Time     `json:"fetched"` // when Kept was fetched
	Kept    digest.Digest `json:"kept"`    // of what is kept
}

// kept is what was fetched last.
type kept struct {
	Fetched   time.Time
	Documents []document
}

// seen is an index that was just read.
type seen struct {
	index     repo.Index
	text      []byte // that the signature covers
	documents []document
	kept      bool // it was not fetched now
}

// read returns the record; it is empty if there is none.
func (m *memory) read() (r record, err error) {
	text, err := os.ReadFile(m.path + ".json")
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return record{}, fmt.Errorf("read what was seen of the repository: %w; if %s.json is damaged, remove it", err, m.path)
	}
	return r, nil
}

// kept returns what was fetched last.
func (m *memory) kept() (k kept, err error) {
	r, err := m.read()
	if err != nil {
		return k, err
	}
	text, err := os.ReadFile(m.path + ".text")
	if err != nil || digest.Of(text) != r.Kept || json.Unmarshal(text, &k.Documents) != nil || len(k.Documents) == 0 {
		return k, errors.New("nothing is kept from an earlier time")
	}
	for i, d := range k.Documents {
		k.Documents[i].URL, _ = withUser(d.URL, m.user)
	}
	k.Fetched = r.Fetched
	return k, nil
}

// keptKey is the key that was beside the index.
func (m *memory) keptKey() ([]byte, error) { return os.ReadFile(m.path + ".key") }

// keepKey keeps it.
func (m *memory) keepKey(text []byte) error {
	if old, err := m.keptKey(); err == nil && string(old) == string(text) {
		return nil
	}
	return m.write(".key", text)
}

func (m *memory) write(suffix string, text []byte) error {
	err := os.MkdirAll(filepath.Dir(m.path), 0o755)
	if err == nil {
		err = renameio.WriteFile(m.path+suffix, text, 0o644, renameio.WithTempDir(filepath.Dir(m.path)))
	}
	if err != nil {
		return fmt.Errorf("remember what was seen of the repository: %w", err)
	}
	return nil
}

// remember refuses an index that is not the newest, and notes one that is. First what
// is kept is written, then the record that knows its digest: after a crash in between
// nothing is kept.
func (c *Client) remember(ctx context.Context, m *memory, s seen) (err error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return fmt.Errorf("remember what was seen of the repository: %w", err)
	}
	lock := flock.New(m.path + ".lock")
	if _, err := lock.TryLockContext(ctx, 20*time.Millisecond); err != nil {
		return fmt.Errorf("wait for another herdbook that reads the repository: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	r, err := m.read()
	if err != nil {
		return err
	}
	stale := s.fresh(r, m.signed, c.Now)
	if stale != nil && !c.AcceptOld {
		return stale
	}
	if stale != nil {
		c.Sink.Emit(event.Event{Kind: event.Notice, Text: stale.Error() + "; taking it all the same"})
	}
	if s.kept {
		return nil
	}
	documents := slices.Clone(s.documents)
	for i, d := range documents {
		documents[i].URL, _ = withUser(d.URL, nil)
	}
	text, err := json.Marshal(documents)
	if err != nil {
		return fmt.Errorf("remember what was seen of the repository: %w", err)
	}
	next := record{URL: documents[0].URL, Version: s.index.Version, Digest: digest.Of(s.text), Fetched: c.Now, Kept: digest.Of(text)}
	if stat, err := os.Stat(m.path + ".text"); err != nil || r.Kept != next.Kept || stat.Size() != int64(len(text)) {
		if err := m.write(".text", text); err != nil {
			return err
		}
	}
	note, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("remember what was seen of the repository: %w", err)
	}
	return m.write(".json", append(note, '\n'))
}

// fresh holds an index against its own expiry and against what was seen before. An
// index without a signature can say of its version what it likes.
func (s seen) fresh(r record, isSigned bool, now time.Time) error {
	const instead = "; if the repository was put back on purpose, --accept-old takes it once and goes by it from then on"
	switch x := s.index; {
	case !x.Expires.IsZero() && now.After(x.Expires):
		return fmt.Errorf("%w: it was valid until %s: the repository is not kept up, somebody holds its changes back, or this machine's clock is wrong; --accept-old takes it all the same",
			ErrNotFresh, x.Expires.Format(time.RFC1123))
	case !isSigned || r.Version == 0:
		return nil
	case x.Version == 0:
		return fmt.Errorf("%w: version %d was seen here before, and this one tells no version%s", ErrNotFresh, r.Version, instead)
	case x.Version < r.Version:
		return fmt.Errorf("%w: version %d was seen here before, and this is version %d%s", ErrNotFresh, r.Version, x.Version, instead)
	case x.Version == r.Version && digest.Of(s.text) != r.Digest:
		return fmt.Errorf("%w: another text of the same version %d was seen here before: somebody shows different things to different readers%s", ErrNotFresh, x.Version, instead)
	}
	return nil
}
