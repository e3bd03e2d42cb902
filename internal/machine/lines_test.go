package machine

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestSplitterMakesLines(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []string // the last one may be unfinished
	}{
		"plain":                          {"one\ntwo\r\nthree", []string{"one", "two", "three"}},
		"empty lines":                    {"a\n\n\nb\n", []string{"a", "", "", "b"}},
		"a progress bar":                 {"10%\r20%\r\r30%\r\n", []string{"10%", "20%", "30%"}},
		"colours":                        {"\x1b[1;31mred\x1b[0m text\n", []string{"red text"}},
		"a menu":                         {"\x1b[2J\x1b[1;1Hone\x1b[2;1Htwo\x1b[3;1H", []string{"one", "two"}},
		"a title":                        {"\x1b]0;title\x07text\x1b]2;other\x1b\\more\n", []string{"textmore"}},
		"a character set":                {"\x1b(B\x1b)0text\n", []string{"text"}},
		"a bell and a delete":            {"a\x07b\x7fc\n", []string{"abc"}},
		"a backspace":                    {"abü\b\bc\n", []string{"ac"}},
		"bad UTF-8":                      {"a\xff\xfeb\n", []string{"a\uFFFDb"}},
		"controls of C1":                 {"a\u009b31mb\n", []string{"a31mb"}},
		"a tab":                          {"a\tb\n", []string{"a\tb"}},
		"an endless sequence":            {"\x1b]" + strings.Repeat("x", maxEscape) + "text\n", []string{"text"}},
		"a sequence over the line's end": {"\x1b[12\ntext\n", []string{"", "text"}},
		"a long line":                    {strings.Repeat("x", maxConsoleLine+5) + "\n", []string{strings.Repeat("x", maxConsoleLine), "xxxxx"}},
	} {
		for _, size := range []int{1, 3, len(c.in)} { // however the bytes come
			var s splitter
			var got []string
			for rest := c.in; rest != ""; {
				n := min(size, len(rest))
				got = append(got, s.add([]byte(rest[:n]))...)
				rest = rest[n:]
			}
			if text, ok := s.rest(); ok {
				got = append(got, text)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s, %d bytes at a time (-want +got):\n%s", name, size, diff)
			}
		}
	}
}

// What a guest says must not reach the terminal as anything but text.
func FuzzSplitter(f *testing.F) {
	f.Add([]byte("\x1b[2Jtext\r\n\x1b]0;x"), 3)
	f.Fuzz(func(t *testing.T, p []byte, cut int) {
		var s splitter
		cut = max(0, min(cut, len(p)))
		lines := append(s.add(p[:cut]), s.add(p[cut:])...)
		if text, ok := s.rest(); ok {
			lines = append(lines, text)
		}
		total := 0
		for _, line := range lines {
			total += len(line)
			bad := strings.IndexFunc(line, func(r rune) bool { return unicode.IsControl(r) && r != '\t' })
			if bad >= 0 || !utf8.ValidString(line) || len(line) > 3*maxConsoleLine {
				t.Errorf("%q is no line of text", line)
			}
		}
		if total > 3*len(p) {
			t.Errorf("%d bytes became %d", len(p), total)
		}
	})
}
