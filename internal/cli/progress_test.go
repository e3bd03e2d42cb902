package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode"

	"herdbook/internal/event"
	"herdbook/internal/peer"
	"herdbook/internal/survey"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// story is a build as events: one image is cached, one fails, one is skipped.
func story(sink event.Sink) {
	web := sink.For("web", `packages "server"`)
	for _, e := range []event.Event{
		{Kind: event.StepQueued, Image: "base", Step: "sysprep"},
		{Kind: event.StepQueued, Image: "web", Step: `packages "server"`},
		{Kind: event.StepQueued, Image: "web", Step: `run "check"`},
		{Kind: event.StepQueued, Image: "web", Step: `target "docker"`},
		{Kind: event.Notice, Text: "software emulation"},
		{Kind: event.StepCached, Image: "base", Step: "sysprep", Layer: strings.Repeat("ab", 32)},
		{Kind: event.ArtefactMade, Image: "base", Step: `publish "local"`, Text: "repo/base-1.qcow2"},
	} {
		sink.Emit(e)
	}
	web.Emit(event.Event{Kind: event.StepStarted})
	web.Emit(event.Event{Kind: event.Phase, Text: "boot"})
	web.Line(event.Console, "Booting from ROM\x1b[2J\x1b]0;title\x07")
	web.Line(event.Console, "..")
	web.Emit(event.Event{Kind: event.Progress, Done: 3 << 20, Total: 12 << 20})
}

func TestPlainLines(t *testing.T) {
	var out bytes.Buffer
	p, err := progressOf("auto", &out, func() time.Time { return epoch }, "xterm")
	peer.Must(t, err)
	story(p.sink)
	p.sink(event.Event{Kind: event.StepFailed, Image: "web", Step: `packages "server"`, Text: "no such package"})
	p.sink(event.Event{Kind: event.StepSkipped, Image: "web", Step: `run "check"`})
	peer.Must(t, p.close())
	peer.Golden(t, "progress/plain", out.Bytes())
}

func TestTree(t *testing.T) {
	var tr tree
	story(func(e event.Event) { tr.take(e, epoch) })
	now := epoch.Add(75 * time.Second)
	var out strings.Builder
	show := func(title string, lines []string) {
		out.WriteString("# " + title + "\n" + strings.Join(lines, "\n") + "\n")
	}
	show("while it works", tr.lines(now, 80, 0))
	show("narrow", tr.lines(now, 24, 0))
	show("low", tr.lines(now, 80, 6))
	tr.take(event.Event{Kind: event.StepDone, Image: "web", Step: `packages "server"`}, now)
	tr.take(event.Event{Kind: event.StepStarted, Image: "web", Step: `run "check"`}, now)
	tr.take(event.Event{Kind: event.StepFailed, Image: "web", Step: `run "check"`, Text: "status 1"}, now.Add(time.Second))
	tr.take(event.Event{Kind: event.StepSkipped, Image: "web", Step: `target "docker"`}, now)
	show("at the end", tr.lines(now, 80, 0))
	peer.Golden(t, "progress/tree", []byte(out.String()))
}

func TestJSONLines(t *testing.T) {
	var out bytes.Buffer
	p, err := progressOf("json", &out, func() time.Time { return epoch }, "")
	peer.Must(t, err)
	story(p.sink)
	peer.Must(t, p.close())
	peer.Golden(t, "progress/json", out.Bytes())
}

// What a guest says must not move the cursor of the user's terminal.
func FuzzPrintable(f *testing.F) {
	f.Add("\x1b[2J\x1b]0;title\x07text\r\n\u009b31m")
	f.Fuzz(func(t *testing.T, text string) {
		if i := strings.IndexFunc(printable(text), unicode.IsControl); i >= 0 {
			t.Errorf("%q still has a control character: %q", text, printable(text))
		}
	})
}

func TestSizesAndTimes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 5 << 30: "5.0 GiB", 1<<63 - 1: "8.0 EiB"} {
		if got := survey.Bytes(n); got != want {
			t.Errorf("survey.Bytes(%d) = %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0.0s", 1500 * time.Millisecond: "1.5s", 61 * time.Second: "1m01s", 25 * time.Hour: "1500m00s"} {
		if got := seconds(d); got != want {
			t.Errorf("seconds(%v) = %s, want %s", d, got, want)
		}
	}
}
