package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"herdbook/internal/plan"
)

func (a *app) planCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "plan [IMAGE…]",
		Short: "Show what a build would do: which steps are cached and which must be made",
		RunE: func(c *cobra.Command, names []string) error {
			p, s, err := a.planned(c.Context(), names)
			if err != nil {
				return err
			}
			states := p.Resolve(find(s))
			cached, todo := 0, 0
			for _, image := range p.Images {
				fmt.Fprintln(a.Stdout, heading(image))
				for i, state := range states[image.Name] {
					branch := "├─"
					if i == len(states[image.Name])-1 {
						branch = "└─"
					}
					if state.Layer != "" {
						cached++
					} else {
						todo++
					}
					fmt.Fprintf(a.Stdout, "%s %s  %s\n", branch, state.Label(), verdict(state))
				}
			}
			_, err = fmt.Fprintf(a.Stdout, "%s cached, %d to make\n", count(cached, "step"), todo)
			return err
		},
	}
}

func heading(image plan.Image) string {
	if image.From == "" {
		return image.Name
	}
	return image.Name + " (from " + image.From + ")"
}

// verdict says what a build would do with a step.
func verdict(s plan.State) string {
	switch {
	case s.Layer != "":
		return "cached (layer " + s.Layer.Short() + ")"
	case s.Known:
		return fmt.Sprintf("to be made (key %.12s)", s.Key)
	}
	return "to be made, once the step before it is"
}
