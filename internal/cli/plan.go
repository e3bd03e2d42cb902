package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/plan"
	"herdbook/internal/store"
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
			tops := map[string]digest.Digest{} // image → its last layer, if it is there
			for _, image := range p.Images {
				var lines []string
				top := tops[image.From]
				for _, state := range states[image.Name] {
					if top = state.Layer; top != "" {
						cached++
					} else {
						todo++
					}
					lines = append(lines, state.Label()+"  "+verdict(state))
				}
				tops[image.Name] = top
				for _, t := range image.Tests {
					lines = append(lines, t.Label()+"  "+proven(s, top, t))
				}
				fmt.Fprintln(a.Stdout, heading(image))
				for i, line := range lines {
					branch := "├─"
					if i == len(lines)-1 {
						branch = "└─"
					}
					fmt.Fprintln(a.Stdout, branch, line)
				}
			}
			_, err = fmt.Fprintf(a.Stdout, "%s cached, %d to make\n", count(cached, "step"), todo)
			return errors.Join(err, a.fit(s, p, states))
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

// proven says what a build would do with a test of a layer, "" for one that is not there;
// an unreadable proof is none.
func proven(s *store.Store, top digest.Digest, t definition.Test) string {
	if top == "" {
		return "to be asked"
	}
	proof, ok, err := s.Proof(top, plan.TestKey(top, t))
	switch {
	case err != nil || !ok:
		return "to be asked"
	case proof.Time.IsZero():
		return "passed"
	}
	return fmt.Sprintf("passed %s, in %s", proof.Time.Local().Format(minutes), seconds(proof.Elapsed))
}
