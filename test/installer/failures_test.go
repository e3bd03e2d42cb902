//go:build installer

// Package installer holds herdbook against the real Debian installer.
package installer

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/peer"
)

// netboot is where Debian's package has the installer.
const netboot = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64"

// What goes wrong with a real installer is seen within a minute of being visible,
// and told with the phase, the installer's own words, its console and its log.
func TestInstallerFailures(t *testing.T) {
	for _, name := range []string{"linux", "initrd.gz"} {
		_, err := os.Stat(filepath.Join(netboot, name))
		peer.Need(t, err == nil, "debian-installer-12-netboot-amd64 is not installed")
	}
	binary, err := filepath.Abs("../../bin/herdbook")
	peer.Must(t, err)
	_, err = os.Stat(binary)
	peer.Need(t, err == nil, "bin/herdbook is not built: make build")
	answers, err := os.ReadFile("preseed.cfg")
	peer.Must(t, err)
	port := peer.Mirror{Lacks: func(path string) bool { return strings.HasSuffix(path, ".udeb") }}.Start(t)

	for _, c := range []struct {
		name    string
		answers string
		block   string // more of the install block
		hang    bool   // so there is a screenshot
		want    []string
	}{{
		"an open question", strings.ReplaceAll(string(answers), "d-i mirror/http/hostname", "# d-i mirror/http/hostname"), "", true,
		[]string{`in the phase "network"`, "asks a question and waits for a person", "Debian archive mirror hostname", "Prompt: "},
	}, {
		"a mirror that lacks components", string(answers), fmt.Sprintf("mirror_proxy = %q", peer.GuestAddress(port)), true,
		[]string{`in the phase "media"`, "waits for a person", "The installer failed to download a file from the mirror", "Menu item 'download-installer' selected"},
	}, {
		"a kernel that panics", string(answers), `arguments = ["rdinit=/bin/false"]`, false,
		[]string{`in the phase "media"`, "Kernel panic - not syncing: Attempted to kill init!"},
	}, {
		"a power-off in the middle", string(answers) + "d-i preseed/early_command string poweroff -f\n", "", false,
		[]string{`in the phase "media"`, "powered off before the installation was complete", "Starting system log daemon"},
	}} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			peer.Must(t, os.WriteFile(filepath.Join(dir, "preseed.cfg"), []byte(c.answers), 0o644))
			definition := fmt.Sprintf("image \"x\" {\n  install \"preseed\" {\n    location = %q\n    answers = file(\"preseed.cfg\")\n    %s\n  }\n}\n", netboot, c.block)
			peer.Must(t, os.WriteFile(filepath.Join(dir, "herdbook.hcl"), []byte(definition), 0o644))
			out, err := exec.Command(binary, "build", "-f", filepath.Join(dir, "herdbook.hcl"), "--store", filepath.Join(dir, "store")).CombinedOutput()
			exit, ok := err.(*exec.ExitError)
			if !ok || exit.ExitCode() != 1 {
				t.Errorf("herdbook ended with %v, want status 1", err)
			}
			_, report, _ := strings.Cut(string(out), "\nherdbook: ")
			for _, want := range c.want {
				if !strings.Contains(report, want) {
					t.Errorf("%q is not in the report:\n%s", want, report)
				}
			}
			failed := filepath.Join(dir, "store", "layers", "failed-x")
			log, err := os.ReadFile(filepath.Join(failed, "log.ndjson"))
			if err != nil || !strings.Contains(string(log), `"kind":"phase"`) {
				t.Errorf("the log of the step: %v, %d bytes", err, len(log))
			}
			screen := filepath.Join(failed, "screen.png")
			if _, err := os.Stat(screen); (err == nil) != c.hang || strings.Contains(report, screen) != c.hang {
				t.Errorf("the screenshot: %v; the report:\n%s", err, report)
			}
			// The console's last lines are there, with those of the installer's log behind.
			if lines := strings.Count(report, "\n"); lines < 20 {
				t.Errorf("the report has %d lines:\n%s", lines, report)
			}
		})
	}
}
