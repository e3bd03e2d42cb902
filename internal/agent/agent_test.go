package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/wire"
)

// The rest of the agent is tested where it lives, in machines: see the scripts
// of internal/cli.

func TestRunCommand(t *testing.T) {
	for _, c := range []struct {
		run, output string
		status      int
	}{
		{"echo out; echo err >&2", "out\nerr\n", 0},
		{"exit 7", "", 7},
		{"echo tell secret", "tell ***\n", 0},
		{"kill -TERM $$", "", -1},
		{"no-such-program-here", "not found", 127},
		{"printf 'bad \\377 byte'", "bad � byte", 0},
		// What it leaves behind holds its output open, but not the test.
		{"echo started; sleep 30 &", "started\n", 0},
	} {
		r := runCommand(wire.Command{Name: "x", Run: c.run}, []string{"secret"})
		if r.Name != "x" || r.ExitStatus != c.status || !strings.Contains(r.Output, c.output) || strings.Contains(r.Output, "secret") {
			t.Errorf("%s: %+v, want status %d and %q", c.run, r, c.status, c.output)
		}
	}
	r := runCommand(wire.Command{Run: "head -c 300000 /dev/zero | tr '\\0' x"}, nil)
	if len(r.Output) != wire.MaxOutput || r.ExitStatus != 0 {
		t.Errorf("a long output: %d bytes, status %d", len(r.Output), r.ExitStatus)
	}
}

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
	result := work(true, job, nil)
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
