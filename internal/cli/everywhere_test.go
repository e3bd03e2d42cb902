//go:build targets

package cli

import "testing"

// TestVMTargetEverywhere builds the example with all four places. Each place has tests of its
// own; this one takes as long as several of them.
func TestVMTargetEverywhere(t *testing.T) { inMachines(t, "everywhere") }
