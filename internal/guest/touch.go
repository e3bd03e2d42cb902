package guest

import (
	"fmt"

	"golang.org/x/sys/unix"

	"herdbook/internal/op"
)

// touch sets times to now, or makes an empty file.
func (g *Guest) touch(o *op.Touch) error {
	for _, name := range o.Paths {
		if err := g.Root.touch(g.Root.target(name)); err != nil {
			return fmt.Errorf("touch %s: %w", name, err)
		}
	}
	return nil
}

// touch does not follow a link.
func (r *Root) touch(name string) error {
	if !r.Exists(name) {
		return r.WriteFile(name, nil, owned(0o644), false)
	}
	return r.at("touch", name, func(dir int, base string) error {
		return unix.UtimesNanoAt(dir, base, nil, unix.AT_SYMLINK_NOFOLLOW)
	})
}
