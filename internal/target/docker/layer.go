package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/pgzip"

	"herdbook/internal/artefact"
	"herdbook/internal/digest"
	"herdbook/internal/disk"
	"herdbook/internal/filesystem"
	"herdbook/internal/inspection"
	"herdbook/internal/store"
)

// layer is a compressed tar on disk whose digests are known already, so that
// nothing reads it but to copy it.
type layer struct {
	path string
	told
}

// told is what is known of a layer without reading it.
type told struct {
	Compressed digest.Digest `json:"compressed"`
	Diff       digest.Digest `json:"diff"`     // of the tar
	Size       int64         `json:"size"`     // bytes
	Unpacked   int64         `json:"unpacked"` // bytes of the tar
}

// maxLayers is what overlay file systems of container engines can stand on one another.
const maxLayers = 127

// step is what one layer of the image's chain gave: nil where its system is the same as
// before, or none can be read yet.
type step struct {
	name  string
	at    v1.Time
	layer *layer
}

// steps makes a layer of each in the image's chain, or one of all; no more than most.
func (e *Exporter) steps(ctx context.Context, image *artefact.Image, most int) ([]step, error) {
	var steps []step
	var below digest.Digest // "" for nothing
	made := 0
	for i, l := range image.Chain {
		s := step{name: l.Image + ": " + l.Step, at: v1.Time{Time: l.Created}}
		// What is more than fits goes into the last one, so that the bases are shared.
		if last := i == len(image.Chain)-1; last || !e.Squash && made < most-1 && cut(image.Chain, i) {
			var err error
			if s.layer, err = layerOf(ctx, image, l.Digest, below); err != nil {
				return nil, err
			}
		}
		if s.layer != nil {
			made, below = made+1, l.Digest
		}
		steps = append(steps, s)
	}
	if made == 0 {
		return nil, errors.New("there is no file in it")
	}
	return steps, nil
}

// cut tells whether a layer may end behind a step. One above another hides files and takes
// none away: behind what sysprep is still to remove, in this image or in one that stands on
// it, none ends. What comes from a repository was generalised before it was published.
func cut(chain []store.Layer, i int) bool {
	return chain[i].Step == sysprep || strings.HasPrefix(chain[i].Step, template) || !slices.ContainsFunc(chain[i+1:], func(l store.Layer) bool { return l.Step == sysprep })
}

// The labels of such steps.
const (
	sysprep  = "sysprep"
	template = "template " // and which one
)

// layerOf is what the system on a layer of the store has other than that on the layer
// below: parts of it, so that images with a base in common make that once.
func layerOf(ctx context.Context, image *artefact.Image, of, below digest.Digest) (*layer, error) {
	name := "docker layer 2 on nothing"
	if below != "" {
		name = "docker layer 2 on " + string(below)
	}
	l := &layer{}
	var err error
	l.path, err = image.Store.Part(ctx, of, name+", tar.gz", func(path string) error {
		return between(image, of, below, func(before, after *filesystem.FS) (err error) {
			l.told, err = writeLayer(ctx, path, before, after)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	if stat, err := os.Stat(l.path); err != nil || stat.Size() == 0 {
		return nil, err
	}
	about, err := image.Store.Part(ctx, of, name+", digests", func(path string) (err error) {
		if l.Compressed == "" {
			if l.told, err = readLayer(ctx, l.path); err != nil {
				return err
			}
		}
		text, err := json.Marshal(l.told)
		return errors.Join(err, os.WriteFile(path, text, 0o644))
	})
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(about)
	if err != nil {
		return nil, err
	}
	return l, json.Unmarshal(text, &l.told)
}

// between opens the systems on two layers. Where there is none on the upper one yet, as
// while it is installed, do is not called.
func between(image *artefact.Image, of, below digest.Digest, do func(before, after *filesystem.FS) error) (err error) {
	after := image.System.Tree()
	if of != image.Layer {
		opened, tree, err := open(image, of)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, opened.Close()) }()
		if after = tree; tree == nil {
			return nil
		}
	}
	if below == "" {
		return do(nil, after)
	}
	opened, before, err := open(image, below)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	return do(before, after)
}

// open opens a layer of the store; the tree is nil if it has no system that can be read.
func open(image *artefact.Image, d digest.Digest) (*disk.Image, *filesystem.FS, error) {
	opened, err := disk.Open(image.Store.DiskPath(d), disk.QCOW2)
	if err != nil {
		return nil, nil, err
	}
	system, err := inspection.Disk(opened, opened.Size())
	var failure syscall.Errno // of the host, not of what is on the disk
	if errors.As(err, &failure) {
		return nil, nil, errors.Join(err, opened.Close())
	}
	if err != nil {
		return opened, nil, nil
	}
	return opened, system.Tree(), nil
}

// writeLayer writes the compressed tar and digests both its forms on the way. The file is
// empty if nothing differs.
func writeLayer(ctx context.Context, path string, before, after *filesystem.FS) (told, error) {
	f, err := os.Create(path)
	if err != nil {
		return told{}, err
	}
	compressed := digest.NewWriter(f)
	z, err := pgzip.NewWriterLevel(compressed, pgzip.BestSpeed)
	if err == nil {
		err = z.SetConcurrency(1<<20, runtime.GOMAXPROCS(0))
	}
	if err != nil {
		return told{}, errors.Join(err, f.Close())
	}
	plain := digest.NewWriter(z)
	differs, err := writeDifference(ctx, plain, before, after)
	err = errors.Join(err, z.Close())
	if !differs {
		err = errors.Join(err, f.Truncate(0))
	}
	return told{compressed.Digest(), plain.Digest(), compressed.Size(), plain.Size()}, errors.Join(err, f.Close())
}

// readLayer digests a compressed tar that is there.
func readLayer(ctx context.Context, path string) (t told, err error) {
	f, err := os.Open(path)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	compressed, plain := digest.NewWriter(io.Discard), digest.NewWriter(io.Discard)
	z, err := pgzip.NewReader(io.TeeReader(f, compressed))
	if err != nil {
		return t, fmt.Errorf("read %s: %w", path, err)
	}
	if _, err := io.Copy(plain, artefact.Within(ctx, z)); err != nil {
		return t, fmt.Errorf("read %s: %w", path, err)
	}
	return told{compressed.Digest(), plain.Digest(), compressed.Size(), plain.Size()}, nil
}
