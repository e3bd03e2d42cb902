package cli

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"

	"herdbook/internal/event"
	"herdbook/internal/survey"
)

// tree is the state of a build as the events tell it: images, their steps, and
// what each does now.
type tree struct {
	images  []*treeImage
	notices []string
}

type treeImage struct {
	name  string
	steps []*treeStep
	made  []string // artefacts
}

type treeStep struct {
	name        string
	state       event.Kind
	started     time.Time
	elapsed     time.Duration
	phase, line string
	done, total int64
	percent     int
	failure     string
}

// take brings the tree up to date with one event.
func (t *tree) take(e event.Event, now time.Time) {
	if e.Kind != event.Log {
		e.Text = visible(e.Text)
	}
	if e.Image == "" {
		if e.Kind == event.Notice {
			t.notices = append(t.notices, e.Text)
		}
		return
	}
	image := t.image(e.Image)
	if e.Kind == event.ArtefactMade {
		image.made = append(image.made, e.Text)
	}
	if e.Step == "" {
		return
	}
	s := image.step(e.Step)
	switch e.Kind {
	case event.StepStarted:
		s.state, s.started = e.Kind, now
	case event.StepQueued, event.StepCached, event.StepSkipped:
		s.state = e.Kind
	case event.StepDone, event.StepFailed:
		s.state, s.elapsed, s.failure = e.Kind, now.Sub(s.started), e.Text
	case event.Phase:
		s.phase, s.line, s.done, s.total, s.percent = e.Text, "", 0, 0, 0
	case event.Log:
		if text := printable(e.Text); strings.ContainsFunc(text, unicode.IsLetter) { // no rows of dots
			s.line = text
		}
	case event.Progress:
		s.done, s.total, s.percent = e.Done, e.Total, e.Percent
	}
}

func (t *tree) image(name string) *treeImage {
	for _, i := range t.images {
		if i.name == name {
			return i
		}
	}
	i := &treeImage{name: name}
	t.images = append(t.images, i)
	return i
}

func (i *treeImage) step(name string) *treeStep {
	for _, s := range i.steps {
		if s.name == name {
			return s
		}
	}
	s := &treeStep{name: name, state: event.StepQueued}
	i.steps = append(i.steps, s)
	return s
}

// lines draws the tree in at most height lines of width columns; height ≤ 0 is
// no limit. Where it does not fit, finished images are folded first.
func (t *tree) lines(now time.Time, width, height int) []string {
	for _, fold := range []bool{false, true} {
		lines := t.draw(now, width, fold)
		if height <= 0 || len(lines) <= height {
			return lines
		}
		if fold {
			return lines[len(lines)-height:]
		}
	}
	return nil
}

func (t *tree) draw(now time.Time, width int, fold bool) []string {
	var lines []string
	for _, notice := range t.notices {
		lines = append(lines, fit("note: "+notice, width))
	}
	for _, image := range t.images {
		lines = append(lines, fit(image.name+image.summary(), width))
		if fold && image.finished() {
			continue
		}
		for i, s := range image.steps {
			branch := "├─"
			if i == len(image.steps)-1 && len(image.made) == 0 {
				branch = "└─"
			}
			lines = append(lines, fit(branch+" "+s.text(now), width))
		}
		for i, made := range image.made {
			branch := "├→"
			if i == len(image.made)-1 {
				branch = "└→"
			}
			lines = append(lines, fit(branch+" "+made, width))
		}
	}
	return lines
}

func (i *treeImage) finished() bool {
	for _, s := range i.steps {
		if s.state != event.StepDone && s.state != event.StepCached {
			return false
		}
	}
	return true
}

func (i *treeImage) summary() string {
	cached := 0
	for _, s := range i.steps {
		if s.state == event.StepCached {
			cached++
		}
	}
	if cached == len(i.steps) && cached > 0 {
		return "  (cached)"
	}
	return ""
}

// text is a step on one line: mark, name, time, and what it does now.
func (s *treeStep) text(now time.Time) string {
	switch s.state {
	case event.StepStarted:
		text := fmt.Sprintf("● %s  %s", s.name, seconds(now.Sub(s.started)))
		if s.phase != "" {
			text += "  " + s.phase
		}
		if s.percent > 0 {
			text += fmt.Sprintf(" %d%%", s.percent)
		}
		if s.done > 0 {
			text += "  " + amount(s.done, s.total)
		}
		if s.line != "" {
			text += "  │ " + s.line
		}
		return text
	case event.StepDone:
		return fmt.Sprintf("✓ %s  %s", s.name, seconds(s.elapsed))
	case event.StepCached:
		return fmt.Sprintf("✓ %s  cached", s.name)
	case event.StepFailed:
		return fmt.Sprintf("✗ %s  %s", s.name, seconds(s.elapsed))
	case event.StepSkipped:
		return fmt.Sprintf("· %s  not done", s.name)
	}
	return "· " + s.name
}

// fit cuts text to a number of columns.
func fit(text string, width int) string {
	return runewidth.Truncate(text, width, "…")
}

// seconds writes a duration for people.
func seconds(d time.Duration) string {
	if d >= time.Minute {
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}

// amount writes bytes done and, where known, of how many.
func amount(done, total int64) string {
	if total > 0 {
		return fmt.Sprintf("%s of %s", survey.Bytes(done), survey.Bytes(total))
	}
	return survey.Bytes(done)
}

// printable drops what could move a terminal's cursor or change its colours:
// the text comes from guests.
func printable(text string) string {
	var b strings.Builder
	escape := false
	for _, r := range text {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			// ESC, perhaps [, parameters, and a final letter.
			escape = r == '[' || r == '?' || r == ';' || unicode.IsDigit(r)
		case r == '\t':
			b.WriteByte(' ')
		case unicode.IsPrint(r):
			b.WriteRune(r)
		}
	}
	return strings.TrimSpace(b.String())
}

// visible shows what a terminal would obey, and what turns the direction of writing,
// as what cannot be shown: names and notes come from the repositories of others.
// Lines and tabs stay.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

func layerSuffix(layer string) string {
	if len(layer) < 12 {
		return ""
	}
	return " (layer " + layer[:12] + ")"
}
