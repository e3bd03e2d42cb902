package puppet

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

const dir = Dir("/run/herdbook/puppet")

func TestArguments(t *testing.T) {
	var b strings.Builder
	for _, o := range []*op.Puppet{
		{Server: "puppet.example.org", Certname: "build-web.example.org"},
		{
			Server: "puppet.example.org", Port: 8141, CAServer: "ca.example.org", Environment: "staging", Certname: "build-web.example.org", Timeout: "2m",
			Options: map[string]string{"strict_variables": "true", "show_diff": "false", "http_proxy_host": "proxy"}, Tags: []string{"role::web", "base"},
			TrustedFacts: map[string]string{"pp_role": "web"},
		},
		{Server: "p", Certname: "c", Challenge: op.Secret{Value: "hunter2", Name: "CHALLENGE"}},
		{Manifest: "include web\n"},
		{Manifest: "include web\n", Certname: "c", Environment: "e", Facts: map[string]string{"rack": "r1"}},
	} {
		b.WriteString(strings.Join(Arguments(o, dir), "\n  ") + "\n")
		files, err := Files(o, dir)
		peer.Must(t, err)
		for _, f := range files {
			b.WriteString(f.Path + ": " + strings.TrimSpace(string(f.Content)) + "\n")
		}
		facts, err := Facts(o)
		peer.Must(t, err)
		b.WriteString("facts: " + string(facts) + "\n\n")
		if strings.Contains(strings.Join(Arguments(o, dir), " "), "hunter2") {
			t.Error("a secret is in the command line")
		}
	}
	peer.Golden(t, "arguments", []byte(b.String()))
}

// What Puppet 7.23 said in a run of each kind, and what it ended with.
func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		want   Verdict
	}{
		"restless":    {2, Verdict{Changed: true}},
		"failing":     {6, Verdict{Changed: true, Problem: "resources failed"}},
		"interrupted": {6, Verdict{Changed: true, Transient: true, Problem: "resources failed for which the server was asked in vain"}},
		"broken": {1, Verdict{Problem: "the catalogue does not compile: Evaluation Error: Error while evaluating a Function Call, Could not find class ::herd::that_nobody_wrote for " +
			"a.example.org (file: /etc/puppet/code/environments/broken/manifests/site.pp, line: 3, column: 3) on node a.example.org"}},
		"mismatch":    {1, Verdict{Taken: true, Problem: "the CA has signed this certname already, with another key", Cure: notRun[0].cure}},
		"unsigned":    {1, Verdict{Transient: true, Waiting: true, Problem: "the certificate request waits to be signed", Cure: notRun[2].cure}},
		"unreachable": {1, Verdict{Transient: true, Problem: "the server cannot be reached", Cure: notRun[len(notRun)-1].cure}},
		"badhost":     {1, Verdict{Transient: true, Problem: "the server cannot be reached", Cure: notRun[len(notRun)-1].cure}},
		"badopt":      {1, Verdict{Problem: "Puppet does not know the option: --nonsense", Cure: "look at options; true and false belong to settings that are switches only"}},
	} {
		text, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
		peer.Must(t, err)
		if diff := cmp.Diff(c.want, judge(string(text), c.status)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func judge(text string, status int) Verdict {
	var l Log
	for line := range strings.Lines(text) {
		l.Line(line)
	}
	return l.Judge(status, nil)
}

// What Puppet 7.23 said and ended with whose resource could not be made into others.
func TestJudgeByReport(t *testing.T) {
	var l Log
	const said = "/Stage[main]/Main/File[/srv]: Failed to generate additional resources using 'eval_generate': The directory '/srv' contains 4 entries"
	l.Line("Error: " + said)
	l.Line("Notice: Applied catalog in 0.15 seconds")
	if v := l.Judge(0, &Report{Status: "failed"}); v.Problem != "by its report the run has failed: "+said || v.Transient || v.Changed {
		t.Errorf("%+v", v)
	}
	if v := l.Judge(2, &Report{Status: "changed"}); v.Problem != "" || !v.Changed {
		t.Errorf("%+v", v)
	}
}

// Words of other versions, and what no server could be made to say.
func TestJudgeWords(t *testing.T) {
	for _, c := range []struct {
		text      string
		status    int
		transient bool
		problem   string
	}{
		{"", 0, false, ""},
		{"", 1, false, "Puppet did not run"},
		{"Error: a\nNotice: b\nError: c\n", 1, false, "Puppet did not run: c"},
		{"", 4, false, "resources failed"},
		{"", 137, false, "Puppet was killed by signal 9"},
		{"", 127, false, "Puppet ended with status 127"},
		{"Exiting; no certificate found and waitforcert is disabled", 1, true, "the certificate request waits to be signed"},
		{"Error: Could not request certificate: The certificate retrieved from the master does not match the agent's private key. Did you forget to run as root?", 1, false, "the CA has signed this certname already, with another key"},
		{"Error: Could not retrieve catalog from remote server: Error 503 on SERVER: Attempt to borrow a JRubyInstance from the pool timed out", 1, true, "the server is not ready"},
		{"Error: Could not retrieve catalog from remote server: Error 400 on SERVER: Could not find class web", 1, false, "the server refused: Could not find class web"},
		{"Error: Failed to submit the CSR, HTTP response was 502", 1, true, "the server is not ready"},
		{"Error: Could not retrieve catalog from remote server: Error 403 on SERVER: Forbidden request: /puppet/v3/catalog/a", 1, false, "the server forbids it: Forbidden request: /puppet/v3/catalog/a"},
		{"Error: Could not retrieve catalog from remote server: Error 500 on SERVER: Internal Server Error: org.jruby", 1, true, "the server is not ready"},
		{"Error: Server hostname 'a' did not match server certificate; expected one of b", 1, false, "the server's certificate is not accepted"},
		{"Error: SSL_connect returned=1 errno=0 state=error: certificate verify failed (CRL is not yet valid)", 1, false, "the server's certificate is not accepted"},
		{"Error: Evaluation Error: Unknown variable: 'x'. (file: /run/herdbook/puppet/manifest.pp, line: 3)", 1, false, "the manifest does not compile: Evaluation Error: Unknown variable: 'x'. (file: /run/herdbook/puppet/manifest.pp, line: 3)"},
		// The words of a resource's own program mean nothing.
		{"Error: '/usr/bin/curl x' returned 7: Connection refused", 4, false, "resources failed"},
		{"Notice: /Exec[x]/returns: Connection refused", 1, false, "Puppet did not run"},
		{"Error: Could not send report: Request to https://p:8140 failed: Connection refused", 4, false, "resources failed"},
		{"Error: Facter: Connection refused", 1, false, "Puppet did not run"},
	} {
		if v := judge(c.text, c.status); v.Transient != c.transient || v.Problem != c.problem {
			t.Errorf("%d %q: %+v", c.status, c.text, v)
		}
	}
	var l Log
	for range 10 * maxKept {
		l.Line("Error: " + strings.Repeat("x", 2*maxMessage))
	}
	if len(l.errors) != maxKept || len(l.errors[0]) > maxMessage+len("…") {
		t.Error("a log grows without bounds")
	}
}

// The reports of Puppet 7.23 for runs of each kind.
func TestParseReport(t *testing.T) {
	names, err := filepath.Glob("testdata/*.yaml")
	peer.Must(t, err)
	if len(names) < 4 {
		t.Fatalf("only %d reports", len(names))
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		peer.Must(t, err)
		report, err := ParseReport(text)
		peer.Must(t, err)
		got, err := json.MarshalIndent(report, "", " ")
		peer.Must(t, err)
		peer.Golden(t, strings.TrimSuffix(filepath.Base(name), ".yaml")+".json", append(got, '\n'))
	}
}

const oldReport = `--- !ruby/object:Puppet::Transaction::Report
  metrics:
    resources: !ruby/object:Puppet::Util::Metric
      name: resources
      values:
        - - total
          - Total
          - 8
        - - !ruby/sym failed
          - Failed
          - 1
        - - ":changed"
          - Changed
          - 2
  configuration_version: 1732608000
  status: failed
  resource_statuses:
    "File[/x]": !ruby/object:Puppet::Resource::Status
      line: 3
      file: /etc/puppet/manifests/site.pp
      failed: true
      changed:
      evaluation_time: 1.5
      events:
        - !ruby/object:Puppet::Transaction::Event
          status: failure
          message: "it is full"
`

func TestParseReportOfOldVersions(t *testing.T) {
	r, err := ParseReport([]byte(oldReport))
	peer.Must(t, err)
	x := Resource{"File[/x]", "/etc/puppet/manifests/site.pp", 3, 1.5, "it is full"}
	y := x
	y.Message = ""
	want := &Report{Status: "failed", Version: "1732608000", Total: 8, Failed: 1, Changed: 2, Failures: []Resource{x}, Slowest: []Resource{y}}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Error(diff)
	}
	if got := r.Failures[0].String(); got != "File[/x] (/etc/puppet/manifests/site.pp:3): it is full" {
		t.Error(got)
	}
}

func TestParseReportRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "text": "a", "list": "- a", "bad YAML": "a: [", "no status": "a: b", "odd status": "status: good", "alias of itself": "a: &a [*a]\nstatus: *a",
	} {
		if r, err := ParseReport([]byte(text)); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if _, err := ParseReport(make([]byte, MaxReport+1)); err == nil {
		t.Error("a report without bounds was read")
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add([]byte(oldReport))
	f.Add([]byte("status: failed\nmetrics: {resources: {values: [[total, T, -1], [failed, F, 1e99]]}}\nresource_statuses: {a: {failed: true, line: x}}"))
	f.Add([]byte("&a status: changed\nlogs: *a\nresource_statuses: {? [a] : b}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseReport(text)
		if err != nil {
			return
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
		for _, n := range []int{r.Total, r.Changed, r.Failed, r.OutOfSync, r.Skipped, r.Restarted} {
			if n < 0 {
				t.Errorf("a negative sum: %+v", r)
			}
		}
		for _, list := range [][]Resource{r.Slowest, r.Failures, r.Changes} {
			if len(list) > maxListed || slices.ContainsFunc(list, func(s Resource) bool {
				return len(s.Name)+len(s.File)+len(s.Message) > maxName+2*maxMessage+9 || s.Seconds < 0
			}) {
				t.Errorf("out of bounds: %+v", list)
			}
		}
	})
}

func TestWhereTheAuthorityIs(t *testing.T) {
	var l Log
	l.Line("Info: Downloaded certificate for web.example.org from https://ca.example.org:8140/puppet-ca/v1")
	if a, ok := l.Authority(); !ok || a != (Authority{"ca.example.org", "8140"}) {
		t.Errorf("%+v %v", a, ok)
	}
	for _, line := range []string{"", "Notice: Downloaded certificate for x from https://[", "Info: Downloaded certificate for x from https:///a"} {
		var l Log
		l.Line(line)
		if a, ok := l.Authority(); ok {
			t.Errorf("%q: %+v", line, a)
		}
	}
	for o, want := range map[*op.Puppet]Authority{
		{Server: "p"}: {"p", "8140"}, {Server: "p", Port: 1, CAServer: "c"}: {"c", "1"},
	} {
		if got := AuthorityOf(o); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

func TestInterpreter(t *testing.T) {
	for _, c := range [][3]string{
		{"/usr/bin/puppet", "#!/usr/bin/ruby", "/usr/bin/ruby"}, {"/usr/bin/puppet", "#! /usr/bin/ruby3.1 -W0", "/usr/bin/ruby3.1"},
		{"/usr/local/bin/puppet", "#!/usr/bin/env ruby", "ruby"}, {"/opt/puppetlabs/bin/puppet", "#!/bin/sh", "/opt/puppetlabs/puppet/bin/ruby"},
		{"/usr/bin/puppet", "", "ruby"}, {"/usr/bin/puppet", "#!", "ruby"},
	} {
		if got := Interpreter(c[0], c[1]); got != c[2] {
			t.Errorf("%s %q: %s, want %s", c[0], c[1], got, c[2])
		}
	}
}

// As systemd 252 tells it: a service that runs, one that is masked, one that is not there.
func TestServices(t *testing.T) {
	running, masked := Services("Id=puppet.service\nLoadState=loaded\nActiveState=active\n\nId=b.service\nLoadState=masked\nActiveState=inactive\n\nId=c.service\nLoadState=not-found\nActiveState=inactive")
	if !slices.Equal(running, []string{"puppet.service"}) || !masked {
		t.Errorf("%q %v", running, masked)
	}
	if running, masked := Services(""); len(running) > 0 || masked {
		t.Errorf("%q %v", running, masked)
	}
}

func TestRewrite(t *testing.T) {
	r := Report{Status: "failed", Failures: []Resource{{Name: "Exec[hunter2]", Message: "hunter2 is wrong"}}}
	o := Outcome{Report: &r, Left: "hunter2"}
	got := o.Rewrite(func(text string) string { return strings.ReplaceAll(text, "hunter2", "***") })
	if text, err := json.Marshal(got); err != nil || strings.Contains(string(text), "hunter2") || !strings.Contains(string(text), "*** is wrong") {
		t.Errorf("%s %v", text, err)
	}
	if o.Left != "hunter2" || r.Failures[0].Name != "Exec[hunter2]" {
		t.Error("the original was changed")
	}
}
