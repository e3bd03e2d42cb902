// Package client reads repositories: ours and those of others, as virt-builder does
// and with more care. Only text whose signature was verified is parsed, an index that
// is older than one that was seen before is refused, and what is downloaded is held
// against its checksum while it comes. Fetching is left to package source, the
// meaning of an index to package repo.
//
// What it remembers of a source lies in its directory, by the source's address and
// keys:
//
//	ID.json   the version that was seen, and when; it is never collected
//	ID.text   what was fetched last, signatures and all, for when nobody answers
//	ID.lock   a lock between processes
package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"herdbook/internal/bucket"
	"herdbook/internal/event"
	"herdbook/internal/op"
	"herdbook/internal/repo"
	"herdbook/internal/signed"
	"herdbook/internal/source"
)

// Source is a repository and what it is trusted for.
type Source struct {
	Name         string      // for people; "" if it has none
	URL          string      // of its index, or of the directory that the index is in
	Index        bool        // URL is that of the index, whatever it looks like
	Streams      bool        // it is a tree of Simple Streams, and URL that of its top
	Keys         signed.Keys // one of them must have signed it
	KeyFile      string      // where Keys came from, for people
	Fingerprints []string    // only the keys that have one of these, as ParseFingerprint takes them; without Keys they are looked for
	Unsigned     bool        // take it without a signature if there are neither Keys nor Fingerprints
	Proxy        string      // as of source.Fetcher
	Token        op.Secret   // as of source.Fetcher
	Bucket       bucket.Options
}

// String is what the source is called in messages.
func (s Source) String() string {
	where := s.URL
	if u, err := url.Parse(s.URL); err == nil && u.User != nil {
		where = u.Redacted()
	}
	if s.Name == "" {
		return where
	}
	return fmt.Sprintf("%s (%s)", s.Name, where)
}

// Client reads sources. Several processes may use its directories at once.
type Client struct {
	Dir       string       // where it remembers what it has seen; made when it is needed
	Media     source.Media // keeps images, and fetches everything
	Now       time.Time
	Offline   bool // fetch nothing
	AcceptOld bool // take an index that is expired, or older than one that was seen, and go by that one from now on
	Sink      event.Sink

	// Export exports public keys of the user by their fingerprints; nil asks gpg.
	Export func(ctx context.Context, fingerprints []string) ([]byte, error)
}

// Catalogue is what a source offers. All of it is verified.
type Catalogue struct {
	Source       Source
	Index        repo.Index
	URL          string   // of the index that was read
	Fingerprints []string // of the keys that may sign it; nil if it is unsigned
}

// errOffline is the cause of what was not fetched.
var errOffline = fmt.Errorf("%w: nothing is fetched with --offline", source.ErrUnreachable)

// Read reads a source. If nobody answers it is what was read last, with a notice of
// its age.
func (c *Client) Read(ctx context.Context, s Source) (*Catalogue, error) {
	got, err := c.read(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("read repository %s: %w", s, err)
	}
	return got, nil
}

func (c *Client) read(ctx context.Context, s Source) (*Catalogue, error) {
	keys, err := c.keys(ctx, s)
	if err != nil {
		return nil, err
	}
	m := c.memory(s, keys)
	fetched, err := c.fetch(ctx, s, keys)
	kept := false
	if errors.Is(err, source.ErrUnreachable) && ctx.Err() == nil {
		old, keptErr := m.kept()
		if keptErr != nil {
			return nil, fmt.Errorf("%w; %w", err, keptErr)
		}
		c.Sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("%v; going on with what was fetched %s ago", err, age(c.Now.Sub(old.Fetched)))})
		fetched, err, kept = old.Documents, nil, true
	}
	if err != nil {
		return nil, err
	}
	text, index, err := s.parse(fetched, keys, c.Now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", fetched[0].URL, err)
	}
	if err := c.remember(ctx, m, seen{index: index, text: text, documents: fetched, kept: kept}); err != nil {
		return nil, err
	}
	return &Catalogue{Source: s, Index: index, URL: fetched[0].URL, Fingerprints: signed.Fingerprints(keys)}, nil
}

// age writes a time as a person says it.
func age(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d seconds", max(0, int(d.Seconds())))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// atOnce is how many sources are read side by side.
const atOnce = 8

// ReadAll reads sources side by side. One that cannot be read is left out with a
// notice; it is an error if none is left.
func (c *Client) ReadAll(ctx context.Context, sources []Source) (Catalogues, error) {
	got := make([]*Catalogue, len(sources))
	errs := make([]error, len(sources))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, s := range sources {
		group.Go(func() error {
			got[i], errs[i] = c.Read(ctx, s)
			return nil
		})
	}
	_ = group.Wait() // the errors stand in their list
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	var list Catalogues
	for _, one := range got {
		if one != nil {
			list = append(list, one)
		}
	}
	if len(list) == 0 {
		return nil, errors.Join(errs...)
	}
	for _, err := range errs {
		if err != nil {
			c.Sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("%v; going on without it", err)})
		}
	}
	return list, nil
}

// fetcher is what fetches of a source.
func (c *Client) fetcher(s Source) *source.Fetcher {
	f := c.Media.Fetcher
	f.Proxy, f.Token, f.Bucket = s.Proxy, s.Token, s.Bucket
	if f.Sink == nil {
		f.Sink = c.Sink
	}
	return &f
}

// document is a text as it was fetched.
type document struct {
	URL  string `json:"url"`
	Text []byte `json:"text"`
}

// fetch fetches the texts that a source consists of.
func (c *Client) fetch(ctx context.Context, s Source, keys signed.Keys) ([]document, error) {
	if c.Offline {
		return nil, errOffline
	}
	if s.Streams {
		return c.fetchStreams(ctx, s, keys)
	}
	var first error
	for _, address := range s.candidates(keys != nil) {
		text, err := c.fetcher(s).Get(ctx, address, repo.MaxIndex)
		if err == nil && (address != s.URL || s.named() || isIndex(text)) {
			return []document{{address, text}}, nil
		}
		if first == nil {
			first = err
		}
		if !errors.Is(err, source.ErrNotFound) {
			break
		}
	}
	if errors.Is(first, source.ErrNotFound) && keys != nil {
		first = fmt.Errorf("%w; is this the address of a repository that is signed?", first)
	}
	return nil, first
}

// candidates are the addresses where the index can be.
func (s Source) candidates(isSigned bool) []string {
	if s.named() {
		return []string{s.URL}
	}
	list := []string{below(s.URL, repo.SignedIndexName)}
	if !isSigned {
		list = append(list, below(s.URL, repo.IndexName))
	}
	if !strings.HasPrefix(s.URL, "file:") {
		list = append(list, s.URL) // an index by another name
	}
	return list
}

// named tells whether the address is that of the index itself.
func (s Source) named() bool {
	u, err := url.Parse(s.URL)
	switch {
	case err != nil || s.Index:
		return true
	case strings.HasSuffix(u.Path, "/"):
		return false
	}
	return path.Base(u.Path) == repo.IndexName || path.Ext(u.Path) == path.Ext(repo.SignedIndexName)
}

// isIndex tells what can be an index from what a server shows of a directory.
func isIndex(text []byte) bool {
	return bytes.HasPrefix(text, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) || bytes.HasPrefix(text, []byte("[")) || bytes.HasPrefix(text, []byte("#"))
}

// below is the address of a path below a directory.
func below(directory, name string) string {
	u, err := url.Parse(directory)
	if err != nil {
		return directory
	}
	return u.JoinPath(name).String()
}

// beside is the address of a path relative to what an address names.
func beside(address, name string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	u.Path, u.RawPath = path.Dir(u.Path), ""
	return u.JoinPath(name).String()
}

// parse verifies the texts of a source and only then reads them.
func (s Source) parse(fetched []document, keys signed.Keys, now time.Time) ([]byte, repo.Index, error) {
	if s.Streams {
		return parseStreams(fetched, keys, now)
	}
	text, err := verified(fetched[0].Text, keys, now)
	if err != nil {
		return nil, repo.Index{}, err
	}
	index, err := repo.Parse(text)
	return text, index, err
}

// verified returns what a signature covers; without keys, what is there.
func verified(untrusted []byte, keys signed.Keys, now time.Time) ([]byte, error) {
	if keys == nil {
		return signed.Untrusted(untrusted), nil
	}
	text, err := signed.VerifySole(untrusted, keys, now)
	if errors.Is(err, signed.ErrUnknownKey) {
		err = fmt.Errorf("%w: it must be signed by %s", err, strings.Join(signed.Fingerprints(keys), " or "))
	}
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	return text, nil
}
