package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"herdbook/internal/definition"
)

func (a *app) publishCommand() *cobra.Command {
	o := order{publish: true}
	c := &cobra.Command{
		Use:   "publish IMAGE…",
		Short: "Publish images in the repositories that they name, building what is missing",
		Args:  arguments(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, names []string) error {
			o.names = names
			return a.carryOut(c.Context(), o)
		},
	}
	a.buildFlags(c, &o)
	return c
}

func (a *app) exportCommand() *cobra.Command {
	var o order
	c := &cobra.Command{
		Use:   "export IMAGE TARGET",
		Short: "Export an image to one of its targets, building what is missing",
		Args:  arguments(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			o.names, o.target = args[:1], args[1]
			def, err := a.parse(o.names...)
			if err != nil {
				return err
			}
			for _, image := range def.Images {
				has := slices.ContainsFunc(image.Targets, func(t definition.Target) bool { return t.Kind == o.target })
				if image.Name == args[0] && !has {
					return usageError{fmt.Sprintf("the image %q has no target %q; add target %q {} to it", args[0], args[1], args[1])}
				}
			}
			return a.carryOut(c.Context(), o)
		},
	}
	a.buildFlags(c, &o)
	return c
}
