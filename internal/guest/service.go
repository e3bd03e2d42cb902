package guest

import (
	"context"
	"errors"

	"herdbook/internal/op"
)

// service enables, disables or masks a unit. systemctl works on the links
// alone, as no systemd runs.
func (g *Guest) service(ctx context.Context, o *op.Service) error {
	if !g.Root.Exists("/usr/bin/systemctl") && !g.Root.Exists("/bin/systemctl") {
		return errors.New("the guest has no systemctl: herdbook manages services of systemd only")
	}
	if o.Masked {
		return g.must(ctx, "systemctl", "mask", o.Name)
	}
	if *o.Enabled {
		// A unit that was masked could not be enabled.
		if err := g.must(ctx, "systemctl", "unmask", o.Name); err != nil {
			return err
		}
		return g.must(ctx, "systemctl", "enable", o.Name)
	}
	return g.must(ctx, "systemctl", "disable", o.Name)
}
