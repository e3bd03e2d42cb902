package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"herdbook/internal/digest"
)

// partPrefix begins the names of the files beside a layer that artefacts have in common.
const partPrefix = "part-"

// Part returns the path of a file that is made of a layer, such as its compressed root:
// the one that is there, or a new one that fill writes to the path that it is given. The
// name says all that decides the bytes but the layer. It lies with the layer, and is
// collected with it. Who asks at the same time waits. Artefacts are links to it, which
// a user may write to: one that is changed is made anew, since its time is no longer that
// of the layer.
func (s *Store) Part(ctx context.Context, d digest.Digest, name string, fill func(path string) error) (_ string, err error) {
	unlock, err := s.LockKey(ctx, Key(digest.Of([]byte(string(d)+" "+name))))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	path := s.layerPath(d, partPrefix+string(digest.Of([]byte(name))))
	layer, err := s.Layer(d)
	if err != nil {
		return "", err
	}
	made := time.Unix(max(0, layer.Created.Unix()), 0)
	if stat, err := os.Stat(path); err == nil && stat.ModTime().Equal(made) {
		return path, nil
	}
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(s.layerPath(d, "")), renameio.WithPermissions(0o644))
	if err != nil {
		return "", s.Explain(err)
	}
	defer func() { err = errors.Join(err, f.Cleanup()) }()
	if err := fill(f.Name()); err != nil {
		return "", fmt.Errorf("make %s of layer %s: %w", name, d.Short(), s.Explain(err))
	}
	if err := settle(f.Name(), made); err != nil {
		return "", s.Explain(err)
	}
	return path, s.Explain(f.CloseAtomicallyReplace())
}

// settle gives a file its time and syncs it: it need not be the one that was opened.
func settle(path string, made time.Time) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(os.Chtimes(path, made, made), f.Sync(), f.Close())
}

// part is a file beside a layer that artefacts have in common, or what is left of the
// making of one.
type part struct {
	path string
	size int64 // bytes that go with it: none of one that an artefact is a link to
}

// parts lists those of a layer, the whole ones and what is left of others.
func (s *Store) parts(d digest.Digest) (whole, half []part, err error) {
	entries, err := os.ReadDir(s.layerPath(d, ""))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	for _, e := range entries {
		to := &whole
		if strings.HasPrefix(e.Name(), "."+partPrefix) {
			to = &half
		} else if !strings.HasPrefix(e.Name(), partPrefix) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		p := part{path: s.layerPath(d, e.Name())}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink == 1 {
			p.size = stat.Blocks * 512 // a raw disk has holes
		}
		*to = append(*to, p)
	}
	return whole, half, err
}

// PartsSize is how many bytes the parts of a layer take, those aside that artefacts are
// links to.
func (s *Store) PartsSize(d digest.Digest) (size int64, err error) {
	whole, _, err := s.parts(d)
	if err != nil {
		return 0, fmt.Errorf("list the parts of layer %s: %w", d.Short(), err)
	}
	for _, p := range whole {
		size += p.size
	}
	return size, nil
}

// sizes are those of layers with their parts.
func (s *Store) sizes(layers []Layer) (map[digest.Digest]int64, error) {
	sizes := map[digest.Digest]int64{}
	for _, l := range layers {
		parts, err := s.PartsSize(l.Digest)
		if err != nil {
			return nil, err
		}
		sizes[l.Digest] = l.Size + parts
	}
	return sizes, nil
}

// collectParts removes what is left of parts of a layer that stays, and its parts, if there
// is too much in the store: they can be made anew.
func (s *Store) collectParts(l Layer, p Policy, r *Report) error {
	whole, half, err := s.parts(l.Digest)
	if err != nil {
		return err
	}
	gone := half
	for _, part := range half {
		r.Work, r.Freed = append(r.Work, "what is left of a part of "+l.Digest.Short()), r.Freed+part.size
	}
	trimmed := int64(0)
	for _, part := range whole {
		if p.MaxSize > 0 && r.Left > p.MaxSize && part.size > 0 {
			gone, trimmed, r.Left = append(gone, part), trimmed+part.size, r.Left-part.size
		}
	}
	if trimmed > 0 {
		r.Parts, r.Freed = append(r.Parts, Trimmed{l, trimmed}), r.Freed+trimmed
	}
	for _, part := range gone {
		if p.DryRun {
			break
		}
		if err := removeIfThere(part.path); err != nil {
			return err
		}
	}
	return nil
}
