//go:build installer

package installer

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"herdbook/internal/event"
	"herdbook/internal/peer"
)

// images is where an archive has what netboot holds.
const images = "/dists/bookworm/main/installer-amd64/current/images/netboot/debian-installer/amd64"

// The whole way takes twenty minutes and more under emulation, so it is no part of
// make test.
func TestInstaller(t *testing.T) {
	root, err := filepath.Abs("../..")
	peer.Must(t, err)
	work := filepath.Join(root, ".test", "installer")
	overlay := filepath.Join(work, "overlay")
	t.Log(peer.Run(t, filepath.Join(root, "test/installer/overlay"), overlay))
	port := peer.Mirror{Overlay: map[string]string{"": filepath.Join(overlay, "www"), images: netboot}}.Start(t)

	herd := filepath.Join(work, "herd")
	peer.Must(t, os.RemoveAll(herd))
	peer.Must(t, os.CopyFS(filepath.Join(herd, "initrd.d"), os.DirFS(filepath.Join(overlay, "initrd.d"))))
	for _, name := range []string{"herdbook.hcl", "preseed.cfg"} {
		text, err := os.ReadFile(name)
		peer.Must(t, err)
		peer.Must(t, os.WriteFile(filepath.Join(herd, name), text, 0o644))
	}
	store := filepath.Join(work, "store")
	peer.Must(t, os.RemoveAll(store))
	args := []string{
		"build", "--file", filepath.Join(herd, "herdbook.hcl"), "--store", store, "--progress", "json",
		"--var", fmt.Sprintf("mirror=http://127.0.0.1:%d/debian", port), "--var", "proxy=" + peer.GuestAddress(port) + "/",
	}
	summary := build(t, filepath.Join(root, "bin/herdbook"), args)
	t.Log("\n" + summary)
	peer.Must(t, os.WriteFile(filepath.Join(work, "summary.md"), []byte(summary), 0o644))

	lock, err := os.ReadFile(filepath.Join(herd, "herdbook.lock"))
	peer.Must(t, err)
	if !strings.Contains(string(lock), "InRelease") {
		t.Errorf("the installer is not pinned by a signed Release:\n%s", lock)
	}
	index, err := os.ReadFile(filepath.Join(herd, "repo", "index"))
	peer.Must(t, err)
	if !strings.Contains(string(index), "[server]") {
		t.Errorf("the image was not published:\n%s", index)
	}
}

// build runs herdbook and returns what took how long, as a table.
func build(t *testing.T, binary string, args []string) string {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	peer.Must(t, err)
	peer.Must(t, cmd.Start())
	var table strings.Builder
	fmt.Fprint(&table, "| image | step | phase | seconds |\n|---|---|---|---|\n")
	scanner := bufio.NewScanner(out)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var e event.Event
		peer.Must(t, json.Unmarshal(scanner.Bytes(), &e))
		switch e.Kind {
		case event.Phase, event.Notice, event.StepStarted, event.StepFailed:
			fmt.Printf("%s %s %s: %s %s\n", e.Time.Format(time.TimeOnly), e.Image, e.Step, e.Kind, e.Text)
		case event.PhaseDone:
			fmt.Fprintf(&table, "| %s | %s | %s | %.0f |\n", e.Image, e.Step, e.Text, e.Elapsed.Seconds())
		case event.StepDone:
			fmt.Fprintf(&table, "| %s | %s | whole | %.0f |\n", e.Image, e.Step, e.Elapsed.Seconds())
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("herdbook build: %v\n%s", err, table.String())
	}
	return table.String()
}
