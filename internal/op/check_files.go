package op

import (
	"path"
	"strings"
)

// The names of the kinds that work on files.

func (*AppendLine) Kind() string { return "append_line" }
func (*Chmod) Kind() string      { return "chmod" }
func (*Chown) Kind() string      { return "chown" }
func (*Duplicate) Kind() string  { return "duplicate" }
func (*Move) Kind() string       { return "move" }
func (*Link) Kind() string       { return "link" }
func (*Mkdir) Kind() string      { return "mkdir" }
func (*Touch) Kind() string      { return "touch" }
func (*Truncate) Kind() string   { return "truncate" }
func (*Scrub) Kind() string      { return "scrub" }
func (*TarIn) Kind() string      { return "tar_in" }
func (*Edit) Kind() string       { return "edit" }

// The versions of what they do.

func (*AppendLine) Version() int { return 1 }
func (*Chmod) Version() int      { return 1 }
func (*Chown) Version() int      { return 1 }
func (*Duplicate) Version() int  { return 1 }
func (*Move) Version() int       { return 1 }
func (*Link) Version() int       { return 1 }
func (*Mkdir) Version() int      { return 1 }
func (*Touch) Version() int      { return 1 }
func (*Truncate) Version() int   { return 1 }
func (*Scrub) Version() int      { return 1 }
func (*TarIn) Version() int      { return 1 }
func (*Edit) Version() int       { return 1 }

// Check implements Operation.
func (a *AppendLine) Check() []Problem {
	problems := checkPath("path", a.Path)
	if strings.ContainsAny(a.Line, "\r\n") {
		problems = append(problems, Problem{"line", "it is more than one line", "give each line a step of its own, or write the file whole"})
	}
	return problems
}

// Check implements Operation.
func (c *Chmod) Check() []Problem {
	problems := checkPaths("paths", c.Paths)
	if c.Mode == "" {
		return append(problems, Problem{"mode", "the mode is empty", `such as "0644", always octal`})
	}
	return append(problems, checkMode("mode", c.Mode)...)
}

// Check implements Operation.
func (c *Chown) Check() []Problem {
	problems := checkPaths("paths", c.Paths)
	if c.Owner == "" && c.Group == "" {
		problems = append(problems, Problem{"", "a chown step that does nothing", `say owner = "NAME" or group = "NAME"`})
	}
	problems = append(problems, checkOwner("owner", c.Owner)...)
	return append(problems, checkOwner("group", c.Group)...)
}

// Check implements Operation.
func (d *Duplicate) Check() []Problem { return checkFromTo(d.Source, d.Destination) }

// Check implements Operation.
func (m *Move) Check() []Problem { return checkFromTo(m.Source, m.Destination) }

// Check implements Operation.
func (l *Link) Check() []Problem {
	problems := checkPaths("paths", l.Paths)
	switch {
	case l.Target == "":
		problems = append(problems, Problem{"target", "the target is empty", ""})
	case strings.ContainsRune(l.Target, 0):
		problems = append(problems, Problem{"target", "the target holds a NUL byte", ""})
	}
	return problems
}

// Check implements Operation.
func (m *Mkdir) Check() []Problem {
	return append(checkPaths("paths", m.Paths), checkMode("mode", m.Mode)...)
}

// Check implements Operation.
func (t *Touch) Check() []Problem { return checkPaths("paths", t.Paths) }

// Check implements Operation.
func (t *Truncate) Check() []Problem { return checkPaths("paths", t.Paths) }

// Check implements Operation.
func (s *Scrub) Check() []Problem { return checkPaths("paths", s.Paths) }

// Check implements Operation.
func (t *TarIn) Check() []Problem {
	var problems []Problem
	if t.Source == "" {
		problems = append(problems, Problem{"source", "the source is empty", ""})
	}
	return append(problems, checkDirectory("destination", t.Destination)...)
}

// Check implements Operation.
func (e *Edit) Check() []Problem {
	problems := checkPath("path", e.Path)
	switch {
	case strings.TrimSpace(e.Expression) == "":
		problems = append(problems, Problem{"expression", "the expression is empty", "such as s/^#?Port .*/Port 2222/"})
	case strings.ContainsRune(e.Expression, 0):
		problems = append(problems, Problem{"expression", "the expression holds a NUL byte", ""})
	}
	return problems
}

func checkPaths(field string, paths []string) []Problem {
	if len(paths) == 0 {
		return []Problem{{field, "no paths", `such as ["/etc/motd"]`}}
	}
	var problems []Problem
	for _, p := range paths {
		problems = append(problems, checkPath(field, p)...)
	}
	return problems
}

// checkDirectory is checkPath for a directory that things are laid into, which
// may be the root.
func checkDirectory(field, p string) []Problem {
	if path.IsAbs(p) && path.Clean(p) == "/" {
		return nil
	}
	return checkPath(field, p)
}

func checkFromTo(source, destination string) []Problem {
	problems := append(checkPath("source", source), checkDirectory("destination", destination)...)
	from, to := path.Clean(source), path.Clean(destination)
	if len(problems) == 0 && (to == from || strings.HasPrefix(to, from+"/")) {
		problems = append(problems, Problem{"destination", "it is the source, or lies in it", ""})
	}
	return problems
}
