package guest

import (
	"path"
	"strings"
)

// Glob returns the names that match a shell pattern, sorted within each of its
// alternatives: * ? [ ] { , }. A name that begins with a dot is matched by a
// pattern that does. Links to directories are entered inside the root.
func (r *Root) Glob(pattern string) ([]string, error) {
	var found []string
	for _, p := range braces(pattern, 0) {
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
		ok, err := path.Match(part, name)
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

// braces expands {a,b} alternatives, at most some thousands of them.
func braces(pattern string, depth int) []string {
	open := strings.IndexByte(pattern, '{')
	if open < 0 || depth > 10 {
		return []string{pattern}
	}
	level, last := 0, open+1
	var choices []string
	for i := open; i < len(pattern); i++ {
		switch pattern[i] {
		case '{':
			level++
		case ',':
			if level == 1 {
				choices, last = append(choices, pattern[last:i]), i+1
			}
		case '}':
			if level--; level == 0 {
				choices = append(choices, pattern[last:i])
				var all []string
				for _, choice := range choices {
					all = append(all, braces(pattern[:open]+choice+pattern[i+1:], depth+1)...)
				}
				return all
			}
		}
	}
	return []string{pattern}
}
