package bootstrap

import (
	"bytes"
	"io"
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
	last    []string // the last lines, errors before all others
	bad     []string
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

// errors returns what is worth to be shown when a program failed.
func (s *speech) errors() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := s.bad
	if len(lines) == 0 {
		lines = s.last
	}
	return "  " + strings.Join(lines, "\n  ")
}

func (s *speech) line(program, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sum, ok := strings.CutPrefix(text, releaseMark); ok {
		s.release = sum
		return
	}
	s.last = keep(s.last, text, 10)
	for _, mark := range []string{"E: ", "W: ", "Err:", "mke2fs:", "tar:", "GPG error"} {
		if strings.HasPrefix(text, mark) || mark == "GPG error" && strings.Contains(text, mark) {
			s.bad = keep(s.bad, text, 10)
			break
		}
	}
	s.sink.Line(event.Stderr, program+": "+text)
}

func keep(lines []string, line string, most int) []string {
	lines = append(lines, line)
	return lines[max(0, len(lines)-most):]
}

// stream cuts one program's output into lines; a carriage return ends one too.
type stream struct {
	speech  *speech
	program string
	partial []byte
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
		st.speech.line(st.program, text)
	}
	st.partial = st.partial[:0]
}
