package store

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	return path, f.CloseAtomicallyReplace()
}

// settle gives a file its time and syncs it: it need not be the one that was opened.
func settle(path string, made time.Time) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(os.Chtimes(path, made, made), f.Sync(), f.Close())
}
