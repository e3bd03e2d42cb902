//go:build targets

package cli

import "testing"

// TestVMTargetEverywhere builds the example with all four places, starts servers of an image
// for OpenStack, and boots a medium and the disk in every format. It takes half an hour
// under emulation, which is too long for every change.
func TestVMTargetEverywhere(t *testing.T) { inMachines(t, "everywhere") }
