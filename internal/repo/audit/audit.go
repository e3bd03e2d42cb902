// Package audit verifies a whole repository: the signature and the age of its index,
// every byte that it names, all that is derived from it, and that there is nothing
// else. What is missing, extra or altered is named; nothing is changed.
package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"herdbook/internal/bucket"
	"herdbook/internal/event"
	"herdbook/internal/repo"
	"herdbook/internal/repo/doors"
	"herdbook/internal/repo/manifest"
	"herdbook/internal/signed"
)

// Kind is what is wrong with an object.
type Kind string

// The kinds.
const (
	Missing Kind = "missing" // the index names it, and it is not there
	Altered Kind = "altered" // it is not what was published
	Extra   Kind = "extra"   // nothing names it
	Wrong   Kind = "wrong"   // what was published contradicts itself, or is too old
)

// Finding is one thing that is wrong.
type Finding struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"` // of the object
	What string `json:"what"`
}

// Report is what was found.
type Report struct {
	Index    repo.Index `json:"-"`
	Objects  int        `json:"objects"`            // that were read
	Bytes    int64      `json:"bytes"`              // of them
	Unlisted bool       `json:"unlisted,omitempty"` // whether there is more was not told
	Findings []Finding  `json:"findings"`
}

// Options say what a repository is held against.
type Options struct {
	Keys    signed.Keys // one of which must have signed; nil: it has no signature, on purpose
	Now     time.Time
	Workers int // objects that are read at once
	Sink    event.Sink
}

// Verify verifies a repository. The error says that it could not be read, which
// says nothing about it.
func Verify(ctx context.Context, b bucket.Bucket, o Options) (Report, error) {
	a := &audit{Options: o, bucket: b}
	if err := a.run(ctx); err != nil {
		return a.report, fmt.Errorf("verify repository: %w", err)
	}
	slices.SortStableFunc(a.report.Findings, func(x, y Finding) int {
		return cmp.Or(strings.Compare(x.Name, y.Name), strings.Compare(x.What, y.What))
	})
	return a.report, nil
}

// audit is one run.
type audit struct {
	Options
	bucket  bucket.Bucket
	objects map[string]bucket.Object
	named   map[string]bool // what has its place in the repository
	message []byte          // the index as it is there

	mu     sync.Mutex
	report Report
	done   int64 // bytes, of total
	total  int64
}

func (a *audit) find(kind Kind, name, format string, values ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Findings = append(a.report.Findings, Finding{kind, name, fmt.Sprintf(format, values...)})
}

func (a *audit) run(ctx context.Context) error {
	list, err := a.bucket.List(ctx, "")
	if a.report.Unlisted = errors.Is(err, bucket.ErrNoList); err != nil && !a.report.Unlisted {
		return err
	}
	a.objects, a.named = map[string]bucket.Object{}, map[string]bool{}
	for _, o := range list {
		a.objects[o.Name] = o
	}
	x, ok, err := a.index(ctx)
	if err != nil || !ok {
		return err
	}
	a.report.Index = x
	for _, err := range x.Check() {
		a.find(Wrong, a.truth(), "%v", err)
	}
	if err := a.doors(ctx, x); err != nil {
		return err
	}
	if err := a.files(ctx, x); err != nil {
		return err
	}
	for _, o := range list {
		if !a.named[o.Name] {
			a.find(Extra, o.Name, "nothing names it; herdbook repo prune removes what is left below %s/", repo.ImageDir)
		}
	}
	return nil
}

func (a *audit) truth() string {
	if a.Keys != nil {
		return repo.SignedIndexName
	}
	return repo.IndexName
}

// index reads the index; without a good one nothing can be said of the rest.
func (a *audit) index(ctx context.Context) (x repo.Index, ok bool, err error) {
	text, ok, err := a.read(ctx, a.truth())
	if err != nil || !ok {
		return x, false, err
	}
	a.message = text
	if a.Keys != nil {
		if text, err = signed.VerifySole(text, a.Keys, a.Now); err != nil {
			a.find(Altered, a.truth(), "%v", err)
			return x, false, nil
		}
	} else if a.objects[repo.SignedIndexName].Name != "" {
		a.find(Extra, repo.SignedIndexName, "the repository is said to have no signature")
	}
	if x, err = repo.Parse(text); err != nil {
		a.find(Wrong, a.truth(), "%v", err)
		return x, false, nil
	}
	if !x.Expires.IsZero() && !a.Now.Before(x.Expires) {
		a.find(Wrong, a.truth(), "it expired at %s; herdbook repo renew signs it anew", x.Expires.Format(time.RFC3339))
	}
	return x, true, nil
}

// read reads a small object whole; one that is missing is found to be.
func (a *audit) read(ctx context.Context, name string) (text []byte, ok bool, err error) {
	a.named[name] = true
	text, _, err = bucket.Read(ctx, a.bucket, name, repo.MaxIndex)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		a.find(Missing, name, "it is not there")
		return nil, false, nil
	case errors.Is(err, bucket.ErrTooLarge):
		a.find(Altered, name, "%v", err)
		return nil, false, nil
	}
	a.report.Objects, a.report.Bytes = a.report.Objects+1, a.report.Bytes+int64(len(text))
	return text, err == nil, err
}

// doors holds all that is derived from the index against it.
func (a *audit) doors(ctx context.Context, x repo.Index) error {
	files, err := doors.Files(x)
	if err != nil {
		a.find(Wrong, a.truth(), "%v", err)
		return nil
	}
	if a.Keys != nil {
		files = append(files, doors.File{Name: repo.IndexName, Text: repo.Format(x)})
		if err := a.key(ctx); err != nil {
			return err
		}
	}
	for _, f := range files {
		if f.Sign && a.Keys == nil {
			continue
		}
		text, ok, err := a.read(ctx, f.Name)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if f.Sign {
			if text, err = signed.VerifySole(text, a.Keys, a.Now); err != nil {
				a.find(Altered, f.Name, "%v", err)
				continue
			}
		}
		if !bytes.Equal(signed.Covered(text), signed.Covered(f.Text)) {
			a.find(Altered, f.Name, "it is not what follows from version %d of %s; publish again, or herdbook repo renew", x.Version, a.truth())
		}
	}
	return nil
}

// key holds the public key of the repository against those that were given.
func (a *audit) key(ctx context.Context) error {
	text, ok, err := a.read(ctx, repo.KeyName)
	if err != nil || !ok {
		return err
	}
	theirs, err := signed.ReadKeys(text)
	if err != nil {
		a.find(Altered, repo.KeyName, "%v", err)
		return nil
	}
	known := signed.Fingerprints(a.Keys)
	for _, fingerprint := range signed.Fingerprints(theirs) {
		if !slices.Contains(known, fingerprint) {
			a.find(Altered, repo.KeyName, "the key %s in it is not the one that the repository is held against", fingerprint)
		}
	}
	if _, err := signed.VerifySole(a.message, theirs, a.Now); err != nil {
		a.find(Altered, repo.KeyName, "readers who take it refuse %s: %v", repo.SignedIndexName, err)
	}
	return nil
}

// promise is what an index says of one file.
type promise struct {
	name           string
	size           int64 // -1 if it does not say
	sha256, sha512 string
	manifestOf     *repo.Entry
}

// files reads every file that the index names, and holds it against what is
// promised of it.
func (a *audit) files(ctx context.Context, x repo.Index) error {
	promises := map[string]promise{}
	for _, e := range x.Entries {
		size := e.CompressedSize
		if size == 0 {
			size = -1
		}
		promises[e.File] = promise{name: e.File, size: size, sha512: e.Checksum}
	}
	for _, e := range x.Entries {
		for _, f := range e.Artefacts {
			p := promise{name: f.File, size: f.Size, sha256: f.SHA256, sha512: f.SHA512}
			if f.Kind == manifest.Kind {
				p.manifestOf = &e
			}
			promises[f.File] = p
		}
	}
	for name := range promises {
		a.named[name] = true
		a.total += a.objects[name].Size
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, a.Workers))
	for _, p := range promises {
		group.Go(func() error { return a.file(ctx, p) })
	}
	return group.Wait()
}

// file reads one file.
func (a *audit) file(ctx context.Context, p promise) (err error) {
	body, object, err := a.bucket.Open(ctx, p.name)
	if errors.Is(err, fs.ErrNotExist) {
		a.find(Missing, p.name, "the index names it")
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	if p.size >= 0 && object.Size != p.size {
		a.find(Altered, p.name, "it has %d bytes, the index says %d", object.Size, p.size)
		return nil
	}
	short, long := sha256.New(), sha512.New()
	var text bytes.Buffer
	to := []io.Writer{long, progress{a}}
	if p.sha256 != "" {
		to = append(to, short)
	}
	if p.manifestOf != nil && object.Size <= manifest.MaxSize {
		to = append(to, &text)
	}
	n, err := io.Copy(io.MultiWriter(to...), body)
	if err != nil {
		return fmt.Errorf("read %s: %w", p.name, err)
	}
	a.mu.Lock()
	a.report.Objects, a.report.Bytes = a.report.Objects+1, a.report.Bytes+n
	a.mu.Unlock()
	switch {
	case p.sha512 != "" && hex.EncodeToString(long.Sum(nil)) != p.sha512:
		a.find(Altered, p.name, "its SHA-512 is %x, the index says %s", long.Sum(nil), p.sha512)
	case p.sha256 != "" && hex.EncodeToString(short.Sum(nil)) != p.sha256:
		a.find(Altered, p.name, "its SHA-256 is %x, the index says %s", short.Sum(nil), p.sha256)
	case p.manifestOf != nil:
		a.manifest(p, text.Bytes())
	}
	return nil
}

// manifest holds a manifest against the revision that it is of.
func (a *audit) manifest(p promise, text []byte) {
	m, err := manifest.Parse(text)
	switch {
	case err != nil:
		a.find(Wrong, p.name, "%v", err)
	case m.Image != p.manifestOf.Image || string(m.Layer) != p.manifestOf.Layer:
		a.find(Wrong, p.name, "it is the manifest of another revision")
	}
}

// progress counts what is read of all files.
type progress struct{ *audit }

func (p progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	p.done += int64(len(b))
	done, total := p.done, p.total
	p.mu.Unlock()
	p.Sink.Emit(event.Event{Kind: event.Progress, Done: done, Total: total})
	return len(b), nil
}
