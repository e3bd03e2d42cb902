package machine

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxConsoleLine bounds a line of the console, in bytes; longer ones are cut in
// pieces.
const maxConsoleLine = 8 << 10

// maxEscape bounds an escape sequence, in bytes, so that one without an end
// does not swallow the console.
const maxEscape = 256

// What the splitter is inside of.
type splitState int

const (
	inText    splitState = iota
	inEscape             // after ESC
	inCharset            // after ESC and an intermediate byte: one more
	inControl            // ESC [ … up to a letter
	inString             // ESC ] and its like, up to BEL or ESC \
)

// splitter cuts what a serial console sends into lines of plain text. LF ends a
// line; so do CR (a progress bar's every state is a line) and a jump of the
// cursor (menus are drawn with it), but those make no empty lines. Escape
// sequences and other control characters are dropped: a guest must not be able
// to write them to the user's terminal by way of the log.
type splitter struct {
	line   []byte
	state  splitState
	escape int  // bytes of the sequence so far
	cr     bool // the last line was ended by CR: LF after it ends nothing
}

// add takes the next bytes and returns the lines that they end.
func (s *splitter) add(p []byte) []string {
	var lines []string
	for _, c := range p {
		ended, soft := s.step(c)
		if !ended || (soft && len(s.line) == 0) {
			continue
		}
		lines = append(lines, s.take())
	}
	return lines
}

// step takes a byte; a soft end makes no empty line.
func (s *splitter) step(c byte) (ended, soft bool) {
	if c == '\n' || c == '\r' {
		s.state = inText // no sequence goes on over a line's end
	}
	if s.state != inText {
		return s.sequence(c), true
	}
	cr := s.cr
	s.cr = false
	switch {
	case c == '\n':
		return true, cr
	case c == '\r':
		s.cr = cr || len(s.line) > 0
		return true, true
	case c == 0x1b:
		s.state, s.escape, s.cr = inEscape, 0, cr
	case c == '\b':
		_, size := utf8.DecodeLastRune(s.line)
		s.line = s.line[:len(s.line)-size]
	case c == '\t' || c >= ' ' && c != 0x7f:
		s.line = append(s.line, c)
		return len(s.line) >= maxConsoleLine, true
	}
	return false, false
}

// sequence takes a byte of an escape sequence and tells whether it moved the
// cursor to another place.
func (s *splitter) sequence(c byte) (moved bool) {
	s.escape++
	if s.escape > maxEscape {
		s.state = inText
		return false
	}
	switch s.state {
	case inEscape:
		switch {
		case c == '[':
			s.state = inControl
		case strings.IndexByte("]P_^X", c) >= 0:
			s.state = inString
		case c >= ' ' && c <= '/':
			s.state = inCharset
		default:
			s.state = inText
			return c == 'c' // reset
		}
	case inCharset:
		s.state = inText
	case inControl:
		if c >= 0x40 && c <= 0x7e {
			s.state = inText
			return c == 'H' || c == 'f' || c == 'J'
		}
	case inString:
		switch c {
		case 7:
			s.state = inText
		case 0x1b:
			s.state = inEscape // and the backslash after it ends that
		}
	}
	return false
}

// take returns the line so far as valid, printable text and begins the next.
func (s *splitter) take() string {
	text := printable(s.line)
	s.line = s.line[:0]
	return text
}

// rest returns an unfinished line.
func (s *splitter) rest() (string, bool) {
	if len(s.line) == 0 {
		return "", false
	}
	return s.take(), true
}

func printable(line []byte) string {
	text := strings.ToValidUTF8(string(line), "\uFFFD")
	return strings.Map(func(r rune) rune {
		if r != '\t' && unicode.IsControl(r) { // the C1 set, which some terminals obey
			return -1
		}
		return r
	}, text)
}
