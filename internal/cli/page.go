package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"herdbook/internal/bucket"
	"herdbook/internal/event"
	"herdbook/internal/repo"
	"herdbook/internal/repo/manifest"
	"herdbook/internal/signed"
	"herdbook/internal/web"
)

// shown is the repository that is served, as its page shows it.
type shown struct {
	bucket bucket.Bucket
	now    func() time.Time
	sink   event.Sink

	mu      sync.Mutex
	version string // of the index that is read; "" if none is
	latest  *web.Repository
}

// Repository implements web.Source. What cannot be read is a notice, too.
func (s *shown) Repository(ctx context.Context) (*web.Repository, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.read(ctx)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
		s.sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("the page cannot be shown: %v", err)})
	}
	return r, err
}

func (s *shown) read(ctx context.Context) (*web.Repository, error) {
	body, object, err := s.bucket.Open(ctx, repo.SignedIndexName)
	isSigned := err == nil
	if errors.Is(err, fs.ErrNotExist) {
		body, object, err = s.bucket.Open(ctx, repo.IndexName)
	}
	if err != nil {
		return nil, err
	}
	defer body.Close() // it was only read
	if s.latest != nil && s.version == object.Version {
		return s.latest, nil
	}
	text, err := io.ReadAll(io.LimitReader(body, repo.MaxIndex+1))
	if err != nil {
		return nil, err
	}
	fingerprint := ""
	if isSigned {
		if text, fingerprint, err = s.verify(ctx, text); err != nil {
			return nil, err
		}
	}
	x, err := repo.Parse(text)
	if err != nil {
		return nil, err
	}
	s.latest, s.version = onPage(x, fingerprint), object.Version
	return s.latest, nil
}

// verify reads an index by the key that lies beside it: the page is for people who
// trust the server, and tells them which key that is.
func (s *shown) verify(ctx context.Context, message []byte) (text []byte, fingerprint string, err error) {
	key, _, err := bucket.Read(ctx, s.bucket, repo.KeyName, maxKeyFile)
	if err != nil {
		return nil, "", err
	}
	keys, err := signed.ReadKeys(key)
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", repo.KeyName, err)
	}
	if text, err = signed.VerifySole(message, keys, s.now()); err != nil {
		return nil, "", fmt.Errorf("read %s: %w", repo.SignedIndexName, err)
	}
	return text, fmt.Sprintf("%X", keys[0].PrimaryKey.Fingerprint), nil
}

// onPage is an index as the page shows it.
func onPage(x repo.Index, fingerprint string) *web.Repository {
	r := &web.Repository{Version: x.Version, Signed: x.Signed, Expires: x.Expires, Fingerprint: fingerprint}
	for _, e := range x.Entries {
		shown := web.Revision{
			Image: e.Of(), ID: e.ID, Title: e.Name, System: e.OSInfo, Arch: e.Arch, Number: e.Revision, Notes: e.Notes, Size: e.Size, Published: e.Published,
		}
		for _, c := range e.Released {
			shown.Channels = append(shown.Channels, web.Channel{Name: c.Channel, Since: c.Time, Present: e.Has(c.Channel)})
		}
		for _, f := range e.Artefacts {
			shown.Artefacts = append(shown.Artefacts, web.Artefact{Kind: f.Kind, File: f.File, Size: f.Size, SHA512: f.SHA512})
		}
		if len(e.Artefacts) == 0 {
			kind := "xz"
			if e.Format == "qcow2" {
				kind = "qcow2"
			}
			shown.Artefacts = []web.Artefact{{Kind: kind, File: e.File, Size: e.CompressedSize, SHA512: e.Checksum}}
		}
		r.Revisions = append(r.Revisions, shown)
	}
	return r
}

// Manifest implements web.Source.
func (s *shown) Manifest(ctx context.Context, file string) (web.Manifest, error) {
	text, _, err := bucket.Read(ctx, s.bucket, file, manifest.MaxSize)
	if err != nil {
		return web.Manifest{}, err
	}
	m, err := manifest.Parse(text)
	if err != nil {
		return web.Manifest{}, fmt.Errorf("read %s: %w", file, err)
	}
	page := web.Manifest{System: m.System.Name, Packages: onPagePackages(m.Packages)}
	for _, k := range m.System.Kernels {
		page.Kernels = append(page.Kernels, string(k))
	}
	for _, l := range m.Layers {
		shown := web.Layer{
			Digest: string(l.Digest), Image: l.Image, Step: l.Step, Made: l.Created, Took: time.Duration(l.Elapsed * float64(time.Second)),
			Size: l.Size, Grown: l.Grown, Unknown: l.Packages == nil,
		}
		if l.Packages != nil {
			shown.Added, shown.Removed = onPagePackages(l.Packages.Added), onPagePackages(l.Packages.Removed)
			for _, c := range l.Packages.Changed {
				shown.Changed = append(shown.Changed, web.Change{Name: c.Name, Arch: c.Architecture, From: c.From, To: c.To, Grown: c.Grown})
			}
		}
		page.Layers = append(page.Layers, shown)
	}
	return page, nil
}

func onPagePackages(list []manifest.Package) []web.Package {
	var shown []web.Package
	for _, p := range list {
		shown = append(shown, web.Package{Name: p.Name, Version: p.Version, Arch: p.Architecture, Size: p.Size})
	}
	return shown
}
