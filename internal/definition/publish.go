package definition

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"herdbook/internal/repo"
)

// publish reads into which repository the image goes.
func (l *loader) publish(b *hcl.Block, image *Image, ctx *hcl.EvalContext, d *Definition) {
	var raw struct {
		Name    string `hcl:"name,optional"`
		Channel string `hcl:"channel,optional"`
	}
	raw.Name, raw.Channel = image.Name, repo.Stable
	given := l.decode(l.content(b.Body, nil, &raw), ctx, &raw)
	if attr := given["name"]; attr != nil && !name.MatchString(raw.Name) {
		l.fault(attr.Expr.Range(), "Bad name", fmt.Sprintf("%q cannot be the name of a published image. %s", raw.Name, nameRule))
	}
	l.channel(given["channel"], raw.Channel)
	known := map[string]Repository{}
	for _, r := range d.Repositories {
		known[r.Name] = r
	}
	p := Publish{b.Labels[0], raw.Name, raw.Channel}
	r, ok := known[p.Repository]
	if !ok {
		l.fault(b.LabelRanges[0], "Unknown repository", fmt.Sprintf("The definition has no repository %q.%s", p.Repository, suggest(p.Repository, slices.Collect(maps.Keys(known)))))
	} else if reason := r.ReadOnly(); reason != "" && !l.faulty[r.Name] {
		l.fault(b.LabelRanges[0], "Repository is only read", fmt.Sprintf("Nothing can be published into the repository %q: %s.", r.Name, reason))
	}
	if before, twice := l.published[p]; twice {
		l.fault(b.DefRange, "Published twice", fmt.Sprintf("The repository %q gets an image %q in the channel %s at %s already.", p.Repository, p.Name, p.Channel, before))
	} else {
		l.published[p] = l.position(b.DefRange)
	}
	image.Publish = append(image.Publish, p)
}

// channel reports what cannot be the name of a channel.
func (l *loader) channel(attr *hcl.Attribute, text string) {
	if attr == nil {
		return
	}
	if err := repo.CheckChannel(text); err != nil {
		l.fault(attr.Expr.Range(), "Bad channel", err.Error()+".")
	}
}
