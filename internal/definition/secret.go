package definition

import (
	"strings"

	"github.com/zclconf/go-cty/cty"

	"herdbook/internal/op"
)

// mark is on every value that env() gave, and passes to all that is made of it.
type mark struct {
	name, version string
}

// secretOf makes a secret of a string with its marks; the names of several are
// joined.
func secretOf(v cty.Value) op.Secret {
	plain, marks := v.Unmark()
	var names, versions []string
	for m := range marks {
		if m, ok := m.(mark); ok {
			names, versions = append(names, m.name), append(versions, m.version)
		}
	}
	return op.Secret{Value: plain.AsString(), Name: strings.Join(sorted(names), "+"), Version: strings.Join(sorted(versions), "+")}
}

// isSecret tells whether any part of a value is one.
func isSecret(v cty.Value) bool {
	_, marks := v.UnmarkDeep()
	return len(marks) > 0
}
