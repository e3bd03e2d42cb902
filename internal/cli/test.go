package cli

import (
	"github.com/spf13/cobra"
)

func (a *app) testCommand() *cobra.Command {
	o := order{retest: true}
	c := &cobra.Command{
		Use:   "test [IMAGE…]",
		Short: "Run the tests of images again, even those passed before; deliver nothing",
		RunE: func(c *cobra.Command, names []string) error {
			o.names = names
			return a.carryOut(c.Context(), o)
		},
	}
	a.buildFlags(c, &o)
	return c
}
