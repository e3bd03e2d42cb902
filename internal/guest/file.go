package guest

import (
	"fmt"
	"path"
	"strconv"

	"herdbook/internal/op"
)

// file writes one file.
func (g *Guest) file(o *op.File) error {
	mode := uint64(0o644)
	if o.Mode != "" {
		var err error
		if mode, err = strconv.ParseUint(o.Mode, 8, 32); err != nil {
			return fmt.Errorf("write %s: mode %q: %w", o.Path, o.Mode, err)
		}
	}
	uid, gid, err := g.ids(o.Owner, o.Group)
	if err != nil {
		return fmt.Errorf("write %s: %w", o.Path, err)
	}
	if err := g.Root.MkdirAll(path.Dir(o.Path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", o.Path, err)
	}
	if st, err := g.Root.Stat(o.Path); err == nil && isDir(st) {
		return fmt.Errorf("write %s: there is a directory of that name", o.Path)
	}
	return g.Root.WriteFile(g.Root.target(o.Path), []byte(o.Content), Attributes{uint32(mode), uid, gid}, o.Keep)
}
