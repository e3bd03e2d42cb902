package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/cupwriter"
	"golang.org/x/term"

	"herdbook/internal/event"
)

// progress shows events to somebody: a live tree on a terminal, plain lines
// elsewhere, JSON for programs. Sink may be used until close.
type progress interface {
	sink(event.Event)
	close() error
}

// progressModes are the values of --progress.
var progressModes = []string{"auto", "tree", "plain", "json"}

// newProgress returns the progress that was asked for. JSON goes to standard
// output, since a program reads it; all else is for a person.
func (a *app) newProgress() (progress, error) {
	w := a.Stderr
	if a.progress == "json" {
		w = a.Stdout
	}
	terminal, _ := a.LookupEnv("TERM")
	return progressOf(a.progress, w, a.Now, terminal)
}

// progressOf returns the progress of a mode. Auto is the tree if w is a
// terminal that can move its cursor.
func progressOf(mode string, w io.Writer, now func() time.Time, terminal string) (progress, error) {
	f, isFile := w.(*os.File)
	live := isFile && term.IsTerminal(int(f.Fd())) && terminal != "dumb" && terminal != ""
	switch mode {
	case "auto", "":
		if live {
			return newLiveTree(f, now), nil
		}
		return &plainLines{w: w, start: now(), now: now}, nil
	case "tree":
		if !live {
			return nil, usageError{"--progress=tree needs a terminal; use plain or json"}
		}
		return newLiveTree(f, now), nil
	case "plain":
		return &plainLines{w: w, start: now(), now: now}, nil
	case "json":
		return &jsonLines{w: w, now: now}, nil
	}
	return nil, usageError{fmt.Sprintf("--progress=%s: want one of %v", mode, progressModes)}
}

// jsonLines writes every event as one line of JSON.
type jsonLines struct {
	mu  sync.Mutex
	w   io.Writer
	now func() time.Time
	err error
}

func (j *jsonLines) sink(e event.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = j.now()
	}
	line, err := json.Marshal(e)
	if err == nil {
		_, err = j.w.Write(append(line, '\n'))
	}
	if err != nil && j.err == nil {
		j.err = fmt.Errorf("write progress: %w", err)
	}
}

func (j *jsonLines) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

// plainLines writes what matters, a line each, with the seconds since the start.
type plainLines struct {
	mu    sync.Mutex
	w     io.Writer
	start time.Time
	now   func() time.Time
	err   error
}

func (p *plainLines) sink(e event.Event) {
	text, ok := plainText(e)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	where := ""
	if e.Image != "" {
		where = e.Image
		if e.Step != "" {
			where += " › " + e.Step
		}
		where += ": "
	}
	if _, err := fmt.Fprintf(p.w, "%6.1fs  %s%s\n", p.now().Sub(p.start).Seconds(), where, visible(text)); err != nil && p.err == nil {
		p.err = fmt.Errorf("write progress: %w", err)
	}
}

// plainText is what a line says of an event; false if it says nothing of it.
func plainText(e event.Event) (string, bool) {
	switch e.Kind {
	case event.StepStarted:
		return "started", true
	case event.StepCached:
		return "cached" + layerSuffix(e.Layer), true
	case event.StepDone:
		return fmt.Sprintf("done in %s%s", seconds(e.Elapsed), layerSuffix(e.Layer)), true
	case event.StepFailed:
		return "FAILED: " + e.Text, true
	case event.StepSkipped:
		return "not done", true
	case event.Phase:
		return e.Text, true
	case event.PhaseDone:
		return fmt.Sprintf("%s took %s", e.Text, seconds(e.Elapsed)), true
	case event.Notice:
		return "note: " + e.Text, true
	case event.ArtefactMade:
		return "→ " + e.Text, true
	case event.Log:
		return "| " + printable(e.Text), true
	}
	return "", false
}

func (p *plainLines) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// liveTree redraws a tree at the end of the terminal, ten times a second at
// most, and leaves its last state there.
type liveTree struct {
	mu   sync.Mutex
	tree tree
	out  *cupwriter.Writer
	now  func() time.Time
	stop chan struct{}
	done chan struct{}
	err  error
}

func newLiveTree(f *os.File, now func() time.Time) *liveTree {
	l := &liveTree{out: cupwriter.New(f, true), now: now, stop: make(chan struct{}), done: make(chan struct{})}
	go l.run()
	return l
}

func (l *liveTree) run() {
	defer close(l.done)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.draw(false)
		case <-l.stop:
			l.draw(true)
			return
		}
	}
}

func (l *liveTree) sink(e event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tree.take(e, l.now())
}

func (l *liveTree) draw(last bool) {
	width, height, err := l.out.GetTermSize()
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	if last {
		height = 0 // all of it: nothing will be drawn over it
	}
	l.mu.Lock()
	lines := l.tree.lines(l.now(), width, height-1)
	l.mu.Unlock()
	for _, line := range lines {
		if _, err := io.WriteString(l.out, line+"\n"); err != nil && l.err == nil {
			l.err = fmt.Errorf("draw progress: %w", err)
		}
	}
	if err := l.out.Flush(len(lines)); err != nil && l.err == nil {
		l.err = fmt.Errorf("draw progress: %w", err)
	}
}

func (l *liveTree) close() error {
	close(l.stop)
	<-l.done
	return l.err
}
