package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"herdbook/internal/digest"
)

// root is what one definition reaches. It keeps layers from being collected.
type root struct {
	Definition string          `json:"definition"` // absolute path
	Layers     []digest.Digest `json:"layers"`
}

// Reach notes which layers a definition reaches, in place of what was noted for
// it before. They and those below them are kept for as long as the file of the
// definition is there.
func (s *Store) Reach(definition string, layers []digest.Digest) error {
	text, err := json.MarshalIndent(root{definition, layers}, "", "  ")
	if err != nil {
		return fmt.Errorf("note what %s reaches: %w", definition, err)
	}
	path := filepath.Join(s.dir, "roots", string(digest.Of([]byte(definition))))
	// Most builds change nothing: then nothing is written.
	if old, err := os.ReadFile(path); err == nil && string(old) == string(text) {
		return nil
	}
	if err := writeWhole(path, text); err != nil {
		return fmt.Errorf("note what %s reaches: %w", definition, s.Explain(err))
	}
	return nil
}

// reached lists the layers of every definition that is still there, and the
// files that noted those of definitions that are gone.
func (s *Store) reached() (map[digest.Digest]bool, []string, error) {
	layers := map[digest.Digest]bool{}
	var stale []string
	paths, err := s.entries("roots")
	if err != nil {
		return nil, nil, err
	}
	for _, path := range slices.DeleteFunc(paths, func(p string) bool { return !isName(p) }) {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		var r root
		// One that cannot be read keeps nothing, but collecting then could take
		// what is needed.
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, nil, fmt.Errorf("read %s: %w; build its definition again, or remove it", path, err)
		}
		if _, err := os.Stat(r.Definition); errors.Is(err, fs.ErrNotExist) {
			stale = append(stale, path)
			continue
		}
		for _, d := range r.Layers {
			layers[d] = true
		}
	}
	return layers, stale, nil
}
