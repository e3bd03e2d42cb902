package lvm

import (
	"strconv"
	"strings"
)

// maxNesting bounds the sections within one another; LVM's own have four.
const maxNesting = 16

// section is what stands between braces: values are string, int64, []any and
// *section. The order of names does not matter to anybody here but in names.
type section struct {
	values map[string]any
	names  []string // in the order of the text
}

// parser reads LVM's configuration text. It never looks further than one byte,
// and every value that it makes has taken at least one byte of the text.
type parser struct {
	text string
	at   int
}

func parseText(text string) (*section, error) {
	p := &parser{text: strings.TrimRight(text, "\x00")}
	s, err := p.section(0)
	if err == nil && p.at < len(p.text) {
		err = p.fail("a brace too many")
	}
	return s, err
}

func (p *parser) fail(what string) error {
	return corrupt("line %d of the metadata: %s", 1+strings.Count(p.text[:min(p.at, len(p.text))], "\n"), what)
}

// blank skips white space and comments.
func (p *parser) blank() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\r', '\n':
			p.at++
		case '#':
			end := strings.IndexByte(p.text[p.at:], '\n')
			if end < 0 {
				end = len(p.text) - p.at
			}
			p.at += end
		default:
			return
		}
	}
}

// take takes one byte if it is c.
func (p *parser) take(c byte) bool {
	p.blank()
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

// section reads assignments and sections up to a closing brace or the end.
func (p *parser) section(depth int) (*section, error) {
	if depth > maxNesting {
		return nil, p.fail("sections nest too deep")
	}
	s := &section{values: map[string]any{}}
	for {
		p.blank()
		if p.at == len(p.text) || p.text[p.at] == '}' {
			return s, nil
		}
		name := p.word()
		if name == "" {
			return nil, p.fail("no name where one should be")
		}
		var value any
		var err error
		switch {
		case p.take('='):
			value, err = p.value()
		case p.take('{'):
			if value, err = p.section(depth + 1); err == nil && !p.take('}') {
				err = p.fail("a section without an end")
			}
		default:
			err = p.fail("neither a value nor a section behind " + strconv.Quote(name))
		}
		if err != nil {
			return nil, err
		}
		if _, twice := s.values[name]; twice {
			return nil, p.fail(strconv.Quote(name) + " stands there twice")
		}
		s.values[name], s.names = value, append(s.names, name)
	}
}

// word takes a name or a number.
func (p *parser) word() string {
	start := p.at
	for p.at < len(p.text) && !strings.ContainsRune(" \t\r\n#={}[],\"", rune(p.text[p.at])) {
		p.at++
	}
	return p.text[start:p.at]
}

func (p *parser) value() (any, error) {
	if !p.take('[') {
		return p.scalar()
	}
	list := []any{}
	for !p.take(']') {
		if len(list) > 0 && !p.take(',') {
			return nil, p.fail("a list without an end")
		}
		if len(list) > 0 && p.take(']') {
			break
		}
		v, err := p.scalar()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func (p *parser) scalar() (any, error) {
	if p.take('"') {
		return p.quoted()
	}
	word := p.word()
	if n, err := strconv.ParseInt(word, 10, 64); err == nil {
		return n, nil
	}
	if _, err := strconv.ParseFloat(word, 64); err != nil {
		return nil, p.fail("no value: " + strconv.Quote(word))
	}
	return word, nil // nothing that is read here is one
}

// quoted reads a string behind its first quote.
func (p *parser) quoted() (string, error) {
	var b strings.Builder
	for ; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; c {
		case '"':
			p.at++
			return b.String(), nil
		case '\\':
			p.at++
			if p.at < len(p.text) {
				b.WriteByte(p.text[p.at])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", p.fail("a string without an end")
}

// The accessors give the zero value and false for what is not there or is of another type.

func (s *section) text(name string) (string, bool) { v, ok := s.values[name].(string); return v, ok }

func (s *section) number(name string) (int64, bool) { v, ok := s.values[name].(int64); return v, ok }

func (s *section) sub(name string) (*section, bool) { v, ok := s.values[name].(*section); return v, ok }

// flags is a list of strings, empty where there is none.
func (s *section) flags(name string) []string {
	list, _ := s.values[name].([]any)
	var flags []string
	for _, v := range list {
		if f, ok := v.(string); ok {
			flags = append(flags, f)
		}
	}
	return flags
}
