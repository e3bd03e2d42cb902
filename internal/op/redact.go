package op

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// leastLine is how many bytes a line of a longer value must have to be blotted out:
// a bracket alone tells nothing, and stands everywhere.
const leastLine = 3

// leastAnywhere is how many bytes a value must have to be blotted out inside of words,
// too: a shorter one stands by chance in most lines, and whoever knew its places would
// know the value.
const leastAnywhere = 4

// Redact blots values out of a text, also as messages quote them; values of several
// lines, line by line, and short ones only where they are a word of their own. Of values
// that overlap nothing is left.
func Redact(text string, values []string) string {
	var long, short []string
	for _, value := range values {
		several := strings.Contains(strings.TrimSpace(value), "\n")
		for line := range strings.SplitSeq(value, "\n") {
			// Stars alone look blotted out as they are.
			line = strings.TrimRight(line, "\r")
			switch {
			case strings.Trim(line, "*") == "" || several && len(strings.TrimSpace(line)) < leastLine:
			case len(line) < leastAnywhere:
				short = append(short, line)
			default:
				long = append(long, spellings(line)...)
			}
		}
	}
	text = redactAnywhere(text, long)
	// The longest first, or what it holds of another would leave its rest.
	slices.SortFunc(short, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, secret := range short {
		text = redactWord(text, secret)
	}
	return text
}

// redactAnywhere blots out all that belongs to a value.
func redactAnywhere(text string, secrets []string) string {
	var spans []span
	for _, secret := range secrets {
		spans = appendSpans(spans, text, secret)
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	var b strings.Builder
	end := 0
	for _, s := range spans {
		if s.start >= end {
			b.WriteString(text[end:s.start] + "***")
		}
		end = max(end, s.end)
	}
	return b.String() + text[end:]
}

// spellings are a secret and what becomes of it in a quotation of Go's and in JSON.
func spellings(secret string) []string {
	list := []string{secret}
	if !strings.ContainsFunc(secret, func(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune(`"\<>&`, r) }) {
		return list
	}
	quoted := []string{strconv.Quote(secret), strconv.QuoteToASCII(secret)}
	if p, err := json.Marshal(secret); err == nil { // of any string
		quoted = append(quoted, string(p))
	}
	for _, q := range quoted {
		if q = q[1 : len(q)-1]; !slices.Contains(list, q) {
			list = append(list, q)
		}
	}
	return list
}

// span is a part of a text, in bytes.
type span struct{ start, end int }

// appendSpans adds where a secret stands in a text. Those that overlap are one.
func appendSpans(spans []span, text, secret string) []span {
	first := len(spans)
	for from := 0; ; {
		i := strings.Index(text[from:], secret)
		if i < 0 {
			return spans
		}
		start, end := from+i, from+i+len(secret)
		from = start + 1 // perhaps another one begins inside of it
		if last := len(spans) - 1; last >= first && start < spans[last].end {
			spans[last].end = end
		} else {
			spans = append(spans, span{start, end})
		}
	}
}

// redactWord blots a value out where neither side of it goes on with a letter or a digit.
func redactWord(text, secret string) string {
	var b strings.Builder
	rest, before := text, byte(' ')
	for {
		i := strings.Index(rest, secret)
		if i < 0 {
			return b.String() + rest
		}
		if i > 0 {
			before = rest[i-1]
		}
		end := i + len(secret)
		if goesOn(before, secret[0]) || end < len(rest) && goesOn(secret[len(secret)-1], rest[end]) {
			end = i + 1 // perhaps another one begins inside of it
			b.WriteString(rest[:end])
		} else {
			b.WriteString(rest[:i] + "***")
		}
		rest, before = rest[end:], rest[end-1]
	}
}

// goesOn tells whether two bytes are of one word.
func goesOn(a, b byte) bool { return inWord(a) && inWord(b) }

func inWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '_' || c >= utf8.RuneSelf
}
