package guest

import (
	"fmt"

	"herdbook/internal/op"
)

// delete removes what the paths match.
func (g *Guest) delete(o *op.Delete) error {
	for _, pattern := range o.Paths {
		if err := g.removeGlob(pattern); err != nil {
			return err
		}
	}
	return nil
}

func (g *Guest) removeGlob(pattern string) error {
	names, err := g.Root.Glob(pattern)
	if err != nil {
		return fmt.Errorf("delete %s: %w", pattern, err)
	}
	for _, name := range names {
		if err := g.Root.RemoveAll(name); err != nil {
			return fmt.Errorf("delete %s: %w", name, err)
		}
	}
	return nil
}
