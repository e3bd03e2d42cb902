//go:build targets

package cli

import "testing"

// TestVMTargetEverywhere builds the example with all four places, and a medium of a real
// system. Each place has tests of its own; these take as long as several of them.
func TestVMTargetEverywhere(t *testing.T) { inMachines(t, "everywhere") }
