package guest

import (
	"fmt"
	"path"

	"herdbook/internal/op"
)

// link makes symbolic links.
func (g *Guest) link(o *op.Link) error {
	for _, name := range o.Paths {
		// A link to a directory is replaced: made again, it must not come to lie
		// in the directory that it means.
		if st, err := g.Root.Lstat(name); err == nil && isDir(st) {
			name = path.Join(name, path.Base(o.Target))
		}
		if err := g.Root.Symlink(o.Target, name); err != nil {
			return fmt.Errorf("link %s to %s: %w", name, o.Target, err)
		}
	}
	return nil
}
