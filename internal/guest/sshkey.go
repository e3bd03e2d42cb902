package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"herdbook/internal/op"
)

// sshKey adds keys to an account's authorized_keys; those that are there stay
// and are not doubled. The directory and the file must be the account's own:
// links are refused, as they could name a file of somebody else.
func (g *Guest) sshKey(o *op.SSHKey) error {
	a, err := g.account(o.User)
	if err != nil {
		return err
	}
	dir := path.Join(a.home, ".ssh")
	name := path.Join(dir, "authorized_keys")
	for _, p := range []string{dir, name} {
		if st, err := g.Root.Lstat(p); err == nil && !isDir(st) && !isFile(st) {
			return fmt.Errorf("add keys of %s: %s is a link or a device", o.User, p)
		}
	}
	for _, p := range []string{a.home, dir} {
		if g.Root.Exists(p) {
			continue
		}
		if err := errors.Join(g.Root.MkdirAll(p, 0o700), g.Root.Chown(p, a.uid, a.gid)); err != nil {
			return fmt.Errorf("add keys of %s: %w", o.User, err)
		}
	}
	text, err := g.Root.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("add keys of %s: %w", o.User, err)
	}
	lines := strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
	for _, key := range o.Keys {
		if key = strings.TrimSpace(key); !slices.Contains(lines, key) {
			lines = append(lines, key)
		}
	}
	return g.Root.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), Attributes{0o600, a.uid, a.gid}, false)
}
