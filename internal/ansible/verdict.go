package ansible

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// maxNamed bounds the tasks that an error names.
const maxNamed = 10

// maxSaid bounds the lines of a message that an error repeats.
const maxSaid = 12

// Judge tells whether a run was good: the program ended with status, and said the last
// lines on its standard error. A run that had nothing for the host is none.
func (s Spec) Judge(run Run, status int, said []string) error {
	failures := run.fatal()
	switch {
	case len(failures) > 0:
		return s.failed(failures)
	case status == 0 && run.Whole && !run.Played:
		return fmt.Errorf("no task of %s is for the host %q, which is in %s; its tags are %s: look at groups, host and tags",
			s.Step.Playbook, s.Step.InventoryHost(), s.groups(), cmp.Or(strings.Join(s.Step.Tags, ", "), "all"))
	case status == 0 && run.Whole && run.Counts.Failed == 0 && run.Unreachable == 0:
		return nil
	}
	text := fmt.Sprintf("%s ended with status %d", Program, status)
	if last := ownError(said); last != "" {
		text += ": " + s.Shown(last)
	}
	return errors.New(text)
}

// JudgeSecond tells whether a second run was good: it was, if it changed nothing.
func (s Spec) JudgeSecond(run Run, status int, said []string) error {
	if err := s.Judge(run, status, said); err != nil {
		return fmt.Errorf("the second run: %w", err)
	}
	if run.Counts.Changed == 0 && len(run.Changed) == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "the second run changed something again, so that the playbook is not idempotent:")
	for i, task := range run.Changed {
		if i == maxNamed {
			fmt.Fprintf(&b, "\n  and %d more", len(run.Changed)-i)
			break
		}
		fmt.Fprintf(&b, "\n  %s", s.named(task))
	}
	b.WriteString("\nmend them, with changed_when for what changes nothing, or allow it with idempotent = false")
	return errors.New(b.String())
}

// fatal are the failures that ended the run.
func (r Run) fatal() []Failure {
	if r.Whole && r.Counts.Failed == 0 && r.Unreachable == 0 {
		return nil // all were ignored or rescued
	}
	var list []Failure
	for _, f := range r.Failed {
		if !f.Ignored {
			list = append(list, f)
		}
	}
	return list
}

func (s Spec) failed(failures []Failure) error {
	f := failures[len(failures)-1]
	if f.Unreachable {
		return fmt.Errorf("%s could not be reached for the %s: %s", f.Host, s.named(f.Task), s.excerpt(f.Message))
	}
	text := fmt.Sprintf("the %s failed on %s: %s", s.named(f.Task), f.Host, s.excerpt(f.Message))
	if strings.Contains(f.Message, "ModuleNotFoundError") {
		text += "\nAnsible needs the whole of Python's library: python3-minimal is too little, install python3"
	}
	return errors.New(text)
}

func (s Spec) named(t Task) string {
	text := fmt.Sprintf("task %q", t.Name)
	if t.Path != "" {
		text += " (" + s.Shown(t.Path) + ")"
	}
	return text
}

// excerpt is the end of a message.
func (s Spec) excerpt(message string) string {
	if message == "" {
		return "it says nothing of why"
	}
	lines := strings.Split(s.Shown(message), "\n")
	if len(lines) > maxSaid {
		lines = append([]string{lines[0], "…"}, lines[len(lines)-maxSaid+2:]...)
	}
	return strings.Join(lines, "\n  ")
}

func (s Spec) groups() string {
	if len(s.Step.Groups) == 0 {
		return "no group"
	}
	return "the groups " + strings.Join(s.Step.Groups, ", ")
}

// ownError is what ansible-playbook says when it cannot play at all: from the line that
// names an error on.
func ownError(said []string) string {
	for i, text := range said {
		if strings.HasPrefix(text, "ERROR!") || strings.HasPrefix(text, "[ERROR]") {
			lines := said[i:]
			if len(lines) > maxSaid {
				lines = lines[:maxSaid]
			}
			return plain(strings.Join(lines, "\n  "), maxText)
		}
	}
	return ""
}
