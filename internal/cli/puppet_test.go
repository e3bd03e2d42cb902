//go:build long

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"herdbook/internal/comparison"
	"herdbook/internal/peer"
	"herdbook/internal/puppet"
	"herdbook/internal/workshop"
)

// newRanch makes the image of puppet.hcl, once, and a definition that goes on from it.
func newRanch(t *testing.T, definition string) ranch {
	t.Helper()
	shared, err := filepath.Abs("../../.test")
	peer.Must(t, err)
	base := filepath.Join(shared, "puppet")
	peer.Must(t, os.MkdirAll(base, 0o755))
	peer.Must(t, os.MkdirAll(filepath.Join(shared, "tmp"), 0o755))
	text, err := os.ReadFile("testdata/puppet.hcl")
	peer.Must(t, err)
	peer.Must(t, os.WriteFile(filepath.Join(base, "puppet.hcl"), text, 0o644))
	// A store of its own: scripts count what is in the other one.
	r := ranch{dir: base, store: filepath.Join(base, "store")}
	if status, said := r.build(t); status != exitDone {
		t.Fatalf("the base image: status %d: %s", status, said)
	}
	r.dir, err = os.MkdirTemp(filepath.Join(shared, "tmp"), "puppet-")
	peer.Must(t, err)
	t.Cleanup(func() { peer.Must(t, os.RemoveAll(r.dir)) })
	// Links will do, since a layer is never written to; but not for locks.
	peer.Run(t, "cp", "--archive", "--link", r.store, filepath.Join(r.dir, "store"))
	r.store = filepath.Join(r.dir, "store")
	peer.Must(t, os.RemoveAll(filepath.Join(r.store, "locks")))
	peer.Run(t, "cp", filepath.Join(base, lockName), filepath.Join(base, "puppet.hcl"), r.dir)
	peer.Must(t, os.WriteFile(filepath.Join(r.dir, "roles.hcl"), []byte(definition), 0o644))
	return r
}

// roles has the images of the test. It takes the server's port and the directory that
// its commands write to.
const roles = `
image "role" {
  from = image.puppet
  step "puppet" "role" {
    server         = "puppet.example.org"
    port           = %[1]d
    hosts          = { "puppet.example.org" = "10.0.2.2" }
    host_ports     = [%[1]d]
    environment    = "production"
    certname       = "build-role.example.org"
    facts          = { herd_rack = "r1" }
    trusted_facts  = { pp_role = "web" }
    challenge      = env("CHALLENGE")
    config_version = "v1"
    clean          = ["/bin/sh", "-c", "echo $HERDBOOK_CERTNAME >> %[2]s/cleaned"]
  }
}

image "failing" {
  from = image.puppet
  step "puppet" "role" {
    server      = "puppet.example.org"
    port        = %[1]d
    hosts       = { "puppet.example.org" = "10.0.2.2" }
    host_ports  = [%[1]d]
    environment = "failing"
    certname    = "build-failing.example.org"
    challenge   = env("CHALLENGE")
  }
}

image "taken" {
  from = image.puppet
  step "puppet" "role" {
    server     = "puppet.example.org"
    port       = %[1]d
    hosts      = { "puppet.example.org" = "10.0.2.2" }
    host_ports = [%[1]d]
    certname   = "taken.example.org"
    challenge = env("CHALLENGE")
    clean      = ["/bin/sh", "-c", "echo $HERDBOOK_CERTNAME >> %[2]s/cleaned"]
  }
}

image "applied" {
  from = image.role
  step "puppet" "local" {
    manifest   = "include motd"
    modules    = "modules"
    install    = ""
  }
}
`

// One image has a role from a real server, and another step on top of it; one has a
// resource that fails; and one has the name of another node.
func TestVMPuppet(t *testing.T) {
	peer.NeedTool(t, "qemu-system-x86_64", "qemu-img", "mmdebstrap")
	_, err := workshop.Agent()
	peer.Need(t, err == nil, "the agent is not built: make build")
	const password = "open sesame, and close"
	server := peer.NewPuppetServer(t, peer.Puppet{Challenge: password})
	server.Generate(t, "taken.example.org")
	told := t.TempDir()
	r := newRanch(t, fmt.Sprintf(roles, server.Port, told))
	r.secret = password
	motd := filepath.Join(r.dir, "modules/motd/manifests")
	peer.Must(t, os.MkdirAll(motd, 0o755))
	peer.Must(t, os.WriteFile(filepath.Join(motd, "init.pp"), []byte("class motd {\n  file { '/etc/motd': content => \"moo\\n\" }\n}\n"), 0o644))

	status, said := r.build(t)
	if status != exitFailed {
		t.Errorf("status %d", status)
	}
	for _, want := range []string{
		`image "failing", puppet "role" (`, "Puppet ended with status 6: resources failed: 1 of 10, first Exec[the one that fails] (" + server.Code + "/environments/failing/manifests/site.pp:3)",
		`image "taken", puppet "role" (`, "the CA has signed this certname already, with another key",
		"Puppet changed: 4 of ",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("nobody said %q", want)
		}
	}
	if again, said := r.build(t, "applied"); again != exitDone || !strings.Contains(said, `role › puppet "role": cached`) || !strings.Contains(said, `applied › puppet "local": cached`) {
		t.Errorf("status %d", again)
	}
	checkRole(t, r, server, told)
	checkApplied(t, r)
	checkSecret(t, r)
}

// checkRole looks at what the server's catalogue has made, and at what is left of it.
func checkRole(t *testing.T, r ranch, server *peer.PuppetServer, told string) {
	t.Helper()
	layer, disk := r.layer(t, "role", `puppet "role"`)
	if _, got := r.run(t, "cat", "--backing-files", disk, "/etc/herd-hello.conf"); got != "# build-role.example.org\nrack = r1\nrole = web\n" {
		t.Errorf("the configuration is %q", got)
	}
	var outcome puppet.Outcome
	if len(layer.Reports) != 1 || layer.Reports[0].Kind != "puppet" {
		t.Fatalf("the record has the reports %+v", layer.Reports)
	}
	peer.Must(t, json.Unmarshal(layer.Reports[0].Content, &outcome))
	if p := outcome.Report; p == nil || p.Version != "v1" || p.Changed != 4 || p.Failed != 0 || outcome.Certificate != puppet.CertificateCleaned {
		t.Errorf("the record has the report %+v", outcome)
	}
	if names, err := os.ReadFile(filepath.Join(told, "cleaned")); err == nil {
		t.Errorf("the CA had forgotten the certificate, or it was another's, and clean was run for %s", names)
	}
	if list := server.CA(t, "list", "--all"); strings.Contains(list, "build-") || !strings.Contains(list, "taken.example.org") {
		t.Errorf("the CA has these certificates: %s", list)
	}
	_, base := r.layer(t, "puppet", `run "network"`)
	changed := differences(t, r, base, disk)
	for _, want := range []string{"/etc/herd-hello.conf", "/usr/lib/systemd/system/herd-hello.service", "/etc/systemd/system/multi-user.target.wants/herd-hello.service", "/var/cache/herd-hello.deb"} {
		if !slices.Contains(changed, want) {
			t.Errorf("%s was not made; there are %q", want, changed)
		}
	}
	for _, name := range changed {
		if strings.Contains(name, "puppet") || strings.Contains(name, "facter") || strings.Contains(name, "herdbook") {
			t.Errorf("a trace is left: %s", name)
		}
	}
}

func checkApplied(t *testing.T, r ranch) {
	t.Helper()
	_, disk := r.layer(t, "applied", `puppet "local"`)
	if _, got := r.run(t, "cat", "--backing-files", disk, "/etc/motd"); got != "moo\n" {
		t.Errorf("/etc/motd is %q", got)
	}
	_, before := r.layer(t, "role", `puppet "role"`)
	for _, name := range differences(t, r, before, disk) {
		if strings.Contains(name, "puppet") || strings.Contains(name, "herdbook") || strings.Contains(name, "modules") {
			t.Errorf("a trace is left: %s", name)
		}
	}
}

// differences are the paths that differ between two images.
func differences(t *testing.T, r ranch, a, b string) []string {
	t.Helper()
	var out bytes.Buffer
	status := Main(t.Context(), World{
		Args: []string{"diff", "--json", "--backing-files", a, b}, Stdin: os.Stdin, Stdout: &out, Stderr: t.Output(), Now: time.Now, LookupEnv: os.LookupEnv,
	})
	var told comparison.Comparison
	if err := json.Unmarshal(out.Bytes(), &told); err != nil || status != exitFailed {
		t.Fatalf("diff: status %d, %v", status, err)
	}
	var names []string
	for _, f := range told.Files {
		names = append(names, f.Name)
	}
	return names
}

// checkSecret searches all that was written for the password.
func checkSecret(t *testing.T, r ranch) {
	t.Helper()
	if out, err := exec.Command("grep", "--recursive", "--files-with-matches", "--fixed-strings", r.secret, r.dir).CombinedOutput(); err == nil {
		t.Errorf("the secret stands in %s", out)
	}
}
