package guest

import (
	"errors"
	"fmt"
	"path"

	"herdbook/internal/op"
)

// timezone points /etc/localtime at the zone's data, which must be there, and
// keeps Debian's /etc/timezone true.
func (g *Guest) timezone(o *op.Timezone) error {
	data := path.Join("/usr/share/zoneinfo", o.Zone)
	if st, err := g.Root.Stat(data); err != nil || !isFile(st) {
		return fmt.Errorf("set time zone: the guest has no %s; install tzdata first, or correct the name", data)
	}
	err := g.Root.Symlink(data, "/etc/localtime")
	if g.Root.Exists("/etc/timezone") || g.Root.Exists("/etc/debian_version") {
		err = errors.Join(err, g.Root.WriteFile("/etc/timezone", []byte(o.Zone+"\n"), owned(0o644), true))
	}
	if err != nil {
		return fmt.Errorf("set time zone: %w", err)
	}
	return nil
}
