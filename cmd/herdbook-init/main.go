// Herdbook-init is the first process of a machine that boots from memory. It is not
// meant to be started by hand.
package main

import (
	"os"

	"herdbook/internal/ramroot"
)

// main ends only where it cannot go on: the kernel panics at the end of its first
// process, and restarts the machine after as many seconds as panic= says.
func main() {
	ramroot.Run(os.Args[1:])
	os.Exit(1)
}
