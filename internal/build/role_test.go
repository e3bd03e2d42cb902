package build

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"herdbook/internal/definition"
	"herdbook/internal/event"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/plan"
	"herdbook/internal/puppet"
	"herdbook/internal/store"
	"herdbook/internal/wire"
)

// hosts is the host's part of a step, with what it says.
func hosts(t *testing.T, o *op.Puppet) (*role, *[]event.Event) {
	t.Helper()
	var said []event.Event
	b := newBuilder(t, nil)
	b.Environment = []string{"PATH=/usr/bin:/bin", "HOME=/nowhere"}
	step := plan.Step{Step: definition.Step{Kind: "puppet", Operation: o}}
	return (&run{Builder: b}).roleOf(step, func(e event.Event) { said = append(said, e) }), &said
}

func TestTheHostLetsSign(t *testing.T) {
	t.Setenv("TOKEN", "hunter2") // which herdbook has, and its children must not
	file := filepath.Join(t.TempDir(), "asked")
	for _, c := range []struct {
		sign []string
		ask  wire.Ask
		want wire.Answer
	}{
		{nil, wire.Ask{What: wire.AskSign, Text: "web"}, wire.Answer{}},
		{[]string{"/bin/sh", "-c", "env >" + file + "; echo signed"}, wire.Ask{What: wire.AskSign, Text: "web"}, wire.Answer{Text: wire.Done}},
		{[]string{"/bin/sh", "-c", "echo no key >&2; exit 4"}, wire.Ask{What: wire.AskSign, Text: "web"}, wire.Answer{Error: "/bin/sh on the host: exit status 4: no key"}},
		{[]string{"/no/such/program"}, wire.Ask{What: wire.AskSign, Text: "web"}, wire.Answer{Error: "/no/such/program on the host: start /no/such/program: fork/exec /no/such/program: no such file or directory"}},
		// What a guest could ask for beside that.
		{[]string{"/bin/touch", file + ".x"}, wire.Ask{What: wire.AskSign, Text: "admin"}, wire.Answer{Error: "it is not the step's certname"}},
		{[]string{"/bin/touch", file + ".x"}, wire.Ask{What: "shell", Text: "web"}, wire.Answer{Error: `nobody knows what "shell" is`}},
	} {
		p, said := hosts(t, &op.Puppet{Server: "p", Certname: "web", Sign: c.sign})
		if got := p.answer(t.Context(), c.ask); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.ask, got, c.want)
		}
		if c.want.Text == wire.Done && !slices.ContainsFunc(*said, func(e event.Event) bool { return e.Stream == event.Host && e.Text == "signed" }) {
			t.Errorf("what the command said is lost: %+v", *said)
		}
	}
	p, _ := hosts(t, &op.Puppet{Server: "p", Certname: "web", Sign: []string{"/bin/sh", "-c", "sleep 1000 & wait"}})
	p.limit = 50 * time.Millisecond
	if got := p.answer(t.Context(), wire.Ask{What: wire.AskSign, Text: "web"}); got.Error != "/bin/sh on the host: it was not done after 50ms" {
		t.Errorf("a command that hangs: %+v", got)
	}
	text, err := os.ReadFile(file)
	peer.Must(t, err)
	if env := string(text); !strings.Contains(env, "HERDBOOK_CERTNAME=web\n") || !strings.Contains(env, "HOME=/nowhere\n") || strings.Contains(env, "TOKEN") {
		t.Errorf("the command has the environment %s", env)
	}
	if _, err := os.Stat(file + ".x"); err == nil {
		t.Error("a guest had a command run for another name")
	}
}

// Whatever became of the certificate, what may be left of it at the CA is cleaned there
// or told.
func TestTheHostCleansUp(t *testing.T) {
	report := &puppet.Report{Status: "changed", Total: 9, Changed: 3, Seconds: 1.5, Version: "v1"}
	for name, c := range map[string]struct {
		outcome *puppet.Outcome
		cleaned bool   // by the command
		notice  string // "" for none of the CA
	}{
		"the CA has forgotten it": {&puppet.Outcome{Report: report, Certificate: puppet.CertificateCleaned}, false, ""},
		"there was none":          {&puppet.Outcome{Report: report}, false, ""},
		"it is left":              {&puppet.Outcome{Certificate: puppet.CertificateLeft, Left: "it may not"}, true, "it may not"},
		"it was asked for":        {&puppet.Outcome{Certificate: puppet.CertificateAsked}, true, "it has the request"},
		"another machine has it":  {&puppet.Outcome{Certificate: puppet.CertificateTaken}, false, ""},
		"the machine is lost":     {nil, true, "the machine did not say"},
		"it never booted":         {nil, false, ""},
	} {
		for _, way := range []string{"clean", "failing", "none"} {
			marker := filepath.Join(t.TempDir(), "cleaned")
			o := &op.Puppet{Server: "p", Certname: "web"}
			switch way {
			case "clean":
				o.Clean = []string{"/bin/sh", "-c", "echo $HERDBOOK_CERTNAME >" + marker}
			case "failing":
				o.Clean = []string{"/bin/false"}
			}
			p, said := hosts(t, o)
			if p.hear(event.Event{Kind: event.Phase, Text: "install Puppet"}); name != "it never booted" {
				p.hear(event.Event{Kind: event.Phase, Text: puppet.RunPhase})
			}
			work, err := p.run.Store.Begin("")
			peer.Must(t, err)
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(errors.New("interrupted")) // and done all the same
			peer.Must(t, p.after(ctx, c.outcome, work))
			peer.Must(t, work.Discard())
			text, _ := os.ReadFile(marker)
			if ran := string(text) == "web\n"; ran != (c.cleaned && way == "clean") {
				t.Errorf("%s, %s: the command ran: %v", name, way, ran)
			}
			told := ""
			for _, e := range *said {
				if e.Kind == event.Notice && strings.HasPrefix(e.Text, "the CA of p may still have the certificate web: ") {
					told = e.Text
				}
			}
			if want := c.notice != "" && way != "clean"; (told != "") != want || want && !strings.Contains(told, c.notice) {
				t.Errorf("%s, %s: told %q", name, way, told)
			}
		}
	}
}

// The report of a guest is cut to size before it is recorded.
func TestTheReportIsRecorded(t *testing.T) {
	p, said := hosts(t, &op.Puppet{Server: "p", Certname: "web", Challenge: op.Secret{Value: "hunter2", Name: "PASSWORD"}})
	work, err := p.run.Store.Begin("")
	peer.Must(t, err)
	huge := make([]puppet.Resource, 5000)
	for i := range huge {
		huge[i].Name = strings.Repeat("x", 5000)
	}
	peer.Must(t, p.after(t.Context(), &puppet.Outcome{Attempts: 2, Report: &puppet.Report{Status: "changed", Total: 9, Changed: 3, Seconds: 61.4, Version: "v1", Environment: "hunter2", Changes: huge}}, work))
	peer.Must(t, os.WriteFile(work.DiskPath(), []byte("a disk"), 0o644))
	layer, err := work.Commit(store.Layer{Key: store.Key(strings.Repeat("0", 64)), Created: epoch})
	peer.Must(t, err)
	kept, err := p.run.Store.Layer(layer.Digest)
	peer.Must(t, err)
	var outcome puppet.Outcome
	if len(kept.Reports) != 1 || kept.Reports[0].Kind != "puppet" || len(kept.Reports[0].Content) > 100_000 {
		t.Fatalf("%d reports", len(kept.Reports))
	}
	peer.Must(t, json.Unmarshal(kept.Reports[0].Content, &outcome))
	if outcome.Report.Environment != "***" {
		t.Errorf("a guest had a secret recorded: %s", outcome.Report.Environment)
	}
	if outcome.Attempts != 2 || outcome.Report.Changed != 3 || len(outcome.Report.Changes) != 20 {
		t.Errorf("%+v", outcome.Report)
	}
	if want := "Puppet changed: 3 of 9 resources changed, 0 failed, 61 seconds, version v1"; !slices.ContainsFunc(*said, func(e event.Event) bool { return e.Kind == event.Notice && e.Text == want }) {
		t.Errorf("nobody said %q: %+v", want, *said)
	}
}
