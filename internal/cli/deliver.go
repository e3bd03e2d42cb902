package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"herdbook/internal/definition"
	"herdbook/internal/delivery"
	"herdbook/internal/digest"
	"herdbook/internal/plan"
	"herdbook/internal/store"
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
			if err := o.exportable(def); err != nil {
				return err
			}
			return a.carryOut(c.Context(), o)
		},
	}
	a.buildFlags(c, &o)
	return c
}

// exportable refuses an export of what the definition does not export.
func (o order) exportable(def *definition.Definition) error {
	i := slices.IndexFunc(def.Images, func(i definition.Image) bool { return i.Name == o.names[0] })
	if i < 0 {
		return usageError{fmt.Sprintf("%q is what a target needs on its image: export the image", o.names[0])}
	}
	var has []string
	for _, t := range def.Images[i].Targets {
		if o.exports(t) {
			return nil
		}
		has = append(has, t.Name())
	}
	what := "add a block target to it"
	if len(has) > 0 {
		what = "it has " + strings.Join(has, ", ")
	}
	return usageError{fmt.Sprintf("the image %q has no target %q; %s", o.names[0], o.target, what)}
}

// exports tells whether a target is meant by the name of one, or of a kind.
func (o order) exports(t definition.Target) bool { return o.target == t.Kind() || o.target == t.Name() }

// wants tells whether what a target makes is to be made: for itself, or to be published.
func (t attempt) wants(to definition.Target) bool {
	return t.deliver || t.named(to.Image) && (t.exports(to) || t.publish && delivery.TakesBox(t.definition, to))
}

// fit refuses targets that images cannot have, of those whose layers are there.
func (a *app) fit(s *store.Store, p *plan.Plan, states map[string][]plan.State) error {
	d := delivery.Deliverer{Store: s, Now: a.Now}
	tops := map[string]digest.Digest{}
	var errs []error
	for _, image := range p.Images {
		top := tops[image.From]
		if list := states[image.Name]; len(list) > 0 {
			top = list[len(list)-1].Layer
		}
		tops[image.Name] = top
		if image.Place != nil {
			top = tops[image.From] // its own layers can only be made on one that fits
		}
		for _, t := range image.Targets {
			if top == "" {
				continue
			}
			if err := d.Fits(t, top); err != nil {
				errs = append(errs, usageError{fmt.Sprintf("image %q, target %q (%s): %v", t.Image, t.Name(), t.Position, err)})
			}
		}
	}
	return errors.Join(errs...)
}
