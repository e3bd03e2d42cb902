package guest

import (
	"bytes"
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// IsDir tells whether name itself is a directory; a link to one is none.
func (r *Root) IsDir(name string) bool {
	st, err := r.Lstat(name)
	return err == nil && isDir(st)
}

// IsFile tells whether name itself is a regular file.
func (r *Root) IsFile(name string) bool {
	st, err := r.Lstat(name)
	return err == nil && isFile(st)
}

// RemoveGlob removes what any of the patterns of Glob matches, directories with
// everything below them.
func (r *Root) RemoveGlob(patterns ...string) error {
	return r.eachMatch(patterns, r.RemoveAll)
}

// Unlink removes what any of the patterns matches and is no directory.
func (r *Root) Unlink(patterns ...string) error {
	return r.eachMatch(patterns, func(name string) error {
		if r.IsDir(name) {
			return nil
		}
		return r.RemoveAll(name)
	})
}

// Empty removes everything in the directories that the patterns match, whatever
// its name begins with. The directories stay.
func (r *Root) Empty(patterns ...string) error {
	for _, pattern := range patterns {
		if err := r.RemoveGlob(pattern + "/{*,.[!.]*,..?*}"); err != nil {
			return err
		}
	}
	return nil
}

func (r *Root) eachMatch(patterns []string, remove func(name string) error) error {
	for _, pattern := range patterns {
		names, err := r.Glob(pattern)
		if err != nil {
			return fmt.Errorf("delete %s: %w", pattern, err)
		}
		for _, name := range names {
			if err := remove(name); err != nil {
				return fmt.Errorf("delete %s: %w", name, err)
			}
		}
	}
	return nil
}

// RemoveFiles removes the regular files below the directories but those with one of
// the names in keep, and leaves the directories, which packages own. What is no
// directory is passed over.
func (r *Root) RemoveFiles(dirs []string, keep ...string) error {
	for _, dir := range dirs {
		if !r.IsDir(dir) {
			continue
		}
		err := r.Walk(dir, func(name string, st unix.Stat_t) error {
			for _, base := range keep {
				if path.Base(name) == base {
					return nil
				}
			}
			if !isFile(st) {
				return nil
			}
			return r.RemoveAll(name)
		})
		if err != nil {
			return fmt.Errorf("delete the files below %s: %w", dir, err)
		}
	}
	return nil
}

// EditLines rewrites a regular file of at most 16 MiB, line by line; a link is
// followed inside the root. Edit gets a line without its end, and says what is to
// be there and whether anything is. The file's owner, mode and extended attributes
// stay, and a file of which nothing is changed is not written. One that is not there
// is no error.
func (r *Root) EditLines(name string, edit func(line string) (text string, keep bool)) error {
	if st, err := r.Stat(name); err != nil || !isFile(st) {
		return nil
	}
	content, err := r.ReadFile(name)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	for line := range bytes.Lines(content) {
		bare, end := bytes.CutSuffix(line, []byte("\n"))
		text, keep := edit(string(bare))
		if !keep {
			continue
		}
		out.WriteString(text)
		if end {
			out.WriteByte('\n')
		}
	}
	if bytes.Equal(out.Bytes(), content) {
		return nil
	}
	return r.Rewrite(name, out.Bytes())
}
