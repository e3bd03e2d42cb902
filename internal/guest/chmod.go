package guest

import (
	"fmt"
	"strconv"

	"herdbook/internal/op"
)

// chmod sets modes, which are octal.
func (g *Guest) chmod(o *op.Chmod) error {
	mode, err := strconv.ParseUint(o.Mode, 8, 32)
	if err != nil {
		return fmt.Errorf("change mode to %q: %w", o.Mode, err)
	}
	for _, name := range o.Paths {
		if err := g.Root.Chmod(name, uint32(mode)); err != nil {
			return fmt.Errorf("change mode to %s: %w", o.Mode, err)
		}
	}
	return nil
}
