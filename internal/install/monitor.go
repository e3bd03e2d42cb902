package install

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"herdbook/internal/event"
)

// Monitor understands what an installer says while it runs. It knows no clock:
// each call tells the time. Its methods are not for several goroutines at once.
type Monitor struct {
	reading Reading
	pace    int

	phase     int
	entered   time.Time
	heard     time.Time // the last word on any stream
	stirred   time.Time // the last sign of any work
	percent   int
	console   []string  // the last lines
	prompt    string    // the console's unfinished line
	printed   time.Time // when the console last changed
	done      bool      // the last words were spoken, at doneAt
	doneAt    time.Time
	complaint string // the last line that explains a failure to come
	spent     []Spent
}

// Spent is the time that a phase took.
type Spent struct {
	Phase string
	Time  time.Duration
}

// keptLines is how many lines of the console are kept for a question's text.
const keptLines = 60

// promptRest is how long a prompt must stand before it counts: text that is still
// being printed may look like one.
const promptRest = 5 * time.Second

// ending is how long an installer may take to power off when all is done.
const ending = 5 * time.Minute

// NewMonitor begins to follow an installer. Pace is how many times slower than a
// processor the machine is that runs it, at least 1.
func NewMonitor(r Reading, pace int, now time.Time) *Monitor {
	return &Monitor{reading: r, pace: max(1, pace), entered: now, heard: now, stirred: now, printed: now}
}

// Phase is the name of the present phase.
func (m *Monitor) Phase() string { return m.reading.Phases[m.phase].Name }

// Percent is how far the present phase is; 0 if that is not known.
func (m *Monitor) Percent() int { return m.percent }

// Done tells whether the installer has spoken its last words.
func (m *Monitor) Done() bool { return m.done }

// Spent is what the phases took that are over, in their order; a name may come
// twice. End adds the last one.
func (m *Monitor) Spent() []Spent { return m.spent }

// Failure is why an installation failed.
type Failure struct {
	Phase string
	Why   string   // what is wrong
	Text  []string // the question or the error as the installer put it
	Hang  bool     // the machine still runs, and would for ever
}

// Error implements error.
func (f *Failure) Error() string {
	text := fmt.Sprintf("in the phase %q %s", f.Phase, f.Why)
	if len(f.Text) > 0 {
		text += ":\n    " + strings.Join(f.Text, "\n    ")
	}
	return text
}

func (m *Monitor) fail(why string, text ...string) *Failure {
	f := &Failure{Phase: m.Phase(), Why: why, Text: text}
	m.Explain(f)
	return f
}

// Explain adds to a failure the installer's last complaint. What is said of a failure
// in the log may come later than the failure itself on the console.
func (m *Monitor) Explain(f *Failure) {
	said := "before that it said: " + m.complaint
	if m.complaint != "" && !slices.Contains(f.Text, said) {
		f.Text = append(f.Text, said)
	}
}

// Line takes a whole line of the console or of the log. The failure is what the
// installer itself says it to be.
func (m *Monitor) Line(stream, text string, now time.Time) *Failure {
	m.heard, m.stirred = now, now
	if stream == event.Console {
		m.console = append(m.console, text)
		m.console = m.console[max(0, len(m.console)-keptLines):]
		m.prompt, m.printed = "", now
	}
	m.advance(text, now)
	m.measure(text)
	if m.reading.Done.MatchString(text) && !m.done {
		m.done, m.doneAt = true, now
	}
	if matches(m.reading.Complaints, text) {
		m.complaint = strings.TrimSpace(text)
	}
	if matches(m.reading.Errors, text) && !m.done {
		return m.fail("the installer reports an error", strings.TrimSpace(text))
	}
	return nil
}

func matches(patterns []*regexp.Regexp, text string) bool {
	return slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(text) })
}

// advance enters the phase that a line begins. No phase comes twice.
func (m *Monitor) advance(text string, now time.Time) {
	for i := len(m.reading.Phases) - 1; i > m.phase; i-- {
		if m.reading.Phases[i].Begins.MatchString(text) {
			m.leave(now)
			m.phase, m.entered, m.percent = i, now, 0
			return
		}
	}
}

// leave notes what the present phase took.
func (m *Monitor) leave(now time.Time) {
	m.spent = append(m.spent, Spent{m.Phase(), now.Sub(m.entered)})
}

// measure reads how far the phase is.
func (m *Monitor) measure(text string) {
	if m.reading.Progress == nil {
		return
	}
	match := m.reading.Progress.FindStringSubmatch(text)
	if match == nil {
		return
	}
	match = slices.DeleteFunc(match[1:], func(group string) bool { return group == "" }) // of the other forms
	n, err := strconv.ParseFloat(match[0], 64)
	if len(match) > 1 && err == nil {
		var of float64
		of, err = strconv.ParseFloat(match[1], 64)
		n = n * 100 / max(of, 1)
	}
	if err == nil && n <= 100 {
		m.percent = int(n)
	}
}

// Watch is called again and again, with the console's unfinished line and
// whether the machine did anything since the last call. The failure is that nothing
// good can come any more.
func (m *Monitor) Watch(unfinished string, busy bool, now time.Time) *Failure {
	if busy {
		m.stirred = now
	}
	if unfinished != m.prompt {
		before := m.percent
		m.measure(unfinished)
		// Something that turns while it waits says nothing.
		if m.percent != before || words(unfinished) != words(m.prompt) {
			m.heard, m.stirred = now, now
		}
		m.prompt, m.printed = unfinished, now
	}
	phase := m.reading.Phases[m.phase]
	limit, silence := phase.Limit*time.Duration(m.pace), phase.Silence*time.Duration(m.pace)
	f := m.question(now)
	switch {
	case f != nil:
	case m.done && (now.Sub(m.doneAt) > ending*time.Duration(m.pace) || now.Sub(m.stirred) > m.reading.Idle):
		f = m.fail(fmt.Sprintf("the installation is complete, but the machine has not powered off for %v; let the answers say that it shall", now.Sub(m.doneAt)), m.lastWords()...)
	case m.done:
	case now.Sub(m.stirred) > m.reading.Idle && !phase.Fetches:
		f = m.fail(fmt.Sprintf("the machine has done nothing at all for %v, as if it waited for a person", m.reading.Idle), m.lastWords()...)
	case now.Sub(m.heard) > silence:
		f = m.fail(fmt.Sprintf("the installer has said nothing for %v", silence), m.lastWords()...)
	case now.Sub(m.entered) > limit:
		f = m.fail(fmt.Sprintf("the phase has not ended after %v", limit), m.lastWords()...)
	}
	if f != nil {
		f.Hang = true
	}
	return f
}

// words is a text without what turns, counts or fills.
func words(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || strings.ContainsRune(`|/-\*.%=#`, r) || r == ' ' {
			return -1
		}
		return r
	}, text)
}

// question recognises a prompt that stands and waits, and finds its text.
func (m *Monitor) question(now time.Time) *Failure {
	last := m.prompt
	if last == "" && len(m.console) > 0 { // some end their prompts like any line
		last = m.console[len(m.console)-1]
	}
	if now.Sub(m.printed) < promptRest || !matches(m.reading.Questions, last) {
		return nil
	}
	return m.fail("the installer asks a question and waits for a person", m.questionText()...)
}

// questionText is what stands between the last title and the prompt.
func (m *Monitor) questionText() []string {
	from := len(m.console)
	if m.reading.Titles != nil {
		for i := len(m.console) - 1; i > 0; i-- {
			if m.reading.Titles.MatchString(m.console[i]) {
				from = i - 1
				break
			}
		}
	}
	if from == len(m.console) {
		from = max(0, len(m.console)-5)
	}
	var text []string
	for _, line := range append(m.console[from:len(m.console):len(m.console)], m.prompt) {
		line = strings.TrimSpace(line)
		if line != "" && (m.reading.Titles == nil || !m.reading.Titles.MatchString(line)) {
			text = append(text, line)
		}
	}
	return text
}

// farewell is what the kernel itself says last, however the installer ended.
var farewell = regexp.MustCompile(`^(?:\[ *\d+\.\d+\] )?reboot: `)

// lastWords is the last line of the console that says anything.
func (m *Monitor) lastWords() []string {
	for _, line := range append([]string{m.prompt}, reversed(m.console)...) {
		if line = strings.TrimSpace(line); line != "" && !farewell.MatchString(line) {
			return []string{fmt.Sprintf("its last words were %q", line)}
		}
	}
	return nil
}

func reversed(lines []string) []string {
	var list []string
	for i := len(lines) - 1; i >= 0; i-- {
		list = append(list, lines[i])
	}
	return list
}

// End judges the machine's end: it powered off, it restarted, or it ended in some
// other way, which how tells. The installation is successful only if the
// installer had said so before.
func (m *Monitor) End(poweredOff, restarted bool, how string, now time.Time) *Failure {
	m.leave(now)
	switch {
	case m.done && (poweredOff || restarted):
		return nil
	case m.done:
		return m.fail("the installation was complete, but " + how)
	case poweredOff:
		return m.fail("the machine powered off before the installation was complete", m.lastWords()...)
	case restarted:
		return m.fail("the machine restarted before the installation was complete", m.lastWords()...)
	}
	return m.fail(how)
}
