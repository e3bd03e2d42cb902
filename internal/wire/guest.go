package wire

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"herdbook/internal/event"
)

// Guest is the agent's end.
type Guest struct {
	mu    sync.Mutex
	w     io.Writer
	r     *bufio.Reader
	stop  chan struct{}
	once  sync.Once
	asked sync.Mutex
}

// Accept says Hello, takes the job and begins to send a heartbeat every beat.
func Accept(rw io.ReadWriter, beat time.Duration) (*Guest, Job, error) {
	g := &Guest{w: rw, r: bufio.NewReaderSize(rw, 64<<10), stop: make(chan struct{})}
	if err := g.send(message{Hello: Protocol}); err != nil {
		return nil, Job{}, err
	}
	job, err := g.take(beat)
	return g, job, err
}

// Again takes another job after the result of one that said Stay. It waits for as long
// as the host takes to give one.
func (g *Guest) Again(beat time.Duration) (*Guest, Job, error) {
	again := &Guest{w: g.w, r: g.r, stop: make(chan struct{})}
	job, err := again.take(beat)
	return again, job, err
}

func (g *Guest) take(beat time.Duration) (Job, error) {
	var job Job
	if err := g.read(&job); err != nil {
		return Job{}, fmt.Errorf("take the job: %w", err)
	}
	go g.beat(beat)
	return job, nil
}

// Ask asks the host for something and waits for its answer.
func (g *Guest) Ask(a Ask) (Answer, error) {
	g.asked.Lock()
	defer g.asked.Unlock()
	if err := g.send(message{Ask: &a}); err != nil {
		return Answer{}, err
	}
	var answer Answer
	if err := g.read(&answer); err != nil {
		return Answer{}, fmt.Errorf("hear what the host says to %q: %w", a.What, err)
	}
	return answer, nil
}

// read reads one line of the host.
func (g *Guest) read(v any) error {
	line, err := readLine(g.r)
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

func readLine(b *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		piece, err := b.ReadSlice('\n')
		line = append(line, piece...)
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if len(line) > maxJob {
			return nil, fmt.Errorf("it has more than %d bytes", maxJob)
		}
	}
}

func (g *Guest) beat(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if g.send(message{Beat: true}) != nil {
				return
			}
		case <-g.stop:
			return
		}
	}
}

func (g *Guest) send(m message) error {
	p, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, err := g.w.Write(append(p, '\n')); err != nil {
		return fmt.Errorf("talk to the host: %w", err)
	}
	return nil
}

// Phase says what the agent does now.
func (g *Guest) Phase(text string) { g.tell(Event{Phase: text}) }

// tell sends an event while the job lasts: what comes behind its result is of no step.
func (g *Guest) tell(e Event) {
	select {
	case <-g.stop:
	default:
		// A host that has gone away ends the machine; there is nobody to tell.
		_ = g.send(message{Event: &e})
	}
}

// Check says that the agent begins with a check of the test, or with a verdict how it
// ended.
func (g *Guest) Check(index int, v *event.Verdict) {
	if v != nil {
		v = fitVerdict(*v)
	}
	_ = g.send(message{Event: &Event{Check: &Turn{index, v}}})
}

// fitVerdict cuts what is too long for one message.
func fitVerdict(v event.Verdict) *event.Verdict {
	v.Text = cut(v.Text, maxResult/4)
	if n := len(v.Cases); n > maxCases {
		// What is left out has failed, for all that the host can know.
		v.Cases, v.Text = v.Cases[:maxCases], fmt.Sprintf("it has %d cases; more than %d are not told", n, maxCases)
	}
	v.Cases = slices.Clone(v.Cases)
	for i := range v.Cases {
		c, share := &v.Cases[i], maxResult/4/len(v.Cases)
		c.Name, c.Text, c.Output = cut(c.Name, share), cut(c.Text, share), cut(c.Output, min(MaxOutput, share))
	}
	return &v
}

// Sink returns a sink whose events go to the host.
func (g *Guest) Sink() event.Sink {
	return func(e event.Event) {
		switch e.Kind {
		case event.Phase:
			g.Phase(e.Text)
		case event.Log:
			g.tell(Event{Stream: e.Stream, Text: e.Text})
		}
	}
}

// fit cuts what is too long for one message: a result that the host refuses would
// be none.
func (r Result) fit() Result {
	r.Error = cut(r.Error, maxResult/2)
	size := 0
	for i, f := range r.Identity {
		if size += len(f.Name) + len(f.Value) + len(f.Where); size > maxResult/4 {
			r.Identity = r.Identity[:i]
			break
		}
	}
	return r
}

// cut shortens a text to at most n bytes of whole characters.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// Finish sends the result, once, and ends the heartbeat.
func (g *Guest) Finish(r Result) error {
	err := errors.New("the result was sent already")
	g.once.Do(func() {
		close(g.stop)
		r = r.fit()
		err = g.send(message{Result: &r})
	})
	return err
}
