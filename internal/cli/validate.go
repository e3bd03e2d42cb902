package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check the definition and report every problem in it",
		Args:  arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			def, err := a.parse()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Stdout, "%s is valid: %s\n", a.file, count(len(def.Images), "image"))
			return err
		},
	}
}

// count writes a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
