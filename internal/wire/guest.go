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
	mu   sync.Mutex
	w    io.Writer
	stop chan struct{}
	once sync.Once
}

// Accept says Hello, takes the job and begins to send a heartbeat every beat.
func Accept(rw io.ReadWriter, beat time.Duration) (*Guest, Job, error) {
	g := &Guest{w: rw, stop: make(chan struct{})}
	if err := g.send(message{Hello: Protocol}); err != nil {
		return nil, Job{}, err
	}
	line, err := readLine(rw)
	if err != nil {
		return nil, Job{}, fmt.Errorf("take the job: %w", err)
	}
	var job Job
	if err := json.Unmarshal(line, &job); err != nil {
		return nil, Job{}, fmt.Errorf("take the job: %w", err)
	}
	go g.beat(beat)
	return g, job, nil
}

// readLine reads the job without a byte behind it.
func readLine(r io.Reader) ([]byte, error) {
	b := bufio.NewReaderSize(r, 64<<10)
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
func (g *Guest) Phase(text string) {
	// A host that has gone away ends the machine; there is nobody to tell.
	_ = g.send(message{Event: &Event{Phase: text}})
}

// Sink returns a sink whose events go to the host.
func (g *Guest) Sink() event.Sink {
	return func(e event.Event) {
		switch e.Kind {
		case event.Phase:
			g.Phase(e.Text)
		case event.Log:
			_ = g.send(message{Event: &Event{Stream: e.Stream, Text: e.Text}})
		}
	}
}

// fit cuts what is too long for one message: a result that the host refuses would
// be none.
func (r Result) fit() Result {
	r.Error = cut(r.Error, maxResult/2)
	r.Commands = slices.Clone(r.Commands)
	for i := range r.Commands {
		r.Commands[i].Output = cut(r.Commands[i].Output, min(MaxOutput, maxResult/2/len(r.Commands)))
	}
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
