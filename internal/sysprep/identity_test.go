package sysprep

import (
	"os"
	"slices"
	"strings"
	"testing"

	"herdbook/internal/identity"
	"herdbook/internal/op"
	"herdbook/internal/peer"
)

// What names a machine and may not be shared by its clones is gone after sysprep: the
// two tables know the same.
func TestNothingThatNamesTheMachineIsLeft(t *testing.T) {
	more := []node{{Path: "/var/lib/cloud/data/instance-id", Content: "i-1\n"}, {Path: "/root/.ssh/id_ed25519.pub", Content: "ssh-ed25519 AAAA root@old\n"}}
	allow := map[string][]string{
		"debian": {"machine-id"},                // systemd makes one
		"rocky":  {"machine-id", "storage-ids"}, // pools of ZFS belong to a host
	}
	found := map[string]bool{}
	for _, f := range fixtures {
		g := newGuest(t, slices.Concat(f.nodes, more))
		root, err := os.OpenRoot(g.dir)
		peer.Must(t, err)
		defer root.Close()
		for _, fact := range identity.Gather(root.FS()) {
			found[fact.Name] = true
		}
		_, err = g.changes(t, &op.Sysprep{Operations: []string{"defaults", "hostname"}})
		peer.Must(t, err)
		left := identity.Gather(root.FS())
		for _, d := range identity.Compare(left, left, left, allow[f.name], nil) {
			t.Errorf("%s: %v", f.name, d)
		}
		for _, fact := range left {
			if fact.Name == "machine-id" && fact.Value != "" {
				t.Errorf("%s: %v", f.name, fact)
			}
		}
	}
	for _, rule := range identity.Rules() {
		name, _, _ := strings.Cut(rule, " ")
		if slices.ContainsFunc(op.SysprepOperations, func(o op.SysprepOperation) bool { return o.Name == name && o.Phase == op.SysprepFiles }) && !found[name] {
			t.Errorf("%s: the fixtures have none", name)
		}
	}
}
