package sysprep

import (
	"errors"
	"strings"
)

// chefClient removes the key and the name by which a server knows this machine. A
// clone registers with the key of validation, which stays.
func chefClient(t *task) error {
	for _, name := range []string{"/etc/chef/client.rb", "/etc/cinc/client.rb"} {
		err := t.root.EditLines(name, func(line string) (string, bool) {
			fields := strings.Fields(line)
			return line, len(fields) == 0 || fields[0] != "node_name"
		})
		if err != nil {
			return err
		}
	}
	return errors.Join(t.root.Unlink("/etc/{chef,cinc}/client.pem"), t.root.Empty("/var/{chef,cinc}/{cache,backup}"))
}
