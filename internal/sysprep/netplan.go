package sysprep

import "strings"

// netplan removes files that cloud-init and installers wrote for an interface with a
// certain hardware address: no clone has it, so they are of no use there. What fits
// any machine stays, since nobody may be there to write it anew.
func netplan(t *task) error {
	names, err := t.root.Glob("{/etc/netplan/{50-cloud-init,00-installer-config*}.yaml,/etc/cloud/cloud.cfg.d/90-installer-network.cfg}")
	if err != nil {
		return err
	}
	for _, name := range names {
		if !t.root.IsFile(name) {
			continue
		}
		text, err := t.root.ReadFile(name)
		if err != nil {
			return err
		}
		if !strings.Contains(string(text), "macaddress:") {
			continue
		}
		if err := t.root.RemoveAll(name); err != nil {
			return err
		}
	}
	return nil
}
