package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"herdbook/internal/ansible"
	"herdbook/internal/event"
	"herdbook/internal/op"
	"herdbook/internal/program"
)

// once runs the playbook once, and judges the run.
func (s *show) once(ctx context.Context, spec ansible.Spec, judge func(ansible.Run, int, []string) error) (run ansible.Run, err error) {
	if err := os.RemoveAll(spec.Report()); err != nil {
		return run, fmt.Errorf("run %s: %w", ansible.Program, err)
	}
	start := s.now()
	status, said, err := s.run(ctx, spec)
	if err != nil {
		return run, err
	}
	run, err = readReport(spec)
	if err != nil {
		return run, err
	}
	run.Seconds = s.now().Sub(start).Seconds()
	s.report.Runs = append(s.report.Runs, s.clean(run))
	return run, judge(run, status, said)
}

// readReport reads what the run told. One that came to nothing told nothing.
func readReport(spec ansible.Spec) (run ansible.Run, err error) {
	f, err := os.Open(spec.Report())
	if errors.Is(err, os.ErrNotExist) {
		return run, nil
	}
	if err != nil {
		return run, fmt.Errorf("read the report of the playbook's run: %w", err)
	}
	defer f.Close()
	return ansible.Parse(f, spec.Step.InventoryHost())
}

// clean is a run without secrets, and with the paths that the user knows, for the record.
func (s *show) clean(run ansible.Run) ansible.Run {
	secrets, spec := s.secrets(), s.spec()
	clear := func(text string) string { return op.Redact(spec.Shown(text), secrets) }
	changed := run.Changed
	run.Changed = nil
	for _, t := range changed {
		run.Changed = append(run.Changed, ansible.Task{Name: clear(t.Name), Action: t.Action, Path: clear(t.Path), Seconds: t.Seconds})
	}
	plays := run.Plays
	run.Plays = nil
	for _, p := range plays {
		p.Name = clear(p.Name)
		run.Plays = append(run.Plays, p)
	}
	return run
}

// secrets are the values that must not be seen, also as they stand in JSON.
func (s *show) secrets() []string {
	values := op.Secrets(s.step)
	for _, value := range values {
		var text strings.Builder
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false)
		if err := e.Encode(value); err != nil {
			continue // never of a string
		}
		inner := strings.TrimSuffix(strings.TrimPrefix(text.String(), `"`), "\"\n")
		if inner != value {
			values = append(values, inner)
		}
	}
	return values
}

// run runs ansible-playbook to its end, every line of its output an event. It returns its
// exit status and the last lines of its standard error.
func (s *show) run(ctx context.Context, spec ansible.Spec) (status int, said []string, err error) {
	cmd := exec.Command(s.program, spec.Arguments()...)
	cmd.Dir, cmd.Env = spec.Tree, spec.Environment()
	cmd.WaitDelay = 5 * time.Second // of what it leaves behind
	secrets := s.secrets()
	out := &liner{
		report: func(text string) { s.sink.Line(event.Host, text) },
		clear:  func(text string) string { return op.Redact(spec.Shown(text), secrets) },
	}
	for _, secret := range secrets {
		out.margin = max(out.margin, len(secret))
	}
	errs := &liner{report: out.report, clear: out.clear, margin: out.margin, keep: true}
	cmd.Stdout, cmd.Stderr = out, errs
	process, err := program.Start(cmd)
	if err != nil {
		return 0, nil, err
	}
	select {
	case <-process.Done():
	case <-ctx.Done():
		process.KillAll()
		<-process.Done()
		return 0, nil, context.Cause(ctx)
	}
	out.end()
	errs.end()
	var exit *exec.ExitError
	switch err := process.Err(); {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return 0, errs.last, nil
	case errors.As(err, &exit):
		return exit.ExitCode(), errs.last, nil
	default:
		return 0, nil, fmt.Errorf("run %s: %w", ansible.Program, err)
	}
}

// The bounds of what is made of a program's output: a longer line is cut, and so many of
// the last lines are kept.
const (
	maxSpoken = 64 << 10
	maxKept   = 100
)

// liner cuts output into lines. One that is too long loses its end.
type liner struct {
	report  func(string)
	clear   func(string) string // takes out what must not be seen
	keep    bool
	margin  int // bytes of the longest value that must not be seen
	partial []byte
	last    []string
}

// Write implements io.Writer.
func (l *liner) Write(p []byte) (int, error) {
	for rest := p; ; {
		line, more, whole := bytes.Cut(rest, []byte("\n"))
		l.partial = append(l.partial, line[:min(len(line), max(0, maxSpoken-len(l.partial)))]...)
		if !whole {
			return len(p), nil
		}
		l.end()
		rest = more
	}
}

// end reports the line that is under way.
func (l *liner) end() {
	text := l.clear(strings.TrimRight(strings.ToValidUTF8(string(l.partial), "�"), "\r "))
	if len(l.partial) == maxSpoken {
		// The end may be the beginning of what must not be seen.
		text = strings.ToValidUTF8(text[:max(0, len(text)-l.margin)], "") + "…"
	}
	l.partial = l.partial[:0]
	if text == "" {
		return
	}
	if l.keep {
		l.last = append(l.last, text)
		l.last = l.last[max(0, len(l.last)-maxKept):]
	}
	l.report(text)
}
