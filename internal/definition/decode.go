package definition

import (
	"fmt"
	"maps"
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

// decode sets the fields of target from the attributes of a block and returns
// those attributes that have a value of the right type, which alone need further
// checks. What is null is taken out of content, as if it were not given.
func (l *loader) decode(content *hcl.BodyContent, ctx *hcl.EvalContext, target any) hcl.Attributes {
	given := hcl.Attributes{}
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
		if plain, _ := value.Unmark(); plain.IsNull() {
			delete(content.Attributes, f.name)
			if !f.optional {
				l.fault(attr.Expr.Range(), "Missing value", fmt.Sprintf("%s: it must be given, and is null.", f.name))
			}
			continue
		}
		if err := set(v.Field(f.index), value); err != nil {
			l.fault(attr.Expr.Range(), "Wrong value", fmt.Sprintf("%s: %v.", f.name, err))
			continue
		}
		given[f.name] = attr
	}
	return given
}

// decodeAll decodes into several targets.
func (l *loader) decodeAll(content *hcl.BodyContent, ctx *hcl.EvalContext, targets []any) hcl.Attributes {
	given := hcl.Attributes{}
	for _, target := range targets {
		maps.Copy(given, l.decode(content, ctx, target))
	}
	return given
}

// evaluate evaluates an expression; false if it has a problem, which is reported,
// or needs a value that has one.
func (l *loader) evaluate(expr hcl.Expression, ctx *hcl.EvalContext) (cty.Value, bool) {
	unknown := l.unknownNames(expr, ctx)
	before := l.secrets
	value, diags := expr.Value(ctx)
	if l.secrets > before || usesSecret(expr, ctx) {
		hush(diags)
	}
	l.report(slices.DeleteFunc(diags, func(d *hcl.Diagnostic) bool {
		return d.Subject != nil && slices.ContainsFunc(unknown, d.Subject.Overlaps)
	}))
	if len(unknown) > 0 || diags.HasErrors() || !value.IsWhollyKnown() {
		l.met++
		return cty.NilVal, false
	}
	return value, true
}

var secretType = reflect.TypeFor[op.Secret]()

// set converts a value of the definition, which is known and not null, to a Go value.
func set(v reflect.Value, value cty.Value) error {
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
	if err != nil {
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
	if !plain.Type().IsObjectType() && !plain.Type().IsMapType() {
		return wrongType("a map of strings", value)
	}
	if len(marks) > 0 {
		return fmt.Errorf("the names may not be secret (env), only the values")
	}
	v.Set(reflect.MakeMap(v.Type()))
	for key, element := range plain.AsValueMap() {
		s, err := convert.Convert(element, cty.String)
		if err != nil {
			return wrongType("a map of strings", value)
		}
		if bare, _ := s.Unmark(); bare.IsNull() {
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
	case reflect.Map:
		return cty.Map(cty.String), "a map of strings"
	}
	return cty.String, "a string"
}

func wrongType(want string, got cty.Value) error {
	have := got.Type().FriendlyName()
	switch t := got.Type(); {
	case t.IsTupleType():
		have = "a list"
	case t.IsObjectType():
		have = "an object"
	}
	return fmt.Errorf("want %s, have %s", want, have)
}

// maxListed bounds the names that a message lists.
const maxListed = 30

// suggest adds a "did you mean" to a message, if a known name is near; if none
// is, it tells which names there are.
func suggest(name string, known []string) string {
	best, distance := "", 3
	known = slices.Sorted(slices.Values(known)) // they come out of a map, and of two as near one must win
	for _, k := range known {
		if d := levenshtein.Distance(name, k, nil); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf(" Did you mean %q?", best)
	}
	switch {
	case len(known) == 0:
		return " There is none."
	case len(known) > maxListed:
		return fmt.Sprintf(" There are %d.", len(known))
	}
	return fmt.Sprintf(" There is %s.", strings.Join(known, ", "))
}
