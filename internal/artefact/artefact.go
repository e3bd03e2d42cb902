// Package artefact makes what an image is delivered as: files in a directory that appear
// whole or not at all, and a manifest, written last, that tells of them. What is there
// already, made of the same layer by the same rules, is left alone. What is in the files
// is an exporter's matter, one for each kind of target.
package artefact

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"herdbook/internal/digest"
	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/program"
	"herdbook/internal/store"
	"herdbook/internal/target"
)

// Exporter writes the artefact of one target.
type Exporter interface {
	// Fits tells why a system cannot have the artefact, and what to do about it; nil if
	// it can.
	Fits(*inspection.System) error
	// Write makes the files of an image in dir, which is empty: equal bytes of an equal
	// image. They have the names that they keep, and begin with the image's.
	Write(ctx context.Context, image *Image, dir string, sink event.Sink) (Made, error)
}

// Sender is an exporter that brings its files further, to a registry or a cloud.
type Sender interface {
	Exporter
	// Send brings the files of a manifest, which lie in dir, to where they are wanted,
	// unless they are there. It says where they are now, and whether it did anything.
	Send(ctx context.Context, dir string, m Manifest, sink event.Sink) (where string, fresh bool, err error)
}

// Image is a finished image that artefacts are made of.
type Image struct {
	Name    string
	Layer   digest.Digest
	Disk    *disk.Image
	System  *inspection.System
	Created time.Time         // of the layer; the time of all that is in an artefact and has no other
	Labels  map[string]string // the pedigree, in the form of OCI annotations
	Chain   []store.Layer     // the layers that it stands on, oldest first, its own the last
	Store   *store.Store      // where they lie
}

// Path is the disk of the image, a qcow2 on the layers below it.
func (i *Image) Path() string { return i.Store.DiskPath(i.Layer) }

// Made is what an exporter tells of what it made.
type Made struct {
	Main  string         // the file to begin with
	Names []string       // what it is called where it is used, such as tags; may be empty
	Facts map[string]any // what was measured or decided, to be told in the manifest
	Use   []string       // commands that use it, to be run in the directory
}

// Manifest tells of an artefact. It is written last, as IMAGE.TARGET.json.
type Manifest struct {
	Image        string            `json:"image"`
	Target       string            `json:"target"`
	Layer        digest.Digest     `json:"layer"`
	Source       digest.Digest     `json:"source"` // of all that decides the bytes
	Created      time.Time         `json:"created"`
	System       string            `json:"system"`
	Architecture string            `json:"architecture"`
	Main         string            `json:"main"` // the file to begin with
	Names        []string          `json:"names,omitempty"`
	Files        []File            `json:"files"` // relative to the manifest, in the order of names
	Facts        map[string]any    `json:"facts,omitempty"`
	Labels       map[string]string `json:"labels"`
	Use          []string          `json:"use,omitempty"` // commands, to be run in the manifest's directory
}

// File is a file of an artefact.
type File struct {
	Name   string        `json:"name"`
	Size   int64         `json:"size"` // bytes
	Digest digest.Digest `json:"sha256"`
}

// Order is an artefact that is wanted.
type Order struct {
	Image    string // its name, by which the files are called
	Layer    digest.Digest
	Target   target.Target
	Exporter Exporter
	Dir      string // made if missing
}

// ManifestPath is the file that is written last.
func (o Order) ManifestPath() string {
	return filepath.Join(o.Dir, o.Image+"."+target.Name(o.Target)+".json")
}

// source names all that decides the bytes of the artefact.
func (o Order) source() (digest.Digest, error) {
	text, err := json.Marshal([]any{o.Target.Kind(), o.Target.Version(), o.Image, o.Layer, o.Target})
	return digest.Of(text), err
}

// Find returns the manifest of what is there, if it is what the order would make.
func (o Order) Find() (Manifest, bool) {
	source, err := o.source()
	if err != nil {
		return Manifest{}, false
	}
	m, err := Read(o.ManifestPath())
	if err != nil || m.Source != source {
		return Manifest{}, false
	}
	for _, f := range m.Files {
		stat, err := os.Stat(filepath.Join(o.Dir, f.Name))
		if err != nil || stat.Size() != f.Size {
			return Manifest{}, false
		}
	}
	return m, true
}

// maxManifest bounds what is read as a manifest, in bytes.
const maxManifest = 16 << 20

// Read reads a manifest.
func Read(path string) (m Manifest, err error) {
	f, err := os.Open(path)
	if err != nil {
		return m, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return m, err
	}
	if len(text) > maxManifest {
		return m, fmt.Errorf("read %s: it is too large for a manifest", path)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("read %s: %w", path, err)
	}
	for _, f := range m.Files {
		if !filepath.IsLocal(f.Name) {
			return m, fmt.Errorf("read %s: %q lies elsewhere", path, f.Name)
		}
	}
	return m, nil
}

// Make makes the artefact in place of an older one.
func (o Order) Make(ctx context.Context, image *Image, sink event.Sink) (Manifest, error) {
	m, err := o.make(ctx, image, sink)
	if err != nil {
		return m, fmt.Errorf("export %s to %s: %w", o.Image, target.Name(o.Target), o.explain(ctx, err))
	}
	return m, nil
}

func (o Order) make(ctx context.Context, image *Image, sink event.Sink) (m Manifest, err error) {
	if err := o.Exporter.Fits(image.System); err != nil {
		return m, err
	}
	scratch, done, err := o.begin()
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, done()) }()
	made, err := o.Exporter.Write(ctx, image, scratch, sink)
	if err != nil {
		return m, err
	}
	m = Manifest{
		Image: o.Image, Target: target.Name(o.Target), Layer: o.Layer, Created: image.Created, System: image.System.Release.PrettyName,
		Architecture: image.System.Architecture, Main: made.Main, Names: made.Names, Facts: made.Facts, Labels: image.Labels, Use: made.Use,
	}
	if m.Source, err = o.source(); err != nil {
		return m, err
	}
	if m.Files, err = list(ctx, scratch); err != nil {
		return m, err
	}
	return m, o.settle(scratch, m)
}

// list tells of the files of a directory, and syncs all that is in it: the manifest must
// not outlive what it tells of.
func list(ctx context.Context, dir string) (files []File, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return errors.Join(f.Sync(), f.Close())
		}
		d, size, err := digest.OfReader(Within(ctx, f))
		name, relative := filepath.Rel(dir, path)
		files = append(files, File{name, size, d})
		return errors.Join(err, relative, f.Sync(), f.Close())
	})
	return files, err
}

// explain says what a reader of the error cannot know.
func (o Order) explain(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, new(*store.FullError)), strings.Contains(err.Error(), "no space is left in "+o.Dir):
		return err // it says where, and what to do
	case program.Full(err):
		return fmt.Errorf("no space is left in %s; free some there: %w", o.Dir, err)
	}
	return err
}
