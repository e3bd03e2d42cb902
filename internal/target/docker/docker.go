// Package docker exports an image as a container image: straight out of its
// file system, without a machine, as an OCI image layout and as an archive that
// "docker load" and "podman load" take. What only a machine needs stays behind:
// kernels, firmware, the boot loader, fstab, machine-id and device nodes.
//
// Equal layers and options give equal bytes.
package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/renameio/v2"
	"github.com/klauspost/pgzip"

	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
)

// Export says what to make of a system.
type Export struct {
	System  *inspection.System
	Dir     string            // made if missing
	Name    string            // of the files: NAME.oci, NAME.docker.tar, NAME.docker.json
	Tags    []string          // NAME:TAG each
	Command []string          // default: the system's bash, else sh
	Labels  map[string]string // the pedigree
	Created time.Time         // of the layer
	Source  string            // what it is made of: decides whether it is up to date
}

// Manifest tells what an export made. It is written last, as NAME.docker.json.
type Manifest struct {
	Source   string            `json:"source"`
	Tags     []string          `json:"tags"`
	Command  []string          `json:"command"`
	Labels   map[string]string `json:"labels"`
	Digest   string            `json:"digest"` // of the image's manifest, as registries know it
	Layout   string            `json:"layout"` // directory, relative to the manifest
	Archive  File              `json:"archive"`
	Rootfs   int64             `json:"rootfs"` // bytes of the unpacked layer
	Commands []string          `json:"commands"`
}

// File is a file of an export.
type File struct {
	Name   string        `json:"name"`
	Size   int64         `json:"size"`
	Digest digest.Digest `json:"digest"`
}

// ManifestPath is the file that Write writes last.
func (e Export) ManifestPath() string { return filepath.Join(e.Dir, e.Name+".docker.json") }

// ArchivePath is the archive for docker load and podman load.
func (e Export) ArchivePath() string { return filepath.Join(e.Dir, e.Name+".docker.tar") }

// UpToDate tells whether what Write would make is there. System may be nil.
func (e Export) UpToDate() bool {
	text, err := os.ReadFile(e.ManifestPath())
	if err != nil {
		return false
	}
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil || m.Source != e.Source {
		return false
	}
	archive, err := os.Stat(filepath.Join(e.Dir, m.Archive.Name))
	if err != nil || archive.Size() != m.Archive.Size {
		return false
	}
	_, err = os.Stat(filepath.Join(e.Dir, m.Layout, "index.json"))
	return err == nil
}

// Write makes the layout, the archive and the manifest, each whole or not at
// all, in place of older ones.
func (e Export) Write(ctx context.Context, sink event.Sink) (Manifest, error) {
	m, err := e.write(ctx, sink)
	if err != nil {
		return m, fmt.Errorf("export %s to docker: %w", e.Name, err)
	}
	return m, nil
}

func (e Export) write(ctx context.Context, sink event.Sink) (m Manifest, err error) {
	if err := os.MkdirAll(e.Dir, 0o755); err != nil {
		return m, err
	}
	scratch, err := os.MkdirTemp(e.Dir, "."+e.Name+"-")
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	sink.Emit(event.Event{Kind: event.Phase, Text: "read the file system"})
	layer, err := e.writeLayer(ctx, filepath.Join(scratch, "layer"))
	if err != nil {
		return m, err
	}
	if len(e.Command) == 0 {
		e.Command = shell(e.System)
	}
	image, err := e.image(layer)
	if err != nil {
		return m, err
	}
	hash, err := image.Digest()
	if err != nil {
		return m, err
	}
	m = Manifest{
		Source: e.Source, Tags: e.Tags, Command: e.Command, Labels: e.Labels, Digest: hash.String(),
		Layout: e.Name + ".oci", Archive: File{Name: filepath.Base(e.ArchivePath())}, Rootfs: layer.unpacked,
		Commands: []string{"podman load -i " + e.Name + ".docker.tar"},
	}
	for _, tag := range e.Tags {
		m.Commands = append(m.Commands, "podman run --rm -it "+tag)
	}
	sink.Emit(event.Event{Kind: event.Phase, Text: "write the layout"})
	if err := e.writeLayout(filepath.Join(scratch, "oci"), filepath.Join(e.Dir, m.Layout), image); err != nil {
		return m, err
	}
	sink.Emit(event.Event{Kind: event.Phase, Text: "write the archive"})
	if err := e.writeArchive(e.ArchivePath(), image, layer, &m.Archive); err != nil {
		return m, err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, err
	}
	return m, renameio.WriteFile(e.ManifestPath(), append(text, '\n'), 0o644)
}

// shell is the command of an image that names none.
func shell(s *inspection.System) []string {
	if _, err := fs.Stat(s.Tree(), "bin/bash"); err == nil {
		return []string{"/bin/bash"}
	}
	return []string{"/bin/sh"}
}

// writeLayer writes the compressed tar and digests both its forms on the way.
func (e Export) writeLayer(ctx context.Context, path string) (*layer, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	compressed := digest.NewWriter(f)
	z, err := pgzip.NewWriterLevel(compressed, pgzip.BestSpeed)
	if err == nil {
		err = z.SetConcurrency(1<<20, runtime.GOMAXPROCS(0))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	plain := digest.NewWriter(z)
	err = writeTar(ctx, plain, e.System.Tree())
	if err := errors.Join(err, z.Close(), f.Close()); err != nil {
		return nil, err
	}
	return &layer{path, compressed.Digest(), plain.Digest(), compressed.Size(), plain.Size()}, nil
}

// image puts a configuration on the layer.
func (e Export) image(l *layer) (v1.Image, error) {
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	image, err := mutate.Append(image, mutate.Addendum{
		Layer: l, History: v1.History{Created: v1.Time{Time: e.Created}, CreatedBy: "herdbook"}, MediaType: types.OCILayer,
	})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Created, config.OS, config.Architecture = v1.Time{Time: e.Created}, "linux", e.System.Architecture
	config.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	config.Config.Cmd, config.Config.Labels = e.Command, e.Labels
	return mutate.ConfigFile(image, config)
}

// writeLayout writes an OCI image layout and puts it in the place of an older one.
func (e Export) writeLayout(scratch, path string, image v1.Image) error {
	at, err := layout.Write(scratch, empty.Index)
	if err != nil {
		return err
	}
	for _, tag := range e.Tags {
		annotations := map[string]string{"org.opencontainers.image.ref.name": tag}
		if err := at.AppendImage(image, layout.WithAnnotations(annotations)); err != nil {
			return err
		}
	}
	// A directory cannot be exchanged in one step; the manifest, which is
	// written behind it, says whether it is whole.
	if err := errors.Join(removeIfThere(e.ManifestPath()), os.RemoveAll(path)); err != nil {
		return err
	}
	return os.Rename(scratch, path)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
