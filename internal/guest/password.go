package guest

import (
	"context"

	"herdbook/internal/op"
)

// password sets a password with the guest's own chpasswd, which hashes it as
// the distribution does by default. It passes on standard input only.
func (g *Guest) password(ctx context.Context, o *op.Password) error {
	if _, err := g.account(o.User); err != nil {
		return err
	}
	switch {
	case o.Locked:
		return g.must(ctx, "usermod", "--lock", o.User)
	case o.Hash != "":
		return g.mustRun(ctx, Command{Args: []string{"chpasswd", "--encrypted"}, Stdin: o.User + ":" + o.Hash + "\n"})
	}
	return g.mustRun(ctx, Command{Args: []string{"chpasswd"}, Stdin: o.User + ":" + o.Password.Value + "\n"})
}
