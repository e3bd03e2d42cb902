package docker

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/renameio/v2"

	"herdbook/internal/digest"
)

// writeArchive writes an archive that "docker load" takes.
func (e Export) writeArchive(path string, image v1.Image, l *layer, made *File) (err error) {
	f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	// After CloseAtomicallyReplace this does nothing.
	defer func() { err = errors.Join(err, f.Cleanup()) }()
	w := digest.NewWriter(f)
	if err := e.pack(w, image, l); err != nil {
		return err
	}
	made.Size, made.Digest = w.Size(), w.Digest()
	return f.CloseAtomicallyReplace()
}

// pack writes the files of the archive: configuration, layer and a manifest that
// names them. The library would write the tags in the order of a map, and so
// other bytes each time.
func (e Export) pack(w io.Writer, image v1.Image, l *layer) error {
	config, err := image.RawConfigFile()
	if err != nil {
		return err
	}
	descriptor := tarball.Descriptor{
		Config: "sha256:" + string(digest.Of(config)), Layers: []string{string(l.compressed) + ".tar.gz"},
	}
	for _, tag := range e.Tags {
		ref, err := name.NewTag(tag)
		if err != nil {
			return fmt.Errorf("use tag %q: %w", tag, err)
		}
		descriptor.RepoTags = append(descriptor.RepoTags, ref.String())
	}
	manifest, err := json.Marshal(tarball.Manifest{descriptor})
	if err != nil {
		return err
	}
	content, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer content.Close()
	out := tar.NewWriter(w)
	if err := addFile(out, descriptor.Config, config); err != nil {
		return err
	}
	if err := out.WriteHeader(&tar.Header{Name: descriptor.Layers[0], Size: l.size, Mode: 0o444}); err != nil {
		return err
	}
	if _, err := io.Copy(out, content); err != nil {
		return err
	}
	return errors.Join(addFile(out, "manifest.json", manifest), out.Close())
}

func addFile(out *tar.Writer, name string, content []byte) error {
	if err := out.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o444}); err != nil {
		return err
	}
	_, err := out.Write(content)
	return err
}
