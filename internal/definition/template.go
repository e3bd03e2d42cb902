package definition

import (
	"fmt"
	"strconv"

	"github.com/hashicorp/hcl/v2"

	"herdbook/internal/pin"
	"herdbook/internal/repo"
)

// Template makes an image of an image that a repository has. The fields with tags
// are read as they stand.
type Template struct {
	Repository string // of the definition, or a section below virt-builder's repos.d
	Address    string // of the repository; "" if the definition has none of that name: found when it is resolved
	Image      string `hcl:"name"`
	Channel    string `hcl:"channel,optional"`  // "" for stable, or for Revision
	Revision   int    `hcl:"revision,optional"` // 0 for the channel's
	Arch       string `hcl:"arch,optional"`     // as the index has it; "" for this machine's
	Refresh    string `hcl:"refresh,optional"`  // never, daily or always
}

// Selector is what to look for in the index.
func (t Template) Selector() repo.Selector {
	return repo.Selector{Image: t.Image, Arch: t.Arch, Channel: t.Channel, Revision: t.Revision}
}

// Which is the channel or the revision that is meant; "" if none is given.
func (t Template) Which() string {
	if t.Revision != 0 {
		return strconv.Itoa(t.Revision)
	}
	return t.Channel
}

// PinName is its name in the lock file.
func (t Template) PinName() string { return pin.TemplateName(t.Address, t.Image, t.Which(), t.Arch) }

// instantiated reads which image of a repository the image starts from.
func (l *loader) instantiated(b *hcl.Block, ctx *hcl.EvalContext, d *Definition) *Template {
	t := Template{Repository: b.Labels[0], Refresh: "daily"}
	content := l.content(b.Body, nil, &t)
	given := l.decode(content, ctx, &t)
	l.oneOf(given, "refresh", t.Refresh, []string{"never", "daily", "always"})
	l.oneOf(given, "arch", t.Arch, []string{"x86_64"})
	l.channel(given["channel"], t.Channel)
	if attr := given["name"]; attr != nil {
		s, err := repo.ParseSelector(t.Image)
		switch {
		case err != nil:
			l.fault(attr.Expr.Range(), "Bad name", fmt.Sprintf("%q cannot be the name of an image of a repository.", t.Image))
		case s.Image != t.Image:
			l.fault(attr.Expr.Range(), "Bad name", fmt.Sprintf("%q: give what stands behind the @ as channel or as revision.", t.Image))
		}
	}
	if attr := given["revision"]; attr != nil && t.Revision < 1 {
		l.fault(attr.Expr.Range(), "Bad revision", "Revisions are counted from 1.")
	}
	if attr := content.Attributes["revision"]; attr != nil && content.Attributes["channel"] != nil {
		l.fault(attr.Range, "Two revisions", "Give either channel or revision: a channel points to one.")
	}
	if t.Repository == "" {
		l.fault(b.LabelRanges[0], "Unknown repository", "The name of the repository is empty.")
	}
	for _, r := range d.Repositories {
		if r.Name == t.Repository {
			t.Address = r.Address()
		}
	}
	return &t
}
