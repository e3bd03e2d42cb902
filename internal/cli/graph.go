package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"herdbook/internal/definition"
	"herdbook/internal/plan"
	"herdbook/internal/repo"
)

func (a *app) graphCommand() *cobra.Command {
	var dot bool
	c := &cobra.Command{
		Use:   "graph [IMAGE…]",
		Short: "Draw how images stand on one another and where they go, as a tree or for Graphviz",
		RunE: func(c *cobra.Command, names []string) error {
			p, s, err := a.planned(c.Context(), names)
			if err != nil {
				return err
			}
			g := graph{plan: p, states: p.Resolve(find(s))}
			text := g.tree()
			if dot {
				text = g.dot()
			}
			_, err = fmt.Fprint(a.Stdout, text)
			return err
		},
	}
	c.Flags().BoolVar(&dot, "dot", false, "print it in Graphviz's language")
	return c
}

// graph is a plan to be drawn.
type graph struct {
	plan   *plan.Plan
	states map[string][]plan.State
}

// tree draws each image below the one that it is made from.
func (g graph) tree() string {
	var b strings.Builder
	for _, image := range g.plan.Images {
		if image.From == "" {
			b.WriteString(image.Name + "\n")
			g.below(&b, image, "")
		}
	}
	return b.String()
}

func (g graph) below(b *strings.Builder, image plan.Image, indent string) {
	var children []plan.Image
	for _, other := range g.plan.Images {
		if other.From == image.Name {
			children = append(children, other)
		}
	}
	leaves := g.leaves(image)
	for i, leaf := range leaves {
		branch := "├─ "
		if i == len(leaves)-1 && len(children) == 0 {
			branch = "└─ "
		}
		b.WriteString(indent + branch + leaf + "\n")
	}
	for i, child := range children {
		branch, more := "├─ ", "│  "
		if i == len(children)-1 {
			branch, more = "└─ ", "   "
		}
		b.WriteString(indent + branch + child.Name + "\n")
		g.below(b, child, indent+more)
	}
}

// leaves are an image's steps, tests and deliveries, one line each.
func (g graph) leaves(image plan.Image) []string {
	var list []string
	for _, state := range g.states[image.Name] {
		mark := "·"
		if state.Layer != "" {
			mark = "✓"
		}
		list = append(list, mark+" "+state.Label())
	}
	for _, t := range image.Tests {
		list = append(list, "? test "+t.Kind+" by "+strings.ToUpper(t.Firmware))
	}
	return append(list, deliveries(image.Image)...)
}

func deliveries(image definition.Image) []string {
	var list []string
	for _, p := range image.Publish {
		to := "→ repository " + p.Repository
		if p.Channel != repo.Stable {
			to += " (" + p.Channel + ")"
		}
		list = append(list, to)
	}
	for _, t := range image.Targets {
		list = append(list, "→ "+t.Name())
	}
	return list
}

// dot writes the graph for Graphviz: a box for each image with its steps.
func (g graph) dot() string {
	var b strings.Builder
	b.WriteString("digraph herdbook {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n")
	for i, image := range g.plan.Images {
		fmt.Fprintf(&b, "  subgraph cluster_%d {\n    label=%s;\n", i, strconv.Quote(image.Name))
		for n, state := range g.states[image.Name] {
			style := ""
			if state.Layer != "" {
				style = ", style=filled, fillcolor=lightgrey"
			}
			fmt.Fprintf(&b, "    %s [shape=box, label=%s%s];\n", node(image.Name, n), strconv.Quote(state.Label()), style)
		}
		b.WriteString("  }\n")
		for n := 1; n < len(image.Steps); n++ {
			fmt.Fprintf(&b, "  %s -> %s;\n", node(image.Name, n-1), node(image.Name, n))
		}
		g.edges(&b, image)
	}
	return b.String() + "}\n"
}

// edges joins an image with its parent and its deliveries.
func (g graph) edges(b *strings.Builder, image plan.Image) {
	if top := g.top(image.From); top != "" && len(image.Steps) > 0 {
		fmt.Fprintf(b, "  %s -> %s;\n", top, node(image.Name, 0))
	}
	for _, text := range deliveries(image.Image) {
		to := strconv.Quote(image.Name + " " + text)
		fmt.Fprintf(b, "  %s [shape=oval, label=%s];\n", to, strconv.Quote(strings.TrimPrefix(text, "→ ")))
		if top := g.top(image.Name); top != "" {
			fmt.Fprintf(b, "  %s -> %s;\n", top, to)
		}
	}
}

// top is the node of an image's last step, or of its parent's; "" without any.
func (g graph) top(name string) string {
	image, ok := g.plan.Image(name)
	switch {
	case !ok:
		return ""
	case len(image.Steps) == 0:
		return g.top(image.From)
	}
	return node(name, len(image.Steps)-1)
}

func node(image string, step int) string { return strconv.Quote(fmt.Sprintf("%s/%d", image, step)) }
