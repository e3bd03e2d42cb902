package guest

import (
	"fmt"
	"path"
	"strings"
)

// Glob returns the names that match a shell pattern, sorted within each of its
// alternatives: * ? [ ] [! ] { , }. A name that begins with a dot is matched by a
// pattern that does. Links to directories are entered inside the root.
func (r *Root) Glob(pattern string) ([]string, error) {
	var found []string
	patterns, err := braces(pattern)
	if err != nil {
		return nil, err
	}
	for _, p := range patterns {
		names, err := r.glob("/", strings.Split(strings.Trim(path.Clean(p), "/"), "/"))
		if err != nil {
			return nil, err
		}
		found = append(found, names...)
	}
	return found, nil
}

func (r *Root) glob(dir string, parts []string) ([]string, error) {
	if len(parts) == 0 {
		return []string{dir}, nil
	}
	part := parts[0]
	if !strings.ContainsAny(part, `*?[\`) {
		name := path.Join(dir, part)
		if !r.Exists(name) {
			return nil, nil
		}
		return r.glob(name, parts[1:])
	}
	if st, err := r.Stat(dir); err != nil || !isDir(st) {
		return nil, nil
	}
	names, err := r.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, name := range names {
		if strings.HasPrefix(name, ".") && !strings.HasPrefix(part, ".") {
			continue
		}
		ok, err := path.Match(negated(part), name)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		more, err := r.glob(path.Join(dir, name), parts[1:])
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

// maxAlternatives bounds what the braces of one pattern may come to.
const maxAlternatives = 1000

// braces expands all {a,b} of a pattern, those within others too.
func braces(pattern string) ([]string, error) {
	var done []string
	for todo := []string{pattern}; len(todo) > 0; {
		choices := alternatives(todo[0])
		if choices == nil {
			done = append(done, todo[0])
		}
		if todo = append(choices, todo[1:]...); len(done)+len(todo) > maxAlternatives {
			return nil, fmt.Errorf("its braces come to more than %d patterns", maxAlternatives)
		}
	}
	return done, nil
}

// alternatives expands the first braces with a comma between them; nil if there
// are none.
func alternatives(pattern string) []string {
	for open := range len(pattern) {
		list, rest := choices(pattern[open:])
		if len(list) < 2 {
			continue
		}
		for i := range list {
			list[i] = pattern[:open] + list[i] + rest
		}
		return list
	}
	return nil
}

// choices takes apart what begins with braces, and returns what is behind them.
func choices(text string) (list []string, rest string) {
	level, last := 0, 1
	for i := range len(text) {
		switch text[i] {
		case '{':
			level++
		case '}':
			level--
		}
		switch {
		case level == 0 && i == 0:
			return nil, ""
		case level == 0:
			return append(list, text[last:i]), text[i+1:]
		case level == 1 && text[i] == ',':
			list, last = append(list, text[last:i]), i+1
		}
	}
	return nil, ""
}

// negated makes [!…] of the shell the [^…] of package path.
func negated(part string) string {
	return strings.ReplaceAll(part, "[!", "[^")
}
