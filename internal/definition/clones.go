package definition

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"herdbook/internal/identity"
)

// clones reads a test that compares two clones.
func (l *loader) clones(b *hcl.Block, image *Image, ctx *hcl.EvalContext) {
	var raw struct {
		Firmware string   `hcl:"firmware,optional"`
		Timeout  string   `hcl:"timeout,optional"`
		Allow    []string `hcl:"allow,optional"`
		Require  []string `hcl:"require,optional"`
	}
	raw.Firmware = "bios"
	given := l.decode(l.content(b.Body, nil, &raw), ctx, &raw)
	l.oneOf(given, "firmware", raw.Firmware, []string{"bios", "uefi"})
	names := identity.Names()
	for field, list := range map[string][]string{"allow": raw.Allow, "require": raw.Require} {
		for _, name := range list {
			if !slices.Contains(names, name) {
				l.fault(given[field].Expr.Range(), "Unknown value", fmt.Sprintf("%s: nothing is called %q that names a machine.%s", field, name, suggest(name, names)))
			} else if field == "require" && slices.Contains(raw.Allow, name) {
				l.fault(given[field].Expr.Range(), "Allowed and required", fmt.Sprintf("%q is in allow, too: leave it out of one of them.", name))
			}
		}
	}
	image.Tests = append(image.Tests, Test{
		Kind: "clones", Firmware: raw.Firmware, Timeout: l.duration(given, raw.Timeout), Position: l.position(b.DefRange),
		Allow: raw.Allow, Require: raw.Require,
	})
}
