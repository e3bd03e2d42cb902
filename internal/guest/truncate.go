package guest

import (
	"fmt"

	"golang.org/x/sys/unix"

	"herdbook/internal/op"
)

// truncate empties files.
func (g *Guest) truncate(o *op.Truncate) error {
	for _, name := range o.Paths {
		if err := g.truncateOne(name, o.Recursive); err != nil {
			return fmt.Errorf("truncate %s: %w", name, err)
		}
	}
	return nil
}

func (g *Guest) truncateOne(name string, recursive bool) error {
	name = g.Root.target(name)
	st, err := g.Root.Lstat(name)
	if err != nil {
		return err
	}
	if !recursive || !isDir(st) {
		return g.Root.Truncate(name)
	}
	return g.Root.Walk(name, func(below string, st unix.Stat_t) error {
		if !isFile(st) {
			return nil
		}
		return g.Root.Truncate(below)
	})
}
