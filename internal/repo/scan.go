package repo

import (
	"errors"
	"fmt"
	"strings"
)

// section is one as it was read.
type section struct {
	id     string
	fields []Field
	more   []string // lines that continue the last field
	empty  int      // lines since the last field
}

// maxFields bounds those of a section: every one is held against the others.
const maxFields = 1000

// scan reads sections by the grammar of virt-builder's scanner, which is that of its
// sources, too. Empty lines are taken wherever they stand. Errors begin with the line.
func scan(text string) ([]section, error) {
	var sections []section
	for number := 1; ; number++ {
		line, rest, more := strings.Cut(text, "\n")
		if err := scanLine(&sections, line); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if !more {
			closeLast(sections)
			return sections, nil
		}
		text = rest
	}
}

func scanLine(sections *[]section, line string) error {
	if strings.HasPrefix(line, "#") {
		return nil
	}
	if id, ok := sectionName(line); ok {
		closeLast(*sections)
		*sections = append(*sections, section{id: id})
		return nil
	}
	if last := len(*sections) - 1; last >= 0 {
		return (*sections)[last].add(line)
	}
	if line != "" {
		return errors.New("want a section, such as [debian-12]")
	}
	return nil
}

// sectionName reads [NAME] with blanks behind it.
func sectionName(line string) (string, bool) {
	rest, ok := strings.CutPrefix(line, "[")
	if !ok {
		return "", false
	}
	id, rest, ok := strings.Cut(rest, "]")
	ok = ok && id != "" && strings.Trim(rest, " \t\r\f\v") == "" && all(id, "-._")
	return id, ok
}

// all tells whether text has letters, digits and the others only.
func all(text, others string) bool {
	for _, c := range []byte(text) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return true
}

// add reads a line that is in the section.
func (s *section) add(line string) error {
	if line == "" {
		s.empty++
		return nil
	}
	empty := s.empty
	s.empty = 0
	if line[0] == ' ' || line[0] == '\t' {
		if len(s.fields) == 0 {
			return errors.New("there is nothing that it continues")
		}
		// A signature does not cover the blank of a line that continues a field
		// with nothing, so such a line of the notes can come back empty.
		for range empty {
			s.more = append(s.more, "")
		}
		s.more = append(s.more, line[1:])
		return nil
	}
	s.close()
	key, value, ok := strings.Cut(line, "=")
	if !ok || !isKey(key) {
		return fmt.Errorf("%.60q is neither a section nor a field", line)
	}
	if len(s.fields) == maxFields {
		return fmt.Errorf("the section has more than %d fields", maxFields)
	}
	for _, f := range s.fields {
		if f.Key == key {
			return fmt.Errorf("the field %s stands there twice", key)
		}
	}
	s.fields = append(s.fields, Field{key, value})
	return nil
}

// close gives the last field the lines that continue it.
func (s *section) close() {
	if len(s.more) == 0 {
		return
	}
	last := &s.fields[len(s.fields)-1]
	last.Value = strings.Join(append([]string{last.Value}, s.more...), "\n")
	s.more = nil
}

func closeLast(sections []section) {
	if len(sections) > 0 {
		sections[len(sections)-1].close()
	}
}

// isKey tells whether text is a key with its subkey, if it has one.
func isKey(text string) bool {
	name, sub, bracket := strings.Cut(text, "[")
	if name == "" || !all(name, "_.") {
		return false
	}
	sub, closed := strings.CutSuffix(sub, "]")
	return !bracket || closed && sub != "" && all(sub, "_,.")
}
