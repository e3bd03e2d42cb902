package guest

import (
	"strconv"
	"strings"
)

// translator writes a pattern of Perl as package regexp has it, piece by piece.
// What it does not know to mean the same it leaves to Perl.
type translator struct {
	text     string
	at       int
	fold     bool // the flag i
	anchored bool
	out      strings.Builder
}

func (t *translator) pattern() (string, error) {
	for t.at < len(t.text) {
		if err := t.next(); err != nil {
			return "", err
		}
	}
	return t.out.String(), nil
}

// take writes n bytes as they are.
func (t *translator) take(n int) error {
	t.out.WriteString(t.text[t.at : t.at+n])
	t.at += n
	return nil
}

func (t *translator) behind() string { return t.text[t.at+1:] }

func (t *translator) next() error {
	c := t.text[t.at]
	switch {
	case c >= 0x80 && t.fold:
		return needs("letters beyond ASCII, with the flag i")
	case c == '\\':
		return t.escape(false)
	case c == '[':
		return t.class()
	case c == '^':
		t.anchored = true
		t.at++
		t.out.WriteString(`\A`)
		return nil
	case c == '$':
		if rest := t.behind(); rest != "" && rest[0] != ')' && rest[0] != '|' {
			return needs("a variable in the pattern; the sign itself is \\$")
		}
		t.anchored = true
		t.at++
		t.out.WriteString(`(?m:$)`) // before the line's end, too
		return nil
	case c == '@':
		return t.sigil()
	case c == '(':
		return t.group()
	case c == '{':
		return t.count()
	}
	return t.take(1)
}

// sigil is an @, which begins the name of an array if a name follows.
func (t *translator) sigil() error {
	if beginsArray(t.behind()) {
		return needs("an array; the sign itself is \\@")
	}
	return t.take(1)
}

// beginsArray tells whether what follows an @ may be the name of an array.
func beginsArray(rest string) bool {
	return rest != "" && !strings.ContainsRune(" \t\n.,/|)]\\", rune(rest[0]))
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

// escapes are those that mean the same to both.
const escapes = "dDwWtnrf"

func (t *translator) escape(inClass bool) error {
	rest := t.behind()
	if rest == "" {
		return needs("a backslash at the end")
	}
	c := rest[0]
	switch {
	case c >= 0x80 || !isWord(c) && (c < ' ' || c > '~'):
		return needs("an escaped %q", runesToBytes(string(rune(c))))
	case !isWord(c):
		t.at += 2
		t.out.WriteString(`\` + string(rune(c)))
		return nil
	case strings.ContainsRune(escapes, rune(c)):
		return t.take(2)
	case c == 's' && inClass && t.inRange():
		return needs(`\s beside a - in a list`)
	case c == 's':
		// Perl counts the vertical tab in.
		t.at += 2
		if inClass {
			t.out.WriteString(`\t\n\v\f\r `)
		} else {
			t.out.WriteString(`[\t\n\v\f\r ]`)
		}
		return nil
	case inClass:
	case c == 'S':
		t.at += 2
		t.out.WriteString(`[^\t\n\v\f\r ]`)
		return nil
	case c == 'b', c == 'B', c == 'A', c == 'z':
		return t.take(2)
	}
	return needs(`\%c`, c)
}

// inRange tells whether an escape in a list could be taken for an end of a range.
func (t *translator) inRange() bool {
	before, after := t.text[:t.at], t.text[t.at+2:]
	return strings.HasSuffix(before, "-") && !strings.HasSuffix(before, "[-") && !strings.HasSuffix(before, "[^-") ||
		strings.HasPrefix(after, "-") && !strings.HasPrefix(after, "-]")
}

// group is an open bracket.
func (t *translator) group() error {
	switch rest := t.behind(); {
	case strings.HasPrefix(rest, "?:"):
		return t.take(3)
	case strings.HasPrefix(rest, "?"), strings.HasPrefix(rest, "*"):
		return needs("an extended group in the pattern")
	}
	return t.take(1)
}

// count is {n}, {n,} or {n,m}; anything else in braces is what Perl's version
// makes of it.
func (t *translator) count() error {
	body, _, ok := strings.Cut(t.behind(), "}")
	low, high, ranged := strings.Cut(body, ",")
	if !ok || !isNumber(low) || ranged && high != "" && !isNumber(high) {
		return needs("a brace that is no number of times; the sign itself is \\{")
	}
	return t.take(len(body) + 2)
}

func isNumber(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil && isWord(text[0])
}

// posix are the classes that both have, of the same members.
var posix = []string{"alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word", "xdigit"}

// class is a list in square brackets.
func (t *translator) class() error {
	_ = t.take(1)
	if strings.HasPrefix(t.text[t.at:], "^") {
		_ = t.take(1)
	}
	for first := true; t.at < len(t.text); first = false {
		c := t.text[t.at]
		var err error
		switch {
		case c == ']' && !first:
			return t.take(1)
		case c == ']':
			t.at++
			t.out.WriteString(`\]`)
		case c == '\\':
			err = t.escape(true)
		case c == '$':
			err = needs("a $ in a list; the sign itself is \\$")
		case c == '@':
			err = t.sigil()
		case c == '[':
			err = t.named()
		case c >= 0x80 && t.fold:
			err = needs("letters beyond ASCII, with the flag i")
		default:
			err = t.take(1)
		}
		if err != nil {
			return err
		}
	}
	return needs("a list that does not end")
}

// named is [:name:] in a list, or the bracket itself.
func (t *translator) named() error {
	rest := t.behind()
	if rest == "" || !strings.ContainsRune(":.=", rune(rest[0])) {
		t.at++
		t.out.WriteString(`\[`)
		return nil
	}
	for _, name := range posix {
		for _, text := range []string{"[:" + name + ":]", "[:^" + name + ":]"} {
			if strings.HasPrefix(t.text[t.at:], text) {
				return t.take(len(text))
			}
		}
	}
	return needs("a list within a list")
}

// parseReplacement reads the second part of a substitution: a text in which $1,
// ${1}, \1 and $& stand for what was matched.
func parseReplacement(text string, groups int) ([]piece, error) {
	var list []piece
	literal := func(s string) { list = append(list, piece{s, -1}) }
	for at := 0; at < len(text); {
		c := text[at]
		rest := text[at+1:]
		switch {
		case c == '\\':
			if rest == "" {
				return nil, needs("a backslash at the end")
			}
			p, err := escaped(rest, groups)
			if err != nil {
				return nil, err
			}
			list = append(list, p)
			at += 2
		case c == '$':
			number, length := reference(rest)
			if length == 0 {
				return nil, needs("a variable in the replacement; the sign itself is \\$")
			}
			if err := subscript(rest[length:]); err != nil {
				return nil, err
			}
			if number <= groups {
				list = append(list, piece{"", number})
			}
			at += 1 + length
		case c == '@' && beginsArray(rest):
			return nil, needs("an array in the replacement; the sign itself is \\@")
		default:
			literal(text[at : at+1])
			at++
		}
	}
	return list, nil
}

// subscript refuses what makes an element of a list of the variable before it.
func subscript(behind string) error {
	if behind != "" && strings.ContainsRune("[{-:", rune(behind[0])) {
		return needs("%q behind a variable in the replacement", behind[:1])
	}
	return nil
}

// reference reads what follows a $: & or the number of a group, plain or in
// braces. Its length is 0 if it is something else.
func reference(text string) (number, length int) {
	if strings.HasPrefix(text, "&") {
		return 0, 1
	}
	digits, extra := text, 0
	if inner, ok := strings.CutPrefix(text, "{"); ok {
		inner, _, ok = strings.Cut(inner, "}")
		if !ok || !isNumber(inner) {
			return 0, 0
		}
		digits, extra = inner, 2
	}
	n := 0
	for n < len(digits) && digits[n] >= '0' && digits[n] <= '9' {
		n++
	}
	number, err := strconv.Atoi(digits[:n])
	if err != nil || digits[0] == '0' || extra > 0 && n < len(digits) {
		return 0, 0
	}
	return number, n + extra
}

// escaped is what a backslash and the first of text stand for in a replacement.
func escaped(text string, groups int) (piece, error) {
	switch c := text[0]; {
	case c == 'n':
		return piece{"\n", -1}, nil
	case c == 't':
		return piece{"\t", -1}, nil
	case c == 'r':
		return piece{"\r", -1}, nil
	case c >= '1' && c <= '9' && (len(text) == 1 || text[1] < '0' || text[1] > '9'):
		// More digits would be the number of a character.
		if err := subscript(text[1:]); err != nil {
			return piece{}, err
		}
		if int(c-'0') > groups {
			return piece{"", -1}, nil
		}
		return piece{"", int(c - '0')}, nil
	case isWord(c) || c >= 0x80:
		return piece{}, needs("an escape in the replacement")
	default:
		return piece{string(c), -1}, nil
	}
}
