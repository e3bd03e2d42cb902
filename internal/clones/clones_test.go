package clones

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/disk"
	"herdbook/internal/identity"
	"herdbook/internal/peer"
	"herdbook/internal/workshop"
)

// Clones are started where the other machines are tested: see the scripts of
// internal/cli.

func TestAnErrorNamesEverything(t *testing.T) {
	facts := []identity.Fact{{Name: "machine-id", Value: "1", Where: "/etc/machine-id"}, {Name: "hostname", Value: "web1", Where: "/etc/hostname"}}
	err := &Error{Units: []error{errors.New("clone 2: failed units: ssh.service")}, Defects: identity.Compare(nil, facts, facts, nil, nil)}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 3 || lines[0] != "clone 2: failed units: ssh.service" || !strings.HasPrefix(lines[1], "machine-id: ") || !strings.HasPrefix(lines[2], "hostname: ") {
		t.Errorf("%q", lines)
	}
	if again := err.Error(); again != strings.Join(lines, "\n") {
		t.Errorf("the second time it says %q", again)
	}
}

// An image that cannot be cloned is no verdict against it, and nothing is left behind.
func TestWhatCannotBeClonedIsNoVerdict(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	empty := filepath.Join(t.TempDir(), "empty.raw")
	peer.Must(t, os.WriteFile(empty, make([]byte, 1<<20), 0o644))
	for name, image := range map[string]Image{
		"absent":       {filepath.Join(t.TempDir(), "absent.qcow2"), disk.QCOW2},
		"no system":    {empty, disk.Raw},
		"wrong format": {empty, disk.QCOW2},
	} {
		scratch := t.TempDir()
		err := Verify(t.Context(), workshop.Session{Scratch: scratch}, image, Rules{})
		var verdict *Error
		if err == nil || errors.As(err, &verdict) || !strings.HasPrefix(err.Error(), "compare two clones: ") {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind: %v, %v", name, left, err)
		}
	}
}
