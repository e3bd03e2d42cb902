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
	var verbs []string
	switch {
	case o.Enabled != nil && *o.Enabled:
		// A unit that was masked could not be enabled.
		verbs = []string{"unmask", "enable"}
	case o.Enabled != nil:
		verbs = []string{"disable"}
	}
	if o.Masked {
		verbs = append(verbs, "mask")
	}
	for _, verb := range verbs {
		if err := g.must(ctx, "systemctl", verb, o.Name); err != nil {
			return err
		}
	}
	return nil
}
