package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"herdbook/internal/artefact"
	"herdbook/internal/digest"
	"herdbook/internal/sbom"
)

// refName is the annotation that tags an image of a layout.
const refName = "org.opencontainers.image.ref.name"

// writeLayout writes an OCI image layout. Its layers are the parts themselves, where file
// systems allow.
func (e *Exporter) writeLayout(ctx context.Context, path string, c contents) error {
	blobs := filepath.Join(path, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	for _, l := range c.layers {
		file := filepath.Join(blobs, string(l.Compressed))
		if _, err := os.Lstat(file); err == nil {
			continue
		}
		if err := artefact.Place(l.path, file); err != nil {
			return err
		}
	}
	at, err := layout.Write(path, empty.Index)
	if err != nil {
		return err
	}
	var names []layout.Option
	for _, tag := range e.Tags {
		names = append(names, layout.WithAnnotations(map[string]string{refName: tag}))
	}
	if len(names) == 0 {
		names = append(names, layout.WithAnnotations(nil))
	}
	for _, name := range names {
		if err := at.AppendImage(c.container, name); err != nil {
			return err
		}
	}
	if err := context.Cause(ctx); err != nil || c.packages == nil {
		return err
	}
	subject, err := partial.Descriptor(c.container)
	if err != nil {
		return err
	}
	return attach(at, *subject, c.packages)
}

// attach adds the list of packages to a layout, as an artefact that refers to the image.
func attach(at layout.Path, subject v1.Descriptor, packages []byte) error {
	subject.ArtifactType = ""
	nothing := describe([]byte("{}"), "application/vnd.oci.empty.v1+json")
	list := describe(packages, sbom.MediaType)
	manifest, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: sbom.MediaType, Config: nothing, Layers: []v1.Descriptor{list}, Subject: &subject,
	})
	if err != nil {
		return err
	}
	reference := describe(manifest, types.OCIManifestSchema1)
	reference.ArtifactType = sbom.MediaType
	for _, b := range []struct {
		descriptor v1.Descriptor
		content    []byte
	}{{nothing, []byte("{}")}, {list, packages}, {reference, manifest}} {
		if err := at.WriteBlob(b.descriptor.Digest, io.NopCloser(bytes.NewReader(b.content))); err != nil {
			return err
		}
	}
	return at.AppendDescriptor(reference)
}

func describe(content []byte, mediaType types.MediaType) v1.Descriptor {
	return v1.Descriptor{MediaType: mediaType, Size: int64(len(content)), Digest: v1.Hash{Algorithm: "sha256", Hex: string(digest.Of(content))}}
}
