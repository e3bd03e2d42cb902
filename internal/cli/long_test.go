//go:build long

package cli

import "testing"

// TestVMLong runs the scripts that no change waits for: what each step can do wrong, systems
// that hang, machines that are kept, other inits, playbooks and cloud-init, and clones.
func TestVMLong(t *testing.T) { inMachines(t, "long", "base.hcl", "cow.hcl") }
