package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/peer"
	"herdbook/internal/wire"
)

// The agent takes away what belongs to it, but for a directory that somebody else uses by
// now; what it cannot take away is no success of a step.
func TestVanish(t *testing.T) {
	dir := t.TempDir()
	used, unit := filepath.Join(dir, "wants"), filepath.Join(dir, "unit")
	peer.Must(t, os.Mkdir(used, 0o755))
	for _, name := range []string{unit, filepath.Join(used, "other")} {
		peer.Must(t, os.WriteFile(name, nil, 0o644))
	}
	if err := vanish([]string{unit, filepath.Join(dir, "gone"), used}); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(unit); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	// A mount is as little to be removed as what lies on a disk that is read-only.
	left := vanish([]string{"/proc/version"})
	if left == nil || !strings.Contains(left.Error(), "take the agent off the disk: ") {
		t.Fatal(left)
	}
	result, err := inSystem(wire.Job{Steps: []wire.Step{{Name: "one"}}}, nil, left)
	if !errors.Is(err, left) || result.Operation != wire.NoStep {
		t.Errorf("%+v %v", result, err)
	}
}
