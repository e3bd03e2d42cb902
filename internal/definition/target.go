package definition

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"herdbook/internal/op"
	"herdbook/internal/target"
)

// targetCommon are the arguments that every target takes.
type targetCommon struct {
	Output  string `hcl:"output,optional"`
	Timeout string `hcl:"timeout,optional"` // of each adjustment
}

// target reads a place that the image is delivered to.
func (l *loader) target(b *hcl.Block, image *Image, ctx *hcl.EvalContext) {
	t, ok := target.New(b.Labels[0], image.Name)
	if !ok {
		l.fault(b.LabelRanges[0], "Unknown kind of target", fmt.Sprintf("There is no target %q.%s", b.Labels[0], suggest(b.Labels[0], target.Kinds())))
		return
	}
	common := targetCommon{Output: "dist"}
	before := l.met
	content := l.content(b.Body, nil, t, &common)
	l.decode(content, ctx, t)
	given := l.decode(content, ctx, &common)
	timeout := l.duration(given, common.Timeout)
	made := Target{Target: t, Image: image.Name, Output: l.path(common.Output), Position: l.position(b.DefRange)}
	if slices.ContainsFunc(image.Targets, func(o Target) bool { return o.Name() == made.Name() && o.Output == made.Output }) {
		l.fault(b.DefRange, "Target declared twice", fmt.Sprintf("The image %q has a target %q with the same output already.", image.Name, made.Name()))
	} else if slices.ContainsFunc(image.Targets, func(o Target) bool { return o.Name() == made.Name() && len(t.Adjustments()) > 0 }) {
		l.fault(b.DefRange, "Target declared twice", fmt.Sprintf("The image %q has a target %q already, and what that needs is an image of its own, %q. "+
			"Make another image from it for the second one.", image.Name, made.Name(), image.Name+"/"+made.Name()))
	}
	if l.met == before { // a field that is missing would fail its check too
		l.check(t, content, b.DefRange)
		for _, a := range t.Adjustments() {
			step := Step{Kind: a.Operation.Kind(), Name: a.Name, Operation: a.Operation, Timeout: timeout, Position: made.Position}
			if a.Network {
				step.Network = &Network{}
			}
			if source, ok := op.HostSource(a.Operation); ok {
				step.Files = l.inputs(source, b.DefRange)
			}
			made.Steps = append(made.Steps, step)
		}
	}
	image.Targets = append(image.Targets, made)
}

// TakesBoxes tells whether an image goes into a repository of boxes for Vagrant.
func (d *Definition) TakesBoxes(image Image) bool {
	return slices.ContainsFunc(d.Repositories, func(r Repository) bool {
		return slices.Contains(r.Formats, "vagrant") && slices.ContainsFunc(image.Publish, func(p Publish) bool { return p.Repository == r.Name })
	})
}
