package bootstrap

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"sync"

	"herdbook/internal/event"
)

// maxLine bounds a line of a program's output, in bytes.
const maxLine = 16 << 10

// speech listens to what the programs say: every line goes to the sink, the
// errors are kept for the message, and the digest that apt used is caught.
type speech struct {
	sink    event.Sink
	mu      sync.Mutex
	streams []*stream
	release string
}

func (s *speech) stream(program string) io.Writer {
	st := &stream{speech: s, program: program}
	s.streams = append(s.streams, st)
	return st
}

// flush reports lines that were left without an end.
func (s *speech) flush() {
	for _, st := range s.streams {
		st.end()
	}
}

// errors returns what is worth to be shown when a program failed: its errors,
// or else its last lines.
func (s *speech) errors(program string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var bad, last []string
	for _, st := range s.streams {
		if st.program == program {
			bad, last = append(bad, st.bad...), append(last, st.last...)
		}
	}
	if len(bad) == 0 {
		bad = last
	}
	return "  " + strings.Join(bad, "\n  ")
}

func (s *speech) line(st *stream, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sum, ok := strings.CutPrefix(text, releaseMark); ok {
		s.release = sum
		return
	}
	st.last = keep(st.last, text)
	// apt tells the reason of an "Err:" on the next line, indented.
	more := st.failing && strings.HasPrefix(text, "  ")
	st.failing = more || slices.ContainsFunc([]string{"E: ", "W: ", "Err:"}, func(mark string) bool { return strings.HasPrefix(text, mark) })
	if st.failing {
		st.bad = keep(st.bad, text)
	}
	s.sink.Line(event.Stderr, st.program+": "+text)
}

// keep appends a line and drops the first ones of many.
func keep(lines []string, line string) []string {
	const most = 10
	lines = append(lines, line)
	return lines[max(0, len(lines)-most):]
}

// stream cuts one program's output into lines; a carriage return ends one too.
type stream struct {
	speech    *speech
	program   string
	partial   []byte
	last, bad []string // its last lines, and its last errors
	failing   bool     // the last line was of an error
}

func (st *stream) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		i := bytes.IndexAny(rest, "\r\n")
		if i < 0 {
			st.partial = append(st.partial, rest[:min(len(rest), max(0, maxLine-len(st.partial)))]...)
			break
		}
		st.partial = append(st.partial, rest[:min(i, max(0, maxLine-len(st.partial)))]...)
		st.end()
		rest = rest[i+1:]
	}
	return len(p), nil
}

func (st *stream) end() {
	if text := strings.TrimRight(string(st.partial), " \t"); text != "" {
		st.speech.line(st, text)
	}
	st.partial = st.partial[:0]
}
