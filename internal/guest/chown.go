package guest

import (
	"fmt"

	"herdbook/internal/op"
)

// chown sets owners; what is not given stays.
func (g *Guest) chown(o *op.Chown) error {
	uid, gid, err := g.ids(o.Owner, o.Group)
	if err != nil {
		return fmt.Errorf("change owner: %w", err)
	}
	if o.Owner == "" {
		uid = -1
	}
	if o.Group == "" {
		gid = -1
	}
	for _, name := range o.Paths {
		if err := g.Root.Chown(name, uid, gid); err != nil {
			return fmt.Errorf("change owner: %w", err)
		}
	}
	return nil
}
