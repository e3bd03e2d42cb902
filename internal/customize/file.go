package customize

import (
	"errors"
	"fmt"
	"strings"
)

// command is one line of a file of commands, with those that continue it.
type command struct {
	line        int // the number of its first line
	name, value string
}

// addFile adds the options that are in a file.
func (o *Options) addFile(name string) error {
	if o.inFile {
		return errors.New("it cannot stand in a file of commands itself")
	}
	text, err := o.read(name)
	if err != nil {
		return err
	}
	o.inFile = true
	defer func() { o.inFile = false }()
	for _, c := range parseCommands(text) {
		if err := o.Add(c.name, c.value); err != nil {
			return fmt.Errorf("%s:%d: %w", name, c.line, err)
		}
	}
	return nil
}

// parseCommands reads a file of commands: an option without its hyphens, a space
// and its argument on each line. Empty lines and those that begin with # are
// passed over. A backslash at the end of a line makes the next one part of it; the
// line's end stays in the argument, as virt-customize has it.
func parseCommands(text string) []command {
	var list []command
	number := 0
	for text != "" {
		first := number + 1
		var whole strings.Builder
		for more := true; more; {
			line, rest, _ := strings.Cut(text, "\n")
			text = rest
			number++
			line, more = strings.CutSuffix(line, `\`)
			whole.WriteString(line)
			if more = more && text != ""; more {
				whole.WriteByte('\n')
			}
		}
		line := strings.TrimLeft(whole.String(), " \t\r\n")
		if line = strings.TrimSuffix(line, "\r"); line == "" || line[0] == '#' {
			continue
		}
		name, value, _ := strings.Cut(line, " ")
		list = append(list, command{first, name, value})
	}
	return list
}
