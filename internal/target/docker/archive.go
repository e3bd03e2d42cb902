package docker

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"herdbook/internal/artefact"
	"herdbook/internal/digest"
)

// writeArchive writes an archive that "docker load" takes, that of Docker 20.10 too, to
// which an OCI layout is nothing: configuration, layers and a manifest that names them.
// The library would write the tags in the order of a map, and so other bytes each time.
func (e *Exporter) writeArchive(ctx context.Context, path string, container v1.Image, layers []*layer) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	config, err := container.RawConfigFile()
	if err != nil {
		return err
	}
	descriptor := tarball.Descriptor{Config: "sha256:" + string(digest.Of(config))}
	for _, tag := range e.Tags {
		ref, err := name.NewTag(tag)
		if err != nil {
			return fmt.Errorf("use tag %q: %w", tag, err)
		}
		descriptor.RepoTags = append(descriptor.RepoTags, ref.String())
	}
	out := tar.NewWriter(f)
	if err := addFile(out, descriptor.Config, config); err != nil {
		return err
	}
	for _, l := range layers {
		file := string(l.Compressed) + ".tar.gz"
		if !slices.Contains(descriptor.Layers, file) {
			if err := addLayer(ctx, out, file, l); err != nil {
				return err
			}
		}
		descriptor.Layers = append(descriptor.Layers, file)
	}
	manifest, err := json.Marshal(tarball.Manifest{descriptor})
	return errors.Join(err, addFile(out, "manifest.json", manifest), out.Close())
}

func addFile(out *tar.Writer, name string, content []byte) error {
	if err := out.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o444}); err != nil {
		return err
	}
	_, err := out.Write(content)
	return err
}

func addLayer(ctx context.Context, out *tar.Writer, name string, l *layer) error {
	content, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer content.Close()
	if err := out.WriteHeader(&tar.Header{Name: name, Size: l.Size, Mode: 0o444}); err != nil {
		return err
	}
	_, err = io.Copy(out, artefact.Within(ctx, content))
	return err
}
