package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/wire"
)

// The rest of the agent is tested where it lives, in machines: see the scripts
// of internal/cli.

func TestFindByFile(t *testing.T) {
	dir := t.TempDir()
	for device, serial := range map[string]string{"zero": "other", "null": "root\n", "no-such-device": "lost"} {
		peer.Must(t, os.Mkdir(filepath.Join(dir, device), 0o755))
		peer.Must(t, os.WriteFile(filepath.Join(dir, device, "serial"), []byte(serial), 0o644))
	}
	pattern := filepath.Join(dir, "*", "serial")
	if path, ok := findByFile(pattern, "root", 2); !ok || path != "/dev/null" {
		t.Errorf("root: %s, %v", path, ok)
	}
	for _, serial := range []string{"lost", "absent"} { // a device without its node is not there yet
		if path, ok := findByFile(pattern, serial, 2); ok {
			t.Errorf("%s: %s", serial, path)
		}
	}
}

func TestAPanicIsAFailureWithoutSecrets(t *testing.T) {
	// There is no root disk here, and no wire: the job cannot be done.
	secret := op.Secret{Value: "hidden", Name: "X"}
	job := wire.Job{Operations: []op.Envelope{{Operation: &op.Password{User: "root", Password: secret}}}, Redact: []string{"hidden"}}
	result := work(inWorkshop, job, nil)
	if result.OK || !strings.Contains(result.Error, "panicked") || strings.Contains(result.Error, "hidden") {
		t.Errorf("%+v", result)
	}
}

func TestNeedsCommands(t *testing.T) {
	for _, c := range []struct {
		job  wire.Job
		want bool
	}{
		{wire.Job{Operations: []op.Envelope{{Operation: &op.File{}}, {Operation: &op.Sysprep{}}}}, false},
		{wire.Job{Operations: []op.Envelope{{Operation: &op.File{}}, {Operation: &op.Run{}}}}, true},
		{wire.Job{Shell: true}, true},
	} {
		if needsCommands(c.job) != c.want {
			t.Errorf("%+v", c.job)
		}
	}
}

func TestRunningJobs(t *testing.T) {
	for _, c := range []struct {
		list string
		want []string
	}{
		{"", nil},
		{"No jobs running.\n", nil},
		{"  1 graphical.target   start waiting\n  2 multi-user.target  start waiting\n128 wait-online.service start running\n 56 var-mnt.mount stop running", []string{"wait-online.service (start)", "var-mnt.mount (stop)"}},
		{strings.Repeat("1 a.service start running\n", 100), slices.Repeat([]string{"a.service (start)"}, maxJobs)},
	} {
		if got := runningJobs(c.list); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.list, got, c.want)
		}
	}
}
