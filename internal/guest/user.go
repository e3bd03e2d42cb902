package guest

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"herdbook/internal/op"
)

// user makes an account with the guest's own useradd, so that its numbers,
// skeleton and subordinate ranges are those of the distribution; an account
// that is there is changed.
func (g *Guest) user(ctx context.Context, o *op.User) error {
	args := []string{"useradd", "--create-home"}
	if a, err := g.account(o.Name); err == nil {
		if o.UID != 0 && a.uid != o.UID {
			return fmt.Errorf("user %s has the number %d already, not %d", o.Name, a.uid, o.UID)
		}
		args = []string{"usermod", "--append"}
		if len(o.Groups) == 0 {
			args = args[:1]
		}
	} else if o.UID != 0 {
		args = append(args, "--uid", strconv.Itoa(o.UID))
	}
	if o.System && args[0] == "useradd" {
		args = append(args, "--system")
	}
	if o.Group != "" {
		args = append(args, "--gid", o.Group)
	}
	if len(o.Groups) > 0 {
		args = append(args, "--groups", strings.Join(o.Groups, ","))
	}
	switch {
	case o.Shell != "":
		args = append(args, "--shell", o.Shell)
	case args[0] == "useradd" && o.System:
		args = append(args, "--shell", "/usr/sbin/nologin")
	case args[0] == "useradd":
		args = append(args, "--shell", "/bin/bash")
	}
	if o.Home != "" {
		args = append(args, "--home-dir", o.Home)
		if args[0] == "usermod" {
			args[len(args)-2] = "--home"
		}
	}
	if args[0] == "usermod" && len(args) == 1 {
		return nil // it is there, and nothing more was asked
	}
	return g.must(ctx, append(args, o.Name)...)
}
