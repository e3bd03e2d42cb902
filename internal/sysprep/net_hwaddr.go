package sysprep

import "errors"

// netHwaddr takes hardware addresses away. Where an interface is looked for by its
// address, no clone has it; where one is set, all clones would have the same.
func netHwaddr(t *task) error {
	return errors.Join(
		t.dropLines(ifcfg, "HWADDR=", "MACADDR="),
		t.dropLines("/etc/network/interfaces", "hwaddress ", "hwaddress\t"),
		t.dropLines("/etc/network/interfaces.d/*", "hwaddress ", "hwaddress\t"),
	)
}
