//go:build targets

package cli

import "testing"

// TestVMTargetEverywhere builds the example with all four places, starts systems out of memory
// and servers of an image for OpenStack, and boots a medium and the disk in every format. It takes half an hour
// and more under emulation, which is too long for every change.
func TestVMTargetEverywhere(t *testing.T) { inMachines(t, "everywhere", "base.hcl", "cow.hcl") }
