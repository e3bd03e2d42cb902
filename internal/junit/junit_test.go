package junit

import (
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"herdbook/internal/event"
	"herdbook/internal/peer"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// heard is a build with everything that can become of a test.
func heard() *Report {
	r := &Report{}
	say := func(image, step string, e event.Event) {
		e.Image, e.Step = image, step
		r.Sink(e)
	}
	const boots, goss, clones, port = `test "boots" by BIOS`, `test "goss" "goss.yaml" by BIOS`, `test "clones" by UEFI`, `test "port" "tcp/80" by BIOS`
	say("base", `bootstrap "mmdebstrap"`, event.Event{Kind: event.StepQueued})
	for _, step := range []string{boots, goss, clones, port} {
		say("web", step, event.Event{Kind: event.StepQueued})
	}
	say("late", boots, event.Event{Kind: event.StepQueued})
	say("base", `bootstrap "mmdebstrap"`, event.Event{Kind: event.StepDone})
	say("web", boots, event.Event{Kind: event.Log, Text: "no result"})
	say("web", boots, event.Event{Kind: event.StepDone, Verdict: &event.Verdict{Time: epoch, Elapsed: 30 * time.Second, Cases: []event.Case{
		{Name: "boot", Outcome: event.Passed},
		{Name: "uptime", Outcome: event.Passed, Output: "up <1> & \"well\" ]]> \x1b[1mx\x00\r\n\xff￾ \U0001f404", Elapsed: 1500 * time.Millisecond},
	}}})
	say("web", goss, event.Event{Kind: event.StepFailed, Text: "…", Verdict: &event.Verdict{Time: epoch.Add(time.Minute), Elapsed: 4 * time.Second, Cases: []event.Case{
		{Name: "File: /etc/passwd: exists", Outcome: event.Passed, Elapsed: time.Millisecond},
		{Name: "File: /x: exists", Outcome: event.Failed, Text: "Expected\nfalse\tto be true\x07", Elapsed: time.Millisecond},
		{Name: "Port: tcp:22: listening", Outcome: event.Skipped, Text: "skipped"},
	}}})
	say("web", clones, event.Event{Kind: event.StepFailed, Text: "…", Verdict: &event.Verdict{Time: epoch, Elapsed: time.Second, Hung: true, Text: "it was not done after 15m0s", Log: []string{"booting\x1b[0m", "stuck"}}})
	say("web", port, event.Event{Kind: event.StepCached, Verdict: &event.Verdict{Time: epoch.Add(-time.Hour), Elapsed: 2 * time.Second, Cases: []event.Case{{Outcome: event.Passed}}}})
	say("late", `packages "x"`, event.Event{Kind: event.StepFailed, Text: "no mirror"})
	say("late", boots, event.Event{Kind: event.StepSkipped})
	say("old", boots, event.Event{Kind: event.StepCached, Verdict: &event.Verdict{}}) // of a proof without a record
	say("new", boots, event.Event{Kind: event.StepCached})
	return r
}

func TestReport(t *testing.T) {
	text, err := heard().Format()
	peer.Must(t, err)
	peer.Golden(t, "report.xml", text)
}

// The report is what the schema junit-10.xsd allows, and its sums are those of its cases.
func TestTheReportHasTheStructureOfTheSchema(t *testing.T) {
	text, err := heard().Format()
	peer.Must(t, err)
	follows(t, text)
	empty, err := (&Report{}).Format()
	peer.Must(t, err)
	follows(t, empty)
	if !strings.Contains(string(empty), `tests="0"`) {
		t.Errorf("an empty report: %s", empty)
	}
}

// schema is what stands in which element: its attributes, those that must be there with
// an exclamation mark, and its children.
var schema = map[string]struct{ attributes, children string }{
	"testsuites": {"name time tests failures errors", "testsuite"},
	"testsuite":  {"name! tests! failures! errors! group time skipped timestamp hostname id package file log url", "testsuite properties testcase system-out system-err"},
	"testcase":   {"name! time classname group", "skipped error failure system-out system-err"},
	"failure":    {"type message", ""},
	"error":      {"type message", ""},
	"skipped":    {"type message", ""},
	"system-out": {"", ""},
}

var timeText = regexp.MustCompile(`^[0-9]+\.[0-9]{3}$`)

func follows(t *testing.T, text []byte) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(text)))
	var path []string
	counted := map[string]int{}
	var sums map[string]int
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		peer.Must(t, err)
		switch e := token.(type) {
		case xml.StartElement:
			name := e.Name.Local
			rule, ok := schema[name]
			if !ok || len(path) == 0 && name != "testsuites" || len(path) > 0 && !strings.Contains(" "+schema[path[len(path)-1]].children+" ", " "+name+" ") {
				t.Errorf("%s stands in %v", name, path)
			}
			got := map[string]string{}
			for _, a := range e.Attr {
				got[a.Name.Local] = a.Value
				if !strings.Contains(" "+strings.ReplaceAll(rule.attributes, "!", "")+" ", " "+a.Name.Local+" ") {
					t.Errorf("%s has the attribute %s", name, a.Name.Local)
				}
				if a.Name.Local == "time" && !timeText.MatchString(a.Value) {
					t.Errorf("%s has the time %s", name, a.Value)
				}
			}
			for field := range strings.FieldsSeq(rule.attributes) {
				if needed, ok := strings.CutSuffix(field, "!"); ok && got[needed] == "" {
					t.Errorf("%s has no %s", name, needed)
				}
			}
			if name == "testsuite" {
				sums, counted = map[string]int{}, map[string]int{}
				for _, field := range []string{"tests", "failures", "errors", "skipped"} {
					n, err := strconv.Atoi(got[field])
					peer.Must(t, err)
					sums[field] = n
				}
			}
			counted[name]++
			path = append(path, name)
		case xml.EndElement:
			path = path[:len(path)-1]
			if e.Name.Local == "testsuite" && (sums["tests"] != counted["testcase"] || sums["failures"] != counted["failure"] || sums["errors"] != counted["error"] || sums["skipped"] != counted["skipped"]) {
				t.Errorf("%v is said, %v counted", sums, counted)
			}
		}
	}
}

func FuzzFormat(f *testing.F) {
	f.Add("image", `test "command" "x" by BIOS`, "a\x00b", "]]>\x1b")
	f.Add("\xff", "￿", "&", "<")
	f.Fuzz(func(t *testing.T, image, step, text, output string) {
		r := &Report{}
		for _, kind := range []event.Kind{event.StepFailed, event.StepSkipped} {
			r.Sink(event.Event{Kind: kind, Image: image, Step: step, Text: text})
		}
		r.Sink(event.Event{Kind: event.StepFailed, Image: image, Step: "test " + step, Verdict: &event.Verdict{Text: text, Cases: []event.Case{{Name: step, Outcome: event.Failed, Text: text, Output: output}}}})
		got, err := r.Format()
		peer.Must(t, err)
		if !utf8.Valid(got) {
			t.Errorf("no text: %q", got)
		}
		var read suites
		if err := xml.Unmarshal(got, &read); err != nil {
			t.Fatalf("%v: %q", err, got)
		}
		last := read.Suites[0].Cases
		if c := last[len(last)-2]; strings.ReplaceAll(c.Failure.Text, "\r", "") != valid(text) || c.Output != valid(output) {
			t.Errorf("%q and %q became %q and %q", text, output, c.Failure.Text, c.Output)
		}
	})
}
