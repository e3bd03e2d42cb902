// Package junit writes the results of tests as JUnit XML, as build servers read it:
// structured by junit-10.xsd of Jenkins' xUnit plugin, a test suite for each image. It is
// one more reader of the events of a build. Where the report is kept is left to others.
package junit

import (
	"encoding/xml"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"herdbook/internal/event"
)

// Report gathers results. Its zero value is ready, and its methods may be called from
// several goroutines.
type Report struct {
	mu    sync.Mutex
	parts []*part
}

// part is a step or a test of an image.
type part struct {
	image, step string
	last        event.Event // that tells how it is
}

// Sink is an event.Sink.
func (r *Report) Sink(e event.Event) {
	switch e.Kind {
	case event.StepQueued, event.StepStarted, event.StepCached, event.StepDone, event.StepFailed, event.StepSkipped:
	default:
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.parts {
		if p.image == e.Image && p.step == e.Step {
			p.last = e
			return
		}
	}
	r.parts = append(r.parts, &part{e.Image, e.Step, e})
}

// The elements of the report.
type (
	suites struct {
		XMLName  xml.Name `xml:"testsuites"`
		Name     string   `xml:"name,attr"`
		Time     string   `xml:"time,attr"`
		Tests    int      `xml:"tests,attr"`
		Failures int      `xml:"failures,attr"`
		Errors   int      `xml:"errors,attr"`
		Suites   []*suite `xml:"testsuite"`
	}
	suite struct {
		Name      string     `xml:"name,attr"`
		Tests     int        `xml:"tests,attr"`
		Failures  int        `xml:"failures,attr"`
		Errors    int        `xml:"errors,attr"`
		Skipped   int        `xml:"skipped,attr"`
		Time      string     `xml:"time,attr"`
		Timestamp string     `xml:"timestamp,attr,omitempty"`
		Cases     []testcase `xml:"testcase"`

		took  time.Duration
		first time.Time
	}
	testcase struct {
		Name      string   `xml:"name,attr"`
		ClassName string   `xml:"classname,attr"` // the image: build servers group by it
		Time      string   `xml:"time,attr"`
		Skipped   *because `xml:"skipped"`
		Error     *because `xml:"error"` // of a step: there was nothing to test
		Failure   *because `xml:"failure"`
		Output    string   `xml:"system-out,omitempty"`
	}
	because struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

// Format writes the report. Images appear in the order in which they were first heard
// of, if they have tests or could not be built.
func (r *Report) Format() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := suites{Name: "herdbook"}
	took := time.Duration(0)
	for _, s := range r.suites() {
		s.Time = seconds(s.took)
		if !s.first.IsZero() {
			s.Timestamp = s.first.UTC().Format("2006-01-02T15:04:05")
		}
		all.Tests, all.Failures, all.Errors = all.Tests+s.Tests, all.Failures+s.Failures, all.Errors+s.Errors
		all.Suites, took = append(all.Suites, s), took+s.took
	}
	all.Time = seconds(took)
	text, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write JUnit XML: %w", err)
	}
	return append([]byte(xml.Header), append(text, '\n')...), nil
}

func (r *Report) suites() []*suite {
	var list []*suite
	byImage := map[string]*suite{}
	for _, p := range r.parts {
		cases := p.cases()
		if len(cases) == 0 {
			continue
		}
		s := byImage[p.image]
		if s == nil {
			s = &suite{Name: valid(p.image)}
			byImage[p.image], list = s, append(list, s)
		}
		for _, c := range cases {
			s.count(c)
		}
		if v := p.last.Verdict; v != nil {
			s.took += v.Elapsed
			if begin := v.Time.Add(-v.Elapsed); !v.Time.IsZero() && (s.first.IsZero() || begin.Before(s.first)) {
				s.first = begin
			}
		}
	}
	return list
}

func (s *suite) count(c testcase) {
	s.Cases = append(s.Cases, c)
	s.Tests++
	switch {
	case c.Failure != nil:
		s.Failures++
	case c.Error != nil:
		s.Errors++
	case c.Skipped != nil:
		s.Skipped++
	}
}

// cases are those of a test, or the one of a step that failed.
func (p *part) cases() []testcase {
	if !strings.HasPrefix(p.step, "test ") {
		if p.last.Kind != event.StepFailed {
			return nil
		}
		c := p.testcase("", 0)
		c.Error = why("step", p.last.Text)
		return []testcase{c}
	}
	v := p.last.Verdict
	if v == nil {
		c := p.testcase("", p.last.Elapsed)
		switch p.last.Kind {
		case event.StepDone, event.StepCached:
		case event.StepFailed:
			c.Failure = why("test", p.last.Text)
		default:
			c.Skipped = why("", "it was not done")
		}
		return []testcase{c}
	}
	list := p.ofVerdict(*v)
	for i := range list {
		if f := list[i].Failure; f != nil && len(v.Log) > 0 {
			f.Text += valid("\n\nits last lines:\n" + strings.Join(v.Log, "\n"))
			break
		}
	}
	return list
}

func (p *part) ofVerdict(v event.Verdict) []testcase {
	var list []testcase
	rest := v.Elapsed
	for _, e := range v.Cases {
		rest -= e.Elapsed
		c := p.testcase(e.Name, e.Elapsed)
		c.Output = valid(e.Output)
		switch e.Outcome {
		case event.Failed:
			c.Failure = why("test", e.Text)
		case event.Skipped:
			c.Skipped = why("", e.Text)
		}
		list = append(list, c)
	}
	rest = max(0, rest)
	if v.Text == "" && len(list) > 0 {
		// What the boot and the way to it took belongs to the first case.
		list[0].Time = seconds(rest + v.Cases[0].Elapsed)
		return list
	}
	own := p.testcase("", rest)
	if v.Text != "" {
		own.Failure = why("test", v.Text)
	}
	return append(list, own)
}

// testcase names one as TEST › CASE.
func (p *part) testcase(name string, took time.Duration) testcase {
	full := p.step
	if name != "" {
		full += " › " + name
	}
	return testcase{Name: valid(full), ClassName: valid(p.image), Time: seconds(took)}
}

// why tells a reason: its first line as the message, which servers show in lists, and
// all of it.
func why(kind, text string) *because {
	first, _, _ := strings.Cut(text, "\n")
	return &because{Message: valid(first), Type: kind, Text: valid(text)}
}

// seconds is a time as the schema has it.
func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }

// valid replaces what cannot stand in XML 1.0 (its production Char), escaped or not.
func valid(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t', r == '\n', r >= 0x20 && r <= 0xd7ff, r >= 0xe000 && r <= 0xfffd, r >= 0x10000 && r <= utf8.MaxRune:
			return r
		case r == '\r':
			return '\n' // a reader would make one of it
		}
		return utf8.RuneError
	}, text)
}
