package guest

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// substitution is one s/…/…/ of Perl that means the same to package regexp.
//
// Perl works on bytes, and package regexp on characters of UTF-8. So each byte is
// made the character of its number, in the pattern as in the text: é is two
// characters to both.
type substitution struct {
	pattern     *regexp.Regexp
	replacement []piece
	global      bool
	anchored    bool // it has ^ or $, whose meaning depends on line ends in the text
}

// piece of a replacement: a text, or the number of a group.
type piece struct {
	text  string
	group int // -1 for a text
}

// errPerl is wrapped by what says why an expression is for Perl itself.
var errPerl = errors.New("it needs Perl")

func needs(reason string, values ...any) error {
	return fmt.Errorf("%w: %s", errPerl, fmt.Sprintf(reason, values...))
}

// parseSubstitutions reads an expression that is nothing but substitutions, parted
// by semicolons. Whatever could mean something else to Perl than to us is an
// errPerl.
func parseSubstitutions(expression string) ([]substitution, error) {
	rest := bytesToRunes(expression)
	var list []substitution
	for {
		rest = strings.TrimLeft(rest, " \t\r\n;")
		if rest == "" {
			break
		}
		s, behind, err := parseSubstitution(rest)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
		rest = strings.TrimLeft(behind, " \t\r\n")
		if rest != "" && rest[0] != ';' {
			return nil, needs("%q is no substitution", runesToBytes(rest))
		}
	}
	if len(list) == 0 {
		return nil, needs("it is no substitution")
	}
	return list, nil
}

// delimiters may stand around the parts. Some of them mean something in a pattern.
const (
	delimiters = `/,#!%~=:;` + meaningful
	meaningful = `|@`
)

// brackets are those that come in pairs.
var brackets = map[byte]byte{'{': '}', '(': ')', '[': ']', '<': '>'}

func parseSubstitution(text string) (s substitution, rest string, err error) {
	if len(text) < 2 || text[0] != 's' {
		return s, "", needs("%q is no substitution", runesToBytes(text))
	}
	open := text[1]
	var pattern, replacement string
	if end, ok := brackets[open]; ok {
		if pattern, rest, err = bracketed(text[1:], open, end); err != nil {
			return s, "", err
		}
		rest = strings.TrimLeft(rest, " \t")
		if rest == "" || rest[0] != open {
			return s, "", needs("the brackets of a substitution differ")
		}
		replacement, rest, err = bracketed(rest, open, end)
	} else {
		if !strings.ContainsRune(delimiters, rune(open)) {
			return s, "", needs("the delimiter %q", string(rune(open)))
		}
		if pattern, rest, err = delimited(text[2:], open); err != nil {
			return s, "", err
		}
		replacement, rest, err = delimited(rest, open)
	}
	if err != nil {
		return s, "", err
	}
	end := 0
	for end < len(rest) && rest[end] >= 'a' && rest[end] <= 'z' {
		end++
	}
	s, err = compile(pattern, replacement, rest[:end])
	return s, rest[end:], err
}

// delimited takes a part up to its delimiter. One that is escaped loses its
// backslash, unless it is of a meaning of its own: then only Perl knows.
func delimited(text string, delimiter byte) (part, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == delimiter:
			return b.String(), text[i+1:], nil
		case text[i] == '\\' && i+1 < len(text) && text[i+1] == delimiter:
			if strings.ContainsRune(meaningful, rune(delimiter)) {
				return "", "", needs("an escaped %q where it is the delimiter, too", string(rune(delimiter)))
			}
			i++
			b.WriteByte(delimiter)
		case text[i] == '\\' && i+1 < len(text):
			b.WriteByte('\\')
			i++
			b.WriteByte(text[i])
		default:
			b.WriteByte(text[i])
		}
	}
	return "", "", needs("a substitution does not end")
}

func bracketed(text string, open, end byte) (part, rest string, err error) {
	level := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			if i+1 < len(text) && (text[i+1] == open || text[i+1] == end) {
				return "", "", needs("an escaped bracket where it is the delimiter, too")
			}
			i++
		case open:
			level++
		case end:
			if level--; level == 0 {
				return text[1:i], text[i+1:], nil
			}
		}
	}
	return "", "", needs("a substitution does not end")
}

func compile(pattern, replacement, flags string) (s substitution, err error) {
	mode := ""
	for _, f := range flags {
		switch f {
		case 'g':
			s.global = true
		case 'i', 's':
			mode += string(f)
		case 'm': // of one line, $ means the same with it and without
		default:
			return s, needs("the flag %q", string(f))
		}
	}
	if pattern == "" {
		return s, needs("an empty pattern is that of the last match")
	}
	t := translator{text: pattern, fold: strings.Contains(mode, "i")}
	translated, err := t.pattern()
	if err != nil {
		return s, err
	}
	if mode != "" {
		translated = "(?" + mode + ")" + translated
	}
	tree, err := syntax.Parse(translated, syntax.Perl)
	if err != nil {
		return s, needs("the pattern: %v", err)
	}
	if err := sameMeaning(tree); err != nil {
		return s, err
	}
	if s.global && canBeEmpty(tree) {
		return s, needs("a pattern that can match nothing, with the flag g")
	}
	if s.pattern, err = regexp.Compile(translated); err != nil {
		return s, needs("the pattern: %v", err)
	}
	s.anchored = t.anchored
	s.replacement, err = parseReplacement(replacement, s.pattern.NumSubexp())
	return s, err
}

// sameMeaning refuses a repetition of what can match nothing: the two engines do
// not stop at the same place, and leave other groups behind.
func sameMeaning(tree *syntax.Regexp) error {
	switch tree.Op {
	case syntax.OpStar, syntax.OpPlus, syntax.OpRepeat, syntax.OpQuest:
		if canBeEmpty(tree.Sub[0]) {
			return needs("a repetition of what can match nothing")
		}
	}
	for _, sub := range tree.Sub {
		if err := sameMeaning(sub); err != nil {
			return err
		}
	}
	return nil
}

// canBeEmpty tells whether a pattern may match without a character.
func canBeEmpty(tree *syntax.Regexp) bool {
	switch tree.Op {
	case syntax.OpLiteral:
		return len(tree.Rune) == 0
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL, syntax.OpNoMatch:
		return false
	case syntax.OpStar, syntax.OpQuest:
		return true
	case syntax.OpPlus, syntax.OpCapture:
		return canBeEmpty(tree.Sub[0])
	case syntax.OpRepeat:
		return tree.Min == 0 || canBeEmpty(tree.Sub[0])
	case syntax.OpConcat:
		for _, sub := range tree.Sub {
			if !canBeEmpty(sub) {
				return false
			}
		}
		return true
	case syntax.OpAlternate:
		for _, sub := range tree.Sub {
			if canBeEmpty(sub) {
				return true
			}
		}
		return false
	}
	return true
}

// apply substitutes in one line, with its end.
func (s substitution) apply(line string) (string, error) {
	if i := strings.IndexByte(line, '\n'); s.anchored && i >= 0 && i < len(line)-1 {
		return "", needs("^ or $ in a line that a substitution before it has broken in two")
	}
	count := 1
	if s.global {
		count = -1
	}
	var b strings.Builder
	last := 0
	for _, m := range s.pattern.FindAllStringSubmatchIndex(line, count) {
		b.WriteString(line[last:m[0]])
		for _, p := range s.replacement {
			switch {
			case p.group < 0:
				b.WriteString(p.text)
			case m[2*p.group] >= 0:
				b.WriteString(line[m[2*p.group]:m[2*p.group+1]])
			}
			if b.Len() > 2*maxFile { // of characters that have two bytes
				return "", fmt.Errorf("a line grows over %d bytes", maxFile)
			}
		}
		last = m[1]
	}
	b.WriteString(line[last:])
	return b.String(), nil
}

// substitute edits a text line by line, as perl -p does.
func substitute(text []byte, list []substitution) ([]byte, error) {
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		line = bytesToRunes(line)
		for _, s := range list {
			var err error
			if line, err = s.apply(line); err != nil {
				return nil, err
			}
		}
		out.WriteString(runesToBytes(line))
		if out.Len() > maxFile {
			return nil, fmt.Errorf("the file grows over %d bytes", maxFile)
		}
	}
	return []byte(out.String()), nil
}

// bytesToRunes makes each byte the character of its number.
func bytesToRunes(text string) string {
	var b strings.Builder
	for i := range len(text) {
		b.WriteRune(rune(text[i]))
	}
	return b.String()
}

// runesToBytes is the other way round. All characters are below 256.
func runesToBytes(text string) string {
	var b strings.Builder
	for _, r := range text {
		b.WriteByte(byte(r))
	}
	return b.String()
}
