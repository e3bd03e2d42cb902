package guest

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"herdbook/internal/op"
)

// move renames a file or a tree; to another file system it is copied, and then
// removed.
func (g *Guest) move(o *op.Move) error {
	to, err := g.Root.into(o.Source, o.Destination)
	if err == nil {
		err = g.Root.Rename(o.Source, to)
	}
	if errors.Is(err, unix.EXDEV) {
		if err = g.Root.Duplicate(o.Source, to); err == nil {
			err = g.Root.RemoveAll(o.Source)
		}
	}
	if err != nil {
		return fmt.Errorf("move %s to %s: %w", o.Source, o.Destination, err)
	}
	return nil
}
