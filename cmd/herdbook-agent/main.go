// Herdbook-agent is herdbook's program inside a guest. It is not meant to be
// started by hand.
package main

import (
	"fmt"
	"os"

	"herdbook/internal/agent"
)

func main() {
	if err := agent.Run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "herdbook-agent:", err)
		os.Exit(1)
	}
}
