package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"herdbook/internal/op"
)

// appendLine puts a line at the end of a file.
func (g *Guest) appendLine(o *op.AppendLine) error {
	text, err := g.Root.ReadFile(o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return g.Root.WriteFile(g.Root.target(o.Path), []byte(o.Line+"\n"), owned(0o644), false)
	}
	if err != nil {
		return fmt.Errorf("append a line: %w", err)
	}
	end := lineEnd(text)
	out := slices.Clone(text)
	if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) && !bytes.HasSuffix(text, []byte(end)) {
		out = append(out, end...)
	}
	out = append(append(out, o.Line...), end...)
	if err := g.Root.Rewrite(o.Path, out); err != nil {
		return fmt.Errorf("append a line: %w", err)
	}
	return nil
}

// lineEnd is how the lines of a text end: as its first one does.
func lineEnd(text []byte) string {
	i := bytes.IndexAny(text, "\r\n")
	switch {
	case i < 0 || text[i] == '\n':
		return "\n"
	case bytes.HasPrefix(text[i:], []byte("\r\n")):
		return "\r\n"
	}
	return "\r"
}
