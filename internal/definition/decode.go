package definition

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/gocty"

	"herdbook/internal/op"
)

// field is a field of a struct that the definition sets: those with a tag
// `hcl:"name"` or `hcl:"name,optional"`.
type field struct {
	name     string
	optional bool
	index    int
}

func fieldsOf(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		if tag, ok := t.Field(i).Tag.Lookup("hcl"); ok {
			name, option, _ := strings.Cut(tag, ",")
			fields = append(fields, field{name, option == "optional", i})
		}
	}
	return fields
}

// content reads a block's body by the fields of structs and the blocks allowed.
func (l *loader) content(body hcl.Body, blocks []hcl.BlockHeaderSchema, targets ...any) *hcl.BodyContent {
	schema := &hcl.BodySchema{Blocks: blocks}
	for _, target := range targets {
		for _, f := range fieldsOf(reflect.TypeOf(target).Elem()) {
			schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: f.name, Required: !f.optional})
		}
	}
	content, diags := body.Content(schema)
	l.report(diags)
	return content
}

// decode sets the fields of target from the attributes of a block.
func (l *loader) decode(content *hcl.BodyContent, ctx *hcl.EvalContext, target any) {
	v := reflect.ValueOf(target).Elem()
	for _, f := range fieldsOf(v.Type()) {
		attr, ok := content.Attributes[f.name]
		if !ok {
			continue
		}
		value, ok := l.evaluate(attr.Expr, ctx)
		if !ok {
			continue
		}
		if err := set(v.Field(f.index), value); err != nil {
			l.fault(attr.Expr.Range(), "Wrong value", fmt.Sprintf("%s: %v.", f.name, err))
		}
	}
}

// evaluate evaluates an expression; false if it has a problem, which is reported.
func (l *loader) evaluate(expr hcl.Expression, ctx *hcl.EvalContext) (cty.Value, bool) {
	if !l.knownNames(expr, ctx) {
		return cty.NilVal, false
	}
	value, diags := expr.Value(ctx)
	l.report(diags)
	return value, !diags.HasErrors()
}

var secretType = reflect.TypeFor[op.Secret]()

// set converts a value of the definition to a Go value.
func set(v reflect.Value, value cty.Value) error {
	plain, _ := value.Unmark()
	if plain.IsNull() {
		return nil // as if it were not given
	}
	switch {
	case v.Type() == secretType:
		s, err := convert.Convert(value, cty.String)
		if err != nil {
			return wrongType("a string", value)
		}
		v.Set(reflect.ValueOf(secretOf(s)))
		return nil
	case v.Kind() == reflect.Map && v.Type().Elem() == secretType:
		return setSecrets(v, value)
	case isSecret(value):
		return fmt.Errorf("a secret (env) may not stand here: its value would be written into the image or its record")
	}
	want, name := typeOf(v.Type())
	converted, err := convert.Convert(value, want)
	if err != nil || !converted.IsWhollyKnown() {
		return wrongType(name, value)
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if err := gocty.FromCtyValue(converted, v.Addr().Interface()); err != nil {
		return wrongType(name, value)
	}
	return nil
}

func setSecrets(v reflect.Value, value cty.Value) error {
	plain, marks := value.Unmark()
	if len(marks) > 0 || !plain.CanIterateElements() || !plain.Type().IsObjectType() && !plain.Type().IsMapType() {
		return wrongType("a map of strings", value)
	}
	v.Set(reflect.MakeMap(v.Type()))
	for key, element := range plain.AsValueMap() {
		s, err := convert.Convert(element, cty.String)
		if err != nil {
			return wrongType("a map of strings", value)
		}
		if bare, _ := s.Unmark(); bare.IsNull() || !bare.IsKnown() {
			return wrongType("a map of strings", value)
		}
		v.SetMapIndex(reflect.ValueOf(key), reflect.ValueOf(secretOf(s)))
	}
	return nil
}

// typeOf gives the type that a Go type is converted from, and its name.
func typeOf(t reflect.Type) (cty.Type, string) {
	switch t.Kind() {
	case reflect.Pointer:
		return typeOf(t.Elem())
	case reflect.Bool:
		return cty.Bool, "true or false"
	case reflect.Int, reflect.Int64:
		return cty.Number, "a whole number"
	case reflect.Slice:
		return cty.List(cty.String), "a list of strings"
	}
	return cty.String, "a string"
}

func wrongType(want string, got cty.Value) error {
	return fmt.Errorf("want %s, have %s", want, got.Type().FriendlyName())
}

// suggest adds a "did you mean" to a message, if a known name is near.
func suggest(name string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if d := levenshtein.Distance(name, k, nil); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf(" Did you mean %q?", best)
	}
	if len(known) == 0 {
		return " There is none."
	}
	return fmt.Sprintf(" There is %s.", strings.Join(slices.Sorted(slices.Values(known)), ", "))
}
