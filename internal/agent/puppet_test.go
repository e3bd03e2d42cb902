package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"herdbook/internal/event"
	"herdbook/internal/guest"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/puppet"
	"herdbook/internal/wire"
)

// onThisHost is a step that this host's own Puppet does, with what was said and asked.
type onThisHost struct {
	mu     sync.Mutex
	lines  []string
	phases []string
	asked  []wire.Ask
	heard  func(line string)
	answer func(wire.Ask) wire.Answer
}

func (h *onThisHost) sink(e event.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch e.Kind {
	case event.Log:
		h.lines = append(h.lines, e.Text)
		if h.heard != nil {
			h.heard(e.Text)
		}
	case event.Phase:
		h.phases = append(h.phases, e.Text)
	}
}

func (h *onThisHost) do(t *testing.T, ctx context.Context, o *op.Puppet) (*puppet.Outcome, error) {
	t.Helper()
	root, err := guest.OpenRoot("/")
	peer.Must(t, err)
	defer root.Close()
	dir := t.TempDir()
	system := &guest.Guest{Root: root, Temporary: dir, Sink: h.sink}
	outcome, err := runPuppet(ctx, system, o, guest.Chroot{Dir: "/", Redact: op.Secrets(o), Sink: h.sink}, func(a wire.Ask) (wire.Answer, error) {
		h.asked = append(h.asked, a)
		if h.answer == nil {
			return wire.Answer{}, nil
		}
		return h.answer(a), nil
	})
	left, readErr := os.ReadDir(dir)
	peer.Must(t, readErr)
	if len(left) > 0 {
		t.Errorf("%v was left", left)
	}
	return outcome, err
}

func (h *onThisHost) said() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.lines, "\n")
}

func number(n int) *int { return &n }

// What a run of the agent comes to is told by the real agent of this host and a real
// server: one that asks for a password, and has the certificates of other nodes.
func TestVMPuppetRuns(t *testing.T) {
	const password = "open sesame"
	server := peer.NewPuppetServer(t, peer.Puppet{Challenge: password})
	no, none := false, ""
	step := func(environment, name string) *op.Puppet {
		return &op.Puppet{
			Server: "localhost", Port: server.Port, Environment: environment, Certname: name + ".example.org", Retries: number(0), Install: &none,
			Challenge: op.Secret{Value: password, Name: "CHALLENGE"}, TrustedFacts: map[string]string{"pp_role": "web"},
		}
	}
	before := peer.Listing(t, "/etc/facter", "/etc/puppet", "/var/lib/puppet", "/var/cache/puppet", "/var/log/puppet")

	t.Run("it converges", func(t *testing.T) {
		var h onThisHost
		o := step("quiet", "good")
		o.Facts, o.ConfigVersion = map[string]string{"herd_rack": "r1"}, "v1"
		outcome, err := h.do(t, t.Context(), o)
		peer.Must(t, err)
		r := outcome.Report
		if r == nil || r.Version != "v1" || r.Environment != "quiet" || r.Status != "unchanged" || outcome.Attempts != 1 || outcome.Certificate != puppet.CertificateCleaned {
			t.Errorf("%+v %+v", outcome, r)
		}
		const told = "Exec[rack r1, role web, named good.example.org]"
		if r == nil || !slices.ContainsFunc(r.Slowest, func(r puppet.Resource) bool { return r.Name == told }) {
			t.Errorf("no resource is named %s: %+v", told, r)
		}
		if n := strings.Count(h.said(), "Applying configuration version 'v1'"); n != 2 {
			t.Errorf("it ran %d times: %s", n, h.said())
		}
		if strings.Contains(server.CA(t, "list", "--all"), "good.example.org") {
			t.Error("the CA still knows the certificate")
		}
	})
	for name, c := range map[string]struct {
		change func(o *op.Puppet)
		status int // of Puppet; 0 for none
		want   string
	}{
		"broken":   {nil, 1, "Puppet ended with status 1: the catalogue does not compile: Evaluation Error: Error while evaluating a Function Call, Could not find class ::herd::that_nobody_wrote"},
		"failing":  {nil, 6, "Puppet ended with status 6: resources failed: 1 of 10, first Exec[the one that fails] (" + server.Code + "/environments/failing/manifests/site.pp:3): change from"},
		"restless": {nil, 0, "a second run changed 1 resources again: Exec[again and again] (" + server.Code + "/environments/restless/manifests/site.pp:2): executed successfully"},
		"allowed":  {func(o *op.Puppet) { o.Environment, o.Idempotent = "restless", &no }, 0, ""},
		"moved on": {func(o *op.Puppet) { o.Environment, o.ConfigVersion = "quiet", "v0" }, 0, "the catalogue has the version v1, and config_version says v0"},
		"unsigned": {func(o *op.Puppet) {
			o.Environment, o.Challenge, o.Retries = "quiet", op.Secret{Value: "barley"}, number(1)
		}, 1,
			"the certificate request waits to be signed; it was tried 2 times; let the CA sign"},
		"unreachable": {func(o *op.Puppet) { o.Port = 1 }, 1, "the server cannot be reached; does the step"},
		"misspelt":    {func(o *op.Puppet) { o.Options = map[string]string{"no_such_setting": "x"} }, 1, "Puppet does not know the option: --no_such_setting; look at options"},
	} {
		t.Run(name, func(t *testing.T) {
			var h onThisHost
			o := step(strings.ReplaceAll(name, " ", "_"), strings.ReplaceAll(name, " ", "-"))
			if c.change != nil {
				c.change(o)
			}
			outcome, err := h.do(t, t.Context(), o)
			var failure *guest.Error
			if status := 0; errors.As(err, &failure) {
				if status = failure.Status; status != c.status {
					t.Errorf("status %d, want %d", status, c.status)
				}
			} else if c.status != 0 {
				t.Errorf("no status: %v", err)
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if outcome == nil || strings.Contains(fmt.Sprintf("%+v", outcome), password) || strings.Contains(h.said(), password) {
				t.Errorf("%+v", outcome)
			}
			if name == "unsigned" && (outcome.Certificate != puppet.CertificateAsked || len(h.asked) != 1 || h.asked[0] != wire.Ask{What: wire.AskSign, Text: "unsigned.example.org"}) {
				t.Errorf("%+v, asked for %v", outcome, h.asked)
			}
			if name == "failing" && (outcome.Certificate != puppet.CertificateCleaned || outcome.Report == nil || outcome.Report.Failed != 1) {
				t.Errorf("%+v", outcome)
			}
		})
	}
	t.Run("another has the name", func(t *testing.T) {
		server.Generate(t, "taken.example.org")
		var h onThisHost
		defer func() {
			if list := server.CA(t, "list", "--all"); strings.Contains(list, "Revoked") || !strings.Contains(list, "taken.example.org") {
				t.Errorf("the other's certificate was touched: %s", list)
			}
		}()
		outcome, err := h.do(t, t.Context(), step("quiet", "taken"))
		if err == nil || !strings.Contains(err.Error(), "the CA has signed this certname already, with another key; give the step a certname of its own") || outcome.Certificate != puppet.CertificateTaken {
			t.Errorf("%v %+v", err, outcome)
		}
	})
	t.Run("the host signs", func(t *testing.T) {
		h := onThisHost{answer: func(a wire.Ask) wire.Answer {
			server.CA(t, "sign", "--certname", a.Text)
			return wire.Answer{Text: wire.Done}
		}}
		o := step("quiet", "by-hand")
		o.Challenge, o.Idempotent = op.Secret{}, &no
		if outcome, err := h.do(t, t.Context(), o); err != nil || outcome.Certificate != puppet.CertificateCleaned || len(h.asked) != 1 {
			t.Errorf("%v %+v, asked for %v", err, outcome, h.asked)
		}
	})
	t.Run("the CA is not asked in vain", func(t *testing.T) {
		h := onThisHost{answer: func(wire.Ask) wire.Answer { return wire.Answer{Error: "the command failed"} }}
		o := step("quiet", "unwanted")
		o.Challenge, o.Retries = op.Secret{}, number(3)
		if _, err := h.do(t, t.Context(), o); err == nil || !strings.Contains(err.Error(), "let the CA sign: the command failed") {
			t.Error(err)
		}
	})
	t.Run("it hangs", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		late := errors.New("it was not done in time")
		h := onThisHost{heard: func(line string) {
			if strings.Contains(line, "Applying configuration version") {
				cancel(late)
			}
		}}
		if outcome, err := h.do(t, ctx, step("hanging", "hanging")); !errors.Is(err, late) || outcome.Certificate != puppet.CertificateCleaned {
			t.Errorf("%v %+v", err, outcome)
		}
	})
	t.Run("the server dies", func(t *testing.T) { // the last: it stays dead
		h := onThisHost{heard: func(line string) {
			if strings.Contains(line, "Applying configuration version") {
				go server.Kill()
			}
		}}
		o := step("interrupted", "interrupted")
		o.Facts, o.Retries = map[string]string{"herd_server": "127.0.0.1", "herd_port": fmt.Sprint(server.Port)}, number(1)
		outcome, err := h.do(t, t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "the server cannot be reached; it was tried 2 times") || outcome.Certificate != puppet.CertificateLeft || outcome.Left == "" {
			t.Errorf("%v %+v", err, outcome)
		}
		if !slices.ContainsFunc(h.lines, func(line string) bool {
			return strings.Contains(line, "resources failed for which the server was asked in vain; it is tried again in 5s")
		}) {
			t.Errorf("it was not tried again: %s", h.said())
		}
	})
	if after := peer.Listing(t, "/etc/facter", "/etc/puppet", "/var/lib/puppet", "/var/cache/puppet", "/var/log/puppet"); after != before {
		t.Errorf("traces are left: before\n%s\nafterwards\n%s", before, after)
	}
}

// A message is no change that a second run must not make; what is changed for it is one.
func TestVMPuppetManifest(t *testing.T) {
	peer.Alone(t, "puppet")
	facts := map[string]string{"herd_rack": "r2 \"&<'\u00e9"}
	var h onThisHost
	outcome, err := h.do(t, t.Context(), &op.Puppet{Manifest: "notify { \"rack ${facts['herd_rack']}\": }", Facts: facts})
	if err != nil || outcome.Report.Changed != 1 || outcome.Report.Changing() != 0 || !strings.Contains(h.said(), "Notice: rack "+facts["herd_rack"]) || outcome.Certificate != "" {
		t.Errorf("%v %+v: %s", err, outcome, h.said())
	}
	_, err = h.do(t, t.Context(), &op.Puppet{Manifest: "notify { 'a': } ~> exec { '/bin/true': refreshonly => true }"})
	if err == nil || !strings.Contains(err.Error(), "a second run changed 1 resources again: Exec[/bin/true]") {
		t.Error(err)
	}
}

// A run whose resource could not be made into others ends with 0, and has failed.
func TestVMPuppetFailsWithoutAStatus(t *testing.T) {
	peer.Alone(t, "puppet")
	var h onThisHost
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		peer.Must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	outcome, err := h.do(t, t.Context(), &op.Puppet{Manifest: fmt.Sprintf("file { '%s': ensure => directory, recurse => true, max_files => 2 }", dir)})
	if err == nil || !strings.Contains(err.Error(), "Puppet ended with status 0: by its report the run has failed: ") || outcome == nil || outcome.Report.Status != "failed" {
		t.Errorf("%v %+v", err, outcome)
	}
}

// The certificate is given up by Puppet's own Ruby, before an agent goes that is not to
// stay.
func TestPuppetIsRemovedLast(t *testing.T) {
	root, err := guest.OpenRoot(t.TempDir())
	peer.Must(t, err)
	defer root.Close()
	var h onThisHost
	no := false
	o := &op.Puppet{Server: "p", Certname: "web", KeepAgent: &no, Repository: " deb  https://apt.example.org bookworm  puppet8", RepositoryKey: "KEY"}
	p := &puppetRun{
		Guest: &guest.Guest{Root: root, Sink: h.sink}, step: o, dir: "/run/puppet", program: "/usr/bin/puppet", installed: true,
		chroot: guest.Chroot{Dir: root.Dir(), Sink: h.sink},
	}
	peer.Must(t, p.write(p.dir.Certificate("web"), nil, 0o600))
	peer.Must(t, p.write("/usr/bin/apt-get", nil, 0o755))
	peer.Must(t, p.addRepository())
	if text, err := root.ReadFile(repositoryList); err != nil || string(text) != "deb [signed-by=/etc/apt/keyrings/puppet-agent.asc] https://apt.example.org bookworm puppet8\n" {
		t.Errorf("%q %v", text, err)
	}
	peer.Must(t, root.RemoveAll("/usr/bin/apt-get"))
	if err := p.removeAgent(t.Context()); err == nil || !strings.Contains(err.Error(), "remove Puppet: ") {
		t.Errorf("there is nothing that could remove it: %v", err)
	}
	p.giveUp(t.Context())
	if want := []string{"give the certificate up", "remove Puppet"}; !slices.Equal(h.phases, want) || p.outcome.Certificate != puppet.CertificateLeft {
		t.Errorf("%q, %+v", h.phases, p.outcome)
	}
}

// What is made for a run goes with every directory that was made for it.
func TestPuppetLeavesNoDirectories(t *testing.T) {
	dir := t.TempDir()
	root, err := guest.OpenRoot(dir)
	peer.Must(t, err)
	defer root.Close()
	for _, kept := range []string{"/etc/puppet", "/etc/puppetlabs/code/environments", "/etc/puppetlabs/puppet", "/opt/puppetlabs/puppet", "/var/cache"} {
		peer.Must(t, root.MkdirAll(kept, 0o755))
	}
	names := func() (list []string) {
		peer.Must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			list = append(list, path)
			return err
		}))
		return list
	}
	before := names()
	p := &puppetRun{Guest: &guest.Guest{Root: root}}
	p.forgetMade()
	p.forgetFile(puppet.FactsFile)
	for _, made := range puppet.CreatedDirs {
		peer.Must(t, root.MkdirAll(made, 0o755))
	}
	peer.Must(t, p.write(puppet.FactsFile, []byte("{}"), 0o600))
	peer.Must(t, p.leave())
	if after := names(); !slices.Equal(before, after) {
		t.Errorf("before %v, afterwards %v", before, after)
	}
}
