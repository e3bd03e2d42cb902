// Package publish puts images into a repository and moves its channels. A repository
// is a bucket of plain files that any web server can serve and that virt-builder
// builds from. What an image's files are made of is left to others.
//
// The order of writes makes a stop at any moment harmless. First the files of a
// revision, named by their content, which never change; then the public key; then
// the index, in place of exactly the one that was read, so that of two publishers at
// once none loses the other's entry: who comes second does its change again on what
// is there by then. Last the doors, which are derived from the index, and who wrote
// them looks whether they are still those of the newest one. A reader has a whole
// old repository or a whole new one.
//
// The truth is the signed index, or, in a repository without signature, the plain one.
package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	"herdbook/internal/bucket"
	"herdbook/internal/event"
	"herdbook/internal/repo"
	"herdbook/internal/repo/doors"
	"herdbook/internal/signed"
)

// Repository is a place to publish in.
type Repository struct {
	Bucket   bucket.Bucket
	Address  string         // of the bucket, for people
	Signer   *signed.Signer // nil: without a signature, or only to be read
	Keys     signed.Keys    // without a Signer: one of which must have signed; nil: it has no signature
	Now      time.Time      // when what is written now is signed
	ValidFor time.Duration  // how long a signed index counts as the newest; 0 for ever
	Location string         // where the repository is served, as in repo.Header; "" leaves what the index says
}

// File is one of a revision's, ready to be put.
type File struct {
	Kind      string // as in repo.Artefact
	Path      string
	Extension string // with its dot
	Size      int64
	SHA256    string
	SHA512    string
	Exact     bool // another file of the kind will not do for it
}

// Revision is what is published. Entry needs Image, Arch, Size and Layer; ID, Revision
// and all that concerns files are filled in.
type Revision struct {
	Entry   repo.Entry
	Files   []File // at least one qcow2 or xz
	Channel string // that points to it then
}

// formats are the kinds of files that virt-builder can build from, the one that
// every version of it knows first, with the format of the disk within.
var formats = []struct{ kind, format string }{{"xz", "raw"}, {"qcow2", "qcow2"}}

// Wanted are the kinds of files that a revision must have, each with the SHA-256 of the
// only one that will do; "" where any of the kind will.
type Wanted map[string]string

// Published returns the newest revision that an image's layer has already, with
// all the files that are wanted. Whether their bytes are as they should be is verifying.
func (r Repository) Published(ctx context.Context, image, layer string, wanted Wanted) (repo.Entry, bool, error) {
	s, err := r.load(ctx)
	if err != nil {
		return repo.Entry{}, false, fmt.Errorf("publish %s in %s: %w", image, r.Address, err)
	}
	return r.published(ctx, s.index, repo.Facts{Image: image, Layer: layer}, wanted)
}

func (r Repository) published(ctx context.Context, x repo.Index, of repo.Facts, wanted Wanted) (repo.Entry, bool, error) {
	for _, e := range x.Revisions(of.Image, "") {
		if e.Image != "" && e.Layer == of.Layer && wanted.in(e) {
			ok, err := r.has(ctx, e)
			return e, ok, err
		}
	}
	return repo.Entry{}, false, nil
}

// in tells whether a revision has them all.
func (w Wanted) in(e repo.Entry) bool {
	for kind, sum := range w {
		if a, ok := e.Artefact(kind); !ok || sum != "" && sum != a.SHA256 {
			return false
		}
	}
	return true
}

// has tells whether the files of an entry are there, in their sizes.
func (r Repository) has(ctx context.Context, e repo.Entry) (bool, error) {
	there, err := r.files(ctx, e.Of())
	for _, a := range e.Artefacts {
		if size, ok := there[a.File]; !ok || size != a.Size {
			return false, err
		}
	}
	return true, err
}

// files are those of an image, with their sizes.
func (r Repository) files(ctx context.Context, image string) (map[string]int64, error) {
	objects, err := r.Bucket.List(ctx, path.Join(repo.ImageDir, image+"-"))
	sizes := map[string]int64{}
	for _, o := range objects {
		sizes[o.Name] = o.Size
	}
	return sizes, err
}

// Publish adds a revision and lets its channel point to it. If another publisher
// has added one of the same layer with files that will do for these meanwhile, that is it.
func (r Repository) Publish(ctx context.Context, n Revision, sink event.Sink) (repo.Entry, error) {
	e, err := r.publish(ctx, n, sink)
	if err != nil {
		return e, fmt.Errorf("publish %s in %s: %w", n.Entry.Image, r.Address, err)
	}
	return e, nil
}

func (r Repository) publish(ctx context.Context, n Revision, sink event.Sink) (repo.Entry, error) {
	entry, err := describe(n)
	if err != nil {
		return entry, err
	}
	s, err := r.load(ctx)
	if err != nil {
		return entry, err
	}
	// What could not be in an index must not get as far as the bucket.
	next, _, err := s.index.Publish(entry, n.Channel, r.Now)
	if err == nil {
		next.Header = r.header(s)
		_, err = doors.Files(next)
	}
	if err != nil {
		return entry, err
	}
	up := upload{entry: entry, files: n.Files, sink: sink, sent: map[string]bool{}}
	if err := r.put(ctx, s.index, up); err != nil {
		return entry, err
	}
	wanted := Wanted{}
	for _, f := range n.Files {
		if wanted[f.Kind] = ""; f.Exact {
			wanted[f.Kind] = f.SHA256
		}
	}
	mine := entry
	err = r.update(ctx, func(x repo.Index) (repo.Index, error) {
		there, ok, err := r.published(ctx, x, mine.Facts, wanted)
		if err != nil {
			return x, err
		}
		if ok {
			selector := repo.Selector{Image: there.Of(), Arch: there.Arch, Revision: there.Revision}
			x, entry, err = x.Promote(selector, n.Channel, r.Now)
			return x, err
		}
		if err := r.put(ctx, x, up); err != nil { // what a prune gave up meanwhile
			return x, err
		}
		x, entry, err = x.Publish(mine, n.Channel, r.Now)
		return x, err
	})
	return entry, err
}

// describe completes an entry by the files that it will have.
func describe(n Revision) (repo.Entry, error) {
	e := n.Entry
	e.Artefacts = nil
	for _, f := range n.Files {
		e.Artefacts = append(e.Artefacts, repo.Artefact{Kind: f.Kind, File: fileName(e.Image, f), Size: f.Size, SHA256: f.SHA256, SHA512: f.SHA512})
	}
	for _, known := range formats {
		if a, ok := e.Artefact(known.kind); ok {
			e.File, e.Format, e.Checksum, e.CompressedSize = a.File, known.format, a.SHA512, a.Size
			e.ID = e.Image
			return asRead(e)
		}
	}
	return e, errors.New("it has neither a qcow2 nor an xz file, of which virt-builder needs one")
}

// asRead is an entry as a reader of the signed index has it.
func asRead(e repo.Entry) (repo.Entry, error) {
	x, err := repo.Parse(signed.Covered(repo.Format(repo.Index{Entries: []repo.Entry{e}})))
	if err != nil {
		return e, err
	}
	return x.Entries[0], nil
}

// fileName names a file by its content, so that what has the name never changes.
func fileName(image string, f File) string {
	return path.Join(repo.ImageDir, fmt.Sprintf("%s-%.12s%s", image, f.SHA512, f.Extension))
}

// upload is the files of a revision on their way.
type upload struct {
	entry repo.Entry
	files []File
	sink  event.Sink
	sent  map[string]bool // names of those that were written
}

// put writes the files of a revision, but those that were sent, and those that are
// there and that the index names: one that no index names can be removed at any time,
// unless it is young.
func (r Repository) put(ctx context.Context, x repo.Index, up upload) error {
	there, err := r.files(ctx, up.entry.Image)
	if err != nil {
		return err
	}
	named := names(x.Revisions(up.entry.Image, ""))
	var done, total int64
	for _, f := range up.files {
		total += f.Size
	}
	for i, f := range up.files {
		name := up.entry.Artefacts[i].File
		if size, ok := there[name]; !ok || size != f.Size || !named[name] && !up.sent[name] {
			if len(up.sent) == 0 {
				up.sink.Emit(event.Event{Kind: event.Phase, Text: "upload"})
			}
			up.sent[name] = true
			if err := r.putFile(ctx, name, f); err != nil {
				return err
			}
		}
		done += f.Size
		up.sink.Emit(event.Event{Kind: event.Progress, Done: done, Total: total})
	}
	return nil
}

func (r Repository) putFile(ctx context.Context, name string, f File) (err error) {
	file, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = r.Bucket.Put(ctx, name, io.NewSectionReader(file, 0, f.Size), bucket.Condition{})
	return err
}
