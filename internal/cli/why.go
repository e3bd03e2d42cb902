package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"herdbook/internal/pin"
	"herdbook/internal/plan"
	"herdbook/internal/store"
)

func (a *app) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "why IMAGE",
		Short: "Explain an image's keys: what each step depends on, and what changed since its last build",
		Args:  arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, names []string) error {
			p, s, err := a.planned(c.Context(), names)
			if err != nil {
				return err
			}
			built, err := s.List()
			if err != nil {
				return err
			}
			for _, state := range p.Resolve(find(s))[names[0]] {
				fmt.Fprintf(a.Stdout, "%s (%s): %s\n", state.Label(), state.Position, verdict(state))
				if t := state.Template; t != nil {
					fmt.Fprintf(a.Stdout, "  %s\n", origin(t.Pin))
				}
				a.explainKey(state, built)
			}
			return nil
		},
	}
}

// origin tells where a template is from.
func origin(p pin.Pin) string {
	text := fmt.Sprintf("revision %d, ", p.Revision)
	if p.Dated != "" {
		text += "dated " + p.Dated + ", "
	}
	return text + "from " + p.URL
}

// explainKey prints the lines of a key; for a step that must be made, against
// those of its last layer.
func (a *app) explainKey(state plan.State, built []store.Layer) {
	before, ok := lastLayer(built, state.Step)
	now := state.Lines(state.Parent)
	switch {
	case state.Layer != "":
		before.Inputs = nil
		for _, line := range now {
			before.Inputs = append(before.Inputs, line.String())
		}
	case ok:
		fmt.Fprintf(a.Stdout, "  against layer %s of %s:\n", before.Digest.Short(), before.Created.Local().Format(minutes))
	default:
		fmt.Fprintln(a.Stdout, "  it was never made:")
	}
	if !state.Known {
		fmt.Fprintln(a.Stdout, "  ? parent is known once the step before is made")
	}
	for _, change := range plan.Changes(before.Inputs, now) {
		if !state.Known && strings.HasPrefix(change.Line, "parent ") {
			continue
		}
		fmt.Fprintf(a.Stdout, "  %c %s\n", change.Sign, change.Line)
	}
}

// lastLayer finds the newest layer of a step, by the names of image and step.
func lastLayer(built []store.Layer, step plan.Step) (store.Layer, bool) {
	for _, l := range built {
		if l.Image == step.Image && l.Step == step.Label() {
			return l, true
		}
	}
	return store.Layer{}, false
}
