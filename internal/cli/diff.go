package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"herdbook/internal/comparison"
	"herdbook/internal/inspection"
)

// errDiffer makes the exit status of diff what that of diff(1) is.
var errDiffer = errors.New("the images differ")

func (a *app) diffCommand() *cobra.Command {
	var f pieceFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "diff DISK DISK",
		Short: "Tell in what two disk images differ",
		Long: "Tell in what the second disk image differs from the first: packages, units, accounts, sizes and files, but for their times.\n" +
			"No machine is started. The exit status is 0 if nothing differs and 1 if something does.",
		Args: arguments(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			return f.look(args[0], func(before *inspection.System) error {
				return f.look(args[1], func(after *inspection.System) error {
					changes, err := comparison.Compare(c.Context(), before, after)
					if err != nil {
						return err
					}
					return a.tellChanges(changes, asJSON)
				})
			})
		},
	}
	f.add(a, c)
	c.Flags().BoolVar(&asJSON, "json", false, "all of it as JSON")
	return c
}

// tellChanges prints in what two systems differ; the error is errDiffer if they do.
func (a *app) tellChanges(changes *comparison.Comparison, asJSON bool) (err error) {
	if asJSON {
		err = a.writeJSON(changes)
	} else {
		err = changes.WriteText(a.Stdout)
	}
	if err != nil || changes.Same() {
		return err
	}
	return errDiffer
}
