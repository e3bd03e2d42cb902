package ansible

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Report is what a step's runs told, for the layer's record.
type Report struct {
	Runs []Run `json:"runs"`
}

// Run is one run of a playbook.
type Run struct {
	Version string  `json:"version"` // of Ansible
	Seconds float64 `json:"seconds"` // from start to end, as its caller measured
	Counts
	Plays   []Play `json:"plays,omitempty"`
	Changed []Task `json:"changed_tasks,omitempty"`

	// Failed are the tasks that ended the run, or whose failure was passed over; for the
	// error, not for a record.
	Failed []Failure `json:"-"`
	// Played tells whether any play was for the host.
	Played bool `json:"-"`
	// Whole tells whether the run came to its end.
	Whole bool `json:"-"`
}

// Counts are numbers of tasks, as in a playbook's recap.
type Counts struct {
	OK          int `json:"ok"` // those that changed something among them
	Changed     int `json:"changed"`
	Failed      int `json:"failed"`
	Unreachable int `json:"unreachable"`
	Skipped     int `json:"skipped"`
	Rescued     int `json:"rescued"`
	Ignored     int `json:"ignored"`
}

// Play is one play.
type Play struct {
	Name    string  `json:"name"`
	OK      int     `json:"ok"` // those that changed something not among them
	Changed int     `json:"changed"`
	Failed  int     `json:"failed"` // those that were ignored or rescued among them
	Skipped int     `json:"skipped"`
	Seconds float64 `json:"seconds"` // of its tasks
}

// Task is one task on one host.
type Task struct {
	Name    string  `json:"name"`
	Action  string  `json:"action"`
	Path    string  `json:"path"` // file:line
	Seconds float64 `json:"seconds"`
}

// Failure is a task that failed.
type Failure struct {
	Task
	Host        string
	Unreachable bool
	Ignored     bool
	Message     string // of several lines
}

// The bounds of a report. What a guest's modules say stands in it.
const (
	maxReport  = 512 << 20 // bytes
	maxLine    = 1 << 20   // bytes
	maxText    = 8 << 10   // bytes of a message
	maxName    = 512       // bytes of a name
	maxPlays   = 1000
	maxChanged = 1000
	maxFailed  = 50
	maxCount   = 1 << 30
)

// line is one line of a report, as callback.py writes it.
type line struct {
	Event   string                    `json:"event"`
	Version string                    `json:"version"`
	Name    string                    `json:"name"`
	Status  string                    `json:"status"`
	Host    string                    `json:"host"`
	Task    string                    `json:"task"`
	Action  string                    `json:"action"`
	Path    string                    `json:"path"`
	Ignored bool                      `json:"ignored"`
	Seconds float64                   `json:"seconds"`
	Hosts   map[string]map[string]int `json:"hosts"`
	messages
}

type messages struct {
	Msg          string `json:"msg"`
	Stderr       string `json:"stderr"`
	Stdout       string `json:"stdout"`
	ModuleStderr string `json:"module_stderr"`
	ModuleStdout string `json:"module_stdout"`
	Exception    string `json:"exception"`
	Censored     string `json:"censored"`
}

// Parse reads the report of a run on a host. A run that was cut off has a report that is
// not Whole.
func Parse(r io.Reader, host string) (Run, error) {
	p := parser{host: host}
	scanner := bufio.NewScanner(io.LimitReader(r, maxReport))
	scanner.Buffer(nil, maxLine)
	for n := 1; scanner.Scan(); n++ {
		var l line
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			if p.run.Whole {
				return p.run, fmt.Errorf("read the report of the playbook's run: line %d: %w", n, err)
			}
			break // the last one was cut off
		}
		if err := p.take(l); err != nil {
			return p.run, fmt.Errorf("read the report of the playbook's run: line %d: %w", n, err)
		}
	}
	if err := scanner.Err(); err != nil {
		return p.run, fmt.Errorf("read the report of the playbook's run: %w", err)
	}
	return p.run, nil
}

type parser struct {
	host string
	run  Run
	item string // the messages of the items that failed in the task under way
}

func (p *parser) take(l line) error {
	switch l.Event {
	case "start":
		p.run.Version = plain(l.Version, maxName)
	case "play":
		if len(p.run.Plays) < maxPlays {
			p.run.Plays = append(p.run.Plays, Play{Name: plain(l.Name, maxName)})
		}
	case "item":
		if p.item += l.message() + "\n"; len(p.item) > maxText {
			p.item = p.item[:maxText]
		}
	case "task":
		p.task(l)
	case "stats":
		p.run.Whole = true
		return p.stats(l.Hosts)
	default:
		return fmt.Errorf("it tells of %.40q, which is nothing known", l.Event)
	}
	return nil
}

func (p *parser) task(l line) {
	if len(p.run.Plays) == 0 {
		p.run.Plays = append(p.run.Plays, Play{})
	}
	play := &p.run.Plays[len(p.run.Plays)-1]
	if !(l.Seconds >= 0) || l.Seconds > maxCount {
		l.Seconds = 0
	}
	play.Seconds += l.Seconds
	task := Task{plain(l.Task, maxName), plain(l.Action, maxName), plain(l.Path, maxName), l.Seconds}
	switch l.Status {
	case "ok":
		play.OK++
	case "changed":
		play.Changed++
		if len(p.run.Changed) < maxChanged {
			p.run.Changed = append(p.run.Changed, task)
		}
	case "skipped":
		play.Skipped++
	case "failed", "unreachable":
		play.Failed++
		message := l.message()
		if p.item != "" {
			message = p.item
		}
		failure := Failure{task, plain(l.Host, maxName), l.Status == "unreachable", l.Ignored, plain(message, maxText)}
		// The last ones end the run.
		p.run.Failed = append(p.run.Failed, failure)
		p.run.Failed = p.run.Failed[max(0, len(p.run.Failed)-maxFailed):]
	}
	p.item = ""
}

// stats adds the counts of all hosts up: a playbook may have a play for the build's host.
func (p *parser) stats(hosts map[string]map[string]int) error {
	for host, counts := range hosts {
		p.run.Played = p.run.Played || host == p.host
		for name, n := range counts {
			if n < 0 || n > maxCount {
				return errors.New("it counts what cannot be")
			}
			to := map[string]*int{
				"ok": &p.run.OK, "changed": &p.run.Counts.Changed, "failures": &p.run.Counts.Failed, "unreachable": &p.run.Unreachable,
				"skipped": &p.run.Skipped, "rescued": &p.run.Rescued, "ignored": &p.run.Ignored,
			}[name]
			if to != nil {
				*to = min(*to+n, maxCount)
			}
		}
	}
	return nil
}

// message is what a module says of its failure, the most telling first.
func (m messages) message() string {
	if m.Censored != "" {
		return m.Censored
	}
	var parts []string
	for _, text := range []string{m.Msg, m.Stderr, m.ModuleStderr, m.Exception} {
		text = strings.TrimSpace(text)
		if text != "" && !strings.Contains(strings.Join(parts, "\n"), text) {
			parts = append(parts, text)
		}
	}
	// What went wrong often stands in the output of programs that have no other.
	if m.Stderr == "" && m.ModuleStderr == "" {
		for _, text := range []string{m.Stdout, m.ModuleStdout} {
			if text = strings.TrimSpace(text); text != "" {
				parts = append(parts, text)
			}
		}
	}
	return strings.Join(parts, "\n")
}

// plain makes a text one that a terminal can be shown, of at most n bytes, its end.
func plain(text string, n int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
			return ' '
		}
		return r
	}, strings.ToValidUTF8(strings.ReplaceAll(text, "\r\n", "\n"), "�"))
	text = strings.TrimSpace(text)
	if len(text) > n {
		text = strings.ToValidUTF8(text[len(text)-n:], "")
	}
	return text
}
