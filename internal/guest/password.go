package guest

import (
	"context"
	"strings"

	"herdbook/internal/op"
)

// password sets a password with the guest's own chpasswd, which hashes it as
// the distribution does by default. It passes on standard input only.
func (g *Guest) password(ctx context.Context, o *op.Password) error {
	if _, err := g.account(o.User); err != nil {
		return err
	}
	c := Command{Args: []string{"chpasswd"}, Stdin: o.User + ":" + o.Password.Value + "\n"}
	switch {
	case o.Disabled:
		c = Command{Args: []string{"chpasswd", "--encrypted"}, Stdin: o.User + ":*\n"}
	case o.Hash != "":
		c = Command{Args: []string{"chpasswd", "--encrypted"}, Stdin: o.User + ":" + o.Hash + "\n"}
	case o.Crypto != "":
		c.Args = append(c.Args, "--crypt-method", strings.ToUpper(o.Crypto))
	}
	if o.Disabled || o.Hash != "" || !o.Password.IsZero() {
		if err := g.mustRun(ctx, c); err != nil {
			return err
		}
	}
	if !o.Locked {
		return nil
	}
	return g.must(ctx, "usermod", "--lock", o.User)
}
