package guest

import (
	"fmt"
	"strconv"

	"herdbook/internal/op"
)

// mkdir makes directories and their parents.
func (g *Guest) mkdir(o *op.Mkdir) error {
	mode := uint64(0o755)
	if o.Mode != "" {
		var err error
		if mode, err = strconv.ParseUint(o.Mode, 8, 32); err != nil {
			return fmt.Errorf("make directory: mode %q: %w", o.Mode, err)
		}
	}
	for _, name := range o.Paths {
		if err := g.Root.MkdirAll(name, uint32(mode)); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	return nil
}
