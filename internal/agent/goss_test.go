package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/event"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/wire"
)

// gossIn lays a gossfile down and asks it by the real goss.
func gossIn(t *testing.T, gossfile, vars string, timeout time.Duration) event.Verdict {
	t.Helper()
	check := wire.Check{Kind: "goss", Timeout: timeout, Goss: &op.GossCheck{File: filepath.Join(t.TempDir(), "goss.yaml"), Program: peer.Goss(t)}}
	peer.Must(t, os.WriteFile(check.Goss.File, []byte(gossfile), 0o644))
	if vars != "" {
		check.Goss.Vars = filepath.Join(t.TempDir(), "vars.yaml")
		peer.Must(t, os.WriteFile(check.Goss.Vars, []byte(vars), 0o644))
	}
	return ask(check, wire.Result{}, []string{"hunter2"})
}

func TestGossIsAsked(t *testing.T) {
	v := gossIn(t, `
file:
  /etc/passwd:
    exists: true
  /no/such/file:
    title: the file
    exists: true
command:
  say:
    exec: "echo {{.Vars.word}} hunter2"
    exit-status: 1
    stdout: [moo]
port:
  tcp:22:
    listening: true
    skip: true
`, "word: moo", time.Minute)
	for i := range v.Cases {
		if v.Cases[i].Name == "Command: say: exit-status" && v.Cases[i].Elapsed <= 0 {
			t.Errorf("no time of a command: %+v", v.Cases[i])
		}
		v.Cases[i].Elapsed = 0
	}
	if diff := cmp.Diff([]event.Case{
		{Name: "File: /etc/passwd: exists", Outcome: event.Passed},
		{Name: "the file: File: /no/such/file: exists", Outcome: event.Failed, Text: "File: /no/such/file: exists: Expected false to equal true"},
		{Name: "Command: say: exit-status", Outcome: event.Failed, Text: "Command: say: exit-status: Expected 0 to be numerically eq 1"},
		{Name: "Command: say: stdout", Outcome: event.Passed},
		{Name: "Port: tcp:22: listening", Outcome: event.Skipped, Text: "Port: tcp:22: listening: skipped"},
	}, sorted(v.Cases)); diff != "" || v.Text != "" {
		t.Errorf("%s\n%s", v.Text, diff)
	}
}

// sorted puts the cases of files first, of ports last: goss asks side by side.
func sorted(cases []event.Case) []event.Case {
	var list []event.Case
	for _, part := range []string{"/etc/passwd", "/no/such/file", "exit-status", "stdout", "Port"} {
		for _, c := range cases {
			if strings.Contains(c.Name, part) {
				list = append(list, c)
			}
		}
	}
	return list
}

func TestGossThatCannotAsk(t *testing.T) {
	for name, c := range map[string]struct {
		gossfile, vars, want string
		timeout              time.Duration
	}{
		"no YAML":     {"file: [", "", "goss ended with status 78: read its results", time.Minute},
		"nothing":     {"{}", "", "goss ended with status", time.Minute},
		"wrong vars":  {"file: {}", "word: [", "goss ended with status 78", time.Minute},
		"no variable": {"file:\n  {{.Vars.none.deeper}}:\n    exists: true\n", "x: y", "goss ended with status", time.Minute},
		"hangs":       {"command: {wait: {exec: sleep 1000, exit-status: 0, timeout: 1000000}}", "", "goss: it was not done after 2s", 2 * time.Second},
	} {
		v := gossIn(t, c.gossfile, c.vars, c.timeout)
		if !strings.HasPrefix(v.Text, c.want) || v.Hung != (name == "hangs") {
			t.Errorf("%s: %+v, want %q", name, v, c.want)
		}
	}
	t.Setenv("PATH", t.TempDir())
	v := ask(wire.Check{Kind: "goss", Timeout: time.Minute, Goss: &op.GossCheck{File: "/x", Own: true}}, wire.Result{}, nil)
	if !strings.Contains(v.Text, "the guest has no goss") || !strings.Contains(v.Text, "install it in the image") {
		t.Errorf("no goss: %s", v.Text)
	}
	v = ask(wire.Check{Kind: "goss", Timeout: time.Minute, Goss: &op.GossCheck{File: "/x", Program: "/no/such/goss"}}, wire.Result{}, nil)
	if !strings.Contains(v.Text, "goss was not laid down") {
		t.Errorf("a lost goss: %s", v.Text)
	}
}

// The guest's own goss is taken before the host's, but not before the one of the
// definition.
func TestWhichGoss(t *testing.T) {
	own, laid := t.TempDir(), filepath.Join(t.TempDir(), "program")
	for _, path := range []string{filepath.Join(own, "goss"), laid} {
		peer.Must(t, os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755))
	}
	t.Setenv("PATH", own)
	for _, c := range []struct {
		check op.GossCheck
		want  string
	}{
		{op.GossCheck{Own: true}, filepath.Join(own, "goss")},
		{op.GossCheck{Own: true, Program: laid}, filepath.Join(own, "goss")},
		{op.GossCheck{Program: laid}, laid},
	} {
		if got, err := findGoss(c.check); err != nil || got != c.want {
			t.Errorf("%+v: %s, %v", c.check, got, err)
		}
	}
}

func FuzzReadGoss(f *testing.F) {
	for _, seed := range []string{
		"", "{}", `{"results":[]}`, `{"results":[{"successful":true,"resource-type":"File","resource-id":"/","property":"exists"}]}`,
		`{"results":[{"successful":false,"duration":-1,"summary-line":"a:\n b"}]}`, `{"results":[{"skipped":true,"title":"x","summary-line-compact":"y"}]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cases, err := readGoss(text)
		if (err == nil) != (len(cases) > 0) {
			t.Errorf("%q: %d cases, %v", text, len(cases), err)
		}
		for _, c := range cases {
			if c.Name == "" || c.Elapsed < 0 || (c.Text == "") != (c.Outcome == event.Passed) {
				t.Errorf("%q: %+v", text, c)
			}
		}
	})
}
