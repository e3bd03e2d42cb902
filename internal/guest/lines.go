package guest

import (
	"bytes"
	"strings"
	"sync"
	"unicode/utf8"

	"herdbook/internal/op"
)

// maxLine bounds a line of output, in bytes; a longer one is reported in pieces.
const maxLine = 64 << 10

// lineWriter cuts output into lines and reports them.
type lineWriter struct {
	c       *Chroot
	stream  string
	swallow func(line string) (rest string, whole bool)

	mu      sync.Mutex // daemons write behind the end
	partial []byte
}

func (c *Chroot) lines(stream string) *lineWriter { return &lineWriter{c: c, stream: stream} }

// Write implements io.Writer.
func (l *lineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			l.partial = append(l.partial, p...)
			l.cut()
			break
		}
		l.partial = append(l.partial, p[:i]...)
		l.cut()
		l.report()
		p = p[i+1:]
	}
	return n, nil
}

// cut reports the beginning of a line that has grown too long. It keeps so much
// of it back that no secret is reported in two halves.
func (l *lineWriter) cut() {
	keep := 0
	for _, value := range l.c.Redact {
		keep = max(keep, len(value))
	}
	for len(l.partial) > maxLine+keep {
		text := op.Redact(string(l.partial), l.c.Redact)
		if len(text) > maxLine+keep {
			end := maxLine
			for range utf8.UTFMax - 1 {
				if !utf8.RuneStart(text[end]) {
					end--
				}
			}
			l.c.Sink.Line(l.stream, strings.ToValidUTF8(text[:end], "�"))
			text = text[end:]
		}
		l.partial = append(l.partial[:0], text...)
	}
}

func (l *lineWriter) report() {
	text := strings.TrimRight(string(l.partial), "\r")
	l.partial = l.partial[:0]
	if l.swallow != nil {
		rest, whole := l.swallow(text)
		if whole {
			return
		}
		text = rest
	}
	l.c.Sink.Line(l.stream, strings.ToValidUTF8(op.Redact(text, l.c.Redact), "�"))
}

// end reports a last line without its end.
func (l *lineWriter) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.partial) > 0 {
		l.report()
	}
}
