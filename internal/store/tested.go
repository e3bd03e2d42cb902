package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"herdbook/internal/digest"
	"herdbook/internal/event"
)

// Tested is how a test of a layer ended the last time.
type Tested struct {
	Key    Key    `json:"key"` // of the proof
	Image  string `json:"image"`
	Test   string `json:"test"` // such as test "boots" by BIOS
	Passed bool   `json:"passed"`
	How    string `json:"how,omitempty"` // accelerator
	event.Verdict
}

func (s *Store) testedPath(d digest.Digest, k Key) string {
	return filepath.Join(s.layerPath(d, testedName), string(k)+".json")
}

// Judge records how a test of a layer ended, in place of what was recorded before.
// Only of one that passed the key stands for the layer then. A crash between the two
// writes leaves a test that is asked again.
func (s *Store) Judge(d digest.Digest, t Tested) error {
	if err := s.judge(d, t); err != nil {
		return fmt.Errorf("record a test of layer %s: %w", d.Short(), s.Explain(err))
	}
	return nil
}

func (s *Store) judge(d digest.Digest, t Tested) error {
	key, err := s.keyPath(t.Key)
	if err != nil {
		return err
	}
	if _, err := s.Layer(d); err != nil {
		return err
	}
	if !t.Passed {
		if err := removeIfThere(key); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	path := s.testedPath(d, t.Key)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := writeWhole(path, append(text, '\n')); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(path)); err != nil || !t.Passed {
		return err
	}
	return s.Record(t.Key, d)
}

// Proof is the record of a test that a layer passed; false if there is none. One whose
// record is lost, or was never written, passed at a time that nobody knows.
func (s *Store) Proof(d digest.Digest, k Key) (Tested, bool, error) {
	layer, ok, err := s.Lookup(k)
	if err != nil || !ok || layer.Digest != d {
		return Tested{}, false, err
	}
	t, err := readTested(s.testedPath(d, k))
	if err != nil || !t.Passed || t.Key != k {
		return Tested{Key: k, Passed: true}, true, nil
	}
	return t, true, nil
}

// Tests lists the recorded tests of a layer, the oldest first.
func (s *Store) Tests(d digest.Digest) ([]Tested, error) {
	if _, err := digest.Parse(string(d)); err != nil {
		return nil, fmt.Errorf("list the tests of a layer: %w", err)
	}
	entries, err := os.ReadDir(s.layerPath(d, testedName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the tests of layer %s: %w", d.Short(), err)
	}
	var list []Tested
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if _, err := digest.Parse(name); err != nil || !ok {
			continue // what a crash left
		}
		t, err := readTested(s.testedPath(d, Key(name)))
		if err != nil {
			continue // damaged: as if it were not there
		}
		list = append(list, t)
	}
	slices.SortStableFunc(list, func(a, b Tested) int {
		if n := a.Time.Compare(b.Time); n != 0 {
			return n
		}
		return strings.Compare(a.Test, b.Test)
	})
	return list, nil
}

func readTested(path string) (t Tested, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return t, err
	}
	return t, json.Unmarshal(text, &t)
}
