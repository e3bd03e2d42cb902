package cloudinit

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/op"
)

// As versions 22.4 and 24.1 write them.
const (
	old = `{"v1": {"datasource": "DataSourceNoCloud [seed=/dev/vdb][dsmode=net]",
  "init": {"errors": [], "finished": 1764149000.1, "start": 1764148999.2},
  "init-local": {"errors": [], "finished": 1764148998.1, "start": 1764148997.2},
  "modules-config": {"errors": [], "finished": 1764149002.1, "start": 1764149001.2},
  "modules-final": {"errors": %s, "finished": 1764149004.1, "start": 1764149003.2},
  "stage": null}}`
	recent = `{"v1": {"datasource": "DataSourceNoCloud [seed=/dev/vdb]", "stage": null,
  "init": {"errors": [], "recoverable_errors": {"WARNING": ["Unhandled non-multipart userdata", "again", "again"], "DEPRECATED": ["old\u001b"]}},
  "modules-final": {"errors": [], "recoverable_errors": {}}}}`
	log = "2025-11-26 09:00:00,1 - util.py[DEBUG]: x\n2025-11-26 09:00:00,1 - util.py[WARNING]: Failed loading yaml blob.\n" +
		"2025-11-26 09:00:00,1 - cc.py[ERROR]: no\n"
	failed = `["('scripts_user', RuntimeError('Runparts: 1 failures (runcmd) in 1 attempted commands'))"]`
)

func TestRead(t *testing.T) {
	for _, c := range []struct {
		status, log string
		want        Outcome
	}{
		{fmt.Sprintf(old, "[]"), "", Outcome{Datasource: "DataSourceNoCloud [seed=/dev/vdb][dsmode=net]"}},
		{fmt.Sprintf(old, failed), log, Outcome{
			Datasource: "DataSourceNoCloud [seed=/dev/vdb][dsmode=net]",
			Errors:     []string{"('scripts_user', RuntimeError('Runparts: 1 failures (runcmd) in 1 attempted commands'))"},
			Warnings:   []string{"Failed loading yaml blob.", "no"},
		}},
		{recent, log, Outcome{Datasource: "DataSourceNoCloud [seed=/dev/vdb]", Warnings: []string{"old", "Unhandled non-multipart userdata", "again"}}},
		{`{"v1": {"datasource": null}}`, "", Outcome{}},
		{`{}`, "", Outcome{}},
	} {
		got, err := Read([]byte(c.status), []byte(c.log))
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	}
	for _, bad := range []string{"", "[]", "{", `{"v1": []}`, strings.Repeat(" ", maxStatus+1)} {
		if o, err := Read([]byte(bad), nil); err == nil {
			t.Errorf("%.20q: %+v", bad, o)
		}
	}
	many, err := Read(fmt.Appendf(nil, old, "[]"), []byte(strings.Repeat("x[WARNING]: "+strings.Repeat("é", maxMessage)+"\n", 3)+strings.Repeat("[ERROR]: \n", 10)))
	if err != nil || len(many.Warnings) != 1 || len(many.Warnings[0]) > maxMessage+len("…") {
		t.Errorf("%d warnings, %v", len(many.Warnings), err)
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		outcome Outcome
		status  int
		allow   bool
		want    string
	}{
		{Outcome{Datasource: "DataSourceNoCloud"}, 0, false, ""},
		{Outcome{Datasource: "DataSourceNoCloud"}, 1, true, "cloud-init status ended with status 1"},
		{Outcome{Datasource: "DataSourceNoCloud"}, 2, false, "cloud-init status ended with status 2"},
		{Outcome{Datasource: "DataSourceNoCloud", Errors: []string{"a", "b"}, Warnings: []string{"c"}}, 1, true, "cloud-init failed:\n  a\n  b\n  c"},
		{Outcome{Datasource: "DataSourceNoCloud", Warnings: []string{"c"}}, 2, false, "cloud-init warns (allow_warnings = true lets it):\n  c"},
		{Outcome{Datasource: "DataSourceNoCloud", Warnings: []string{"c"}}, 2, true, ""},
		{Outcome{Datasource: "DataSourceNone"}, 0, true, `took its data from "DataSourceNone"`},
		{Outcome{}, 0, false, `took its data from ""`},
	} {
		err := c.outcome.Check(c.status, c.allow)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestSeed(t *testing.T) {
	got := Seed(&op.CloudInit{UserData: op.Secret{Value: "u"}})
	if diff := cmp.Diff(map[string][]byte{"user-data": []byte("u"), "meta-data": []byte(op.DefaultMetaData)}, got); diff != "" {
		t.Error(diff)
	}
	got = Seed(&op.CloudInit{UserData: op.Secret{Value: "u"}, MetaData: "m", NetworkConfig: "n"})
	if diff := cmp.Diff(map[string][]byte{"user-data": []byte("u"), "meta-data": []byte("m"), "network-config": []byte("n")}, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(fmt.Appendf(nil, old, failed), []byte(log))
	f.Add([]byte(recent), []byte{})
	f.Fuzz(func(t *testing.T, status, log []byte) {
		o, err := Read(status, log)
		if err != nil {
			return
		}
		for _, text := range append(append([]string{o.Datasource}, o.Errors...), o.Warnings...) {
			if len(text) > maxMessage+len("…") || strings.ContainsAny(text, "\x00\x1b\n") {
				t.Errorf("%q", text)
			}
		}
		if len(o.Errors) > maxMessages || len(o.Warnings) > maxMessages {
			t.Errorf("%d and %d messages", len(o.Errors), len(o.Warnings))
		}
	})
}
