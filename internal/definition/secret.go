package definition

import (
	"cmp"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"herdbook/internal/op"
)

// mark is on every value that a function for secrets gave, and passes to all that is made of it.
type mark struct {
	name, version string
	value         string
}

// secretOf makes a secret of a string with its marks; the names of several are
// joined, and in the same order their versions: each version counts.
func secretOf(v cty.Value) op.Secret {
	plain, marks := v.Unmark()
	var all []mark
	for m := range marks {
		if m, ok := m.(mark); ok {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b mark) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.version, b.version))
	})
	var names, versions, parts []string
	for _, m := range all {
		names, versions, parts = append(names, m.name), append(versions, m.version), append(parts, m.value)
	}
	return op.Secret{Value: plain.AsString(), Name: strings.Join(names, "+"), Version: strings.Join(versions, "+"), Parts: parts}
}

// placeholder is what stands for a secret that is the whole value.
var placeholder = regexp.MustCompile(`^⟦env [^⟦]*⟧$`)

// surround gives every secret of v the text that stands around it, which other, a
// blind reading of the same, has for its value.
func surround(v, other reflect.Value) {
	if !v.IsValid() || !other.IsValid() || v.Type() != other.Type() {
		return
	}
	if v.Type() == secretType {
		s, around := v.Addr().Interface().(*op.Secret), other.Interface().(op.Secret).Value
		if s.Name != "" && around != s.Value && !placeholder.MatchString(around) {
			s.Around = around
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() && !other.IsNil() {
			surround(v.Elem(), other.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			surround(v.Field(i), other.Field(i))
		}
	case reflect.Slice:
		for i := range min(v.Len(), other.Len()) {
			surround(v.Index(i), other.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(v.MapIndex(key))
			surround(value, other.MapIndex(key))
			v.SetMapIndex(key, value)
		}
	}
}

// usesSecret tells whether an expression names a local that holds a secret.
func usesSecret(expr hcl.Expression, ctx *hcl.EvalContext) bool {
	return slices.ContainsFunc(expr.Variables(), func(t hcl.Traversal) bool {
		v, diags := t[:min(2, len(t))].TraverseAbs(ctx)
		return !diags.HasErrors() && isSecret(v)
	})
}

// hush takes out of messages what could be a secret or a part of one, since
// functions and operators tell what they were given. What the functions for
// secrets say stays: they take none.
func hush(diags hcl.Diagnostics) {
	for _, d := range diags {
		if call, ok := hcl.DiagnosticExtra[hclsyntax.FunctionCallDiagExtra](d); !ok || !slices.Contains(secretFunctions, call.CalledFunctionName()) {
			d.Detail = "A secret takes part in this, so no more is told."
		}
	}
}

// isSecret tells whether any part of a value is one.
func isSecret(v cty.Value) bool {
	_, marks := v.UnmarkDeep()
	return len(marks) > 0
}
