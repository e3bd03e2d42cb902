package definition

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// variables evaluates the variable blocks: a value from the command line or the
// environment, else from a file of values, else the default.
func (l *loader) variables(blocks hcl.Blocks) cty.Value {
	values, declared := map[string]cty.Value{}, map[string]hcl.Range{}
	fromFiles := l.variableFiles()
	for _, b := range blocks {
		name := b.Labels[0]
		if before, twice := declared[name]; twice {
			l.fault(b.DefRange, "Variable declared twice", fmt.Sprintf("The variable %q is declared at %s already.", name, l.position(before)))
			continue
		}
		declared[name] = b.DefRange
		if v, ok := l.variable(b, fromFiles); ok {
			values[name] = v
		} else {
			values[name] = cty.DynamicVal
		}
	}
	known := slices.Collect(maps.Keys(declared))
	for _, name := range slices.Sorted(maps.Keys(l.options.Variables)) {
		if _, ok := declared[name]; !ok {
			l.report(hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Unknown variable",
				Detail: fmt.Sprintf("The command line sets the variable %q, which the definition does not declare.%s", name, suggest(name, known))}})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(fromFiles)) {
		if _, ok := declared[name]; !ok {
			l.fault(fromFiles[name].Range, "Unknown variable", fmt.Sprintf("The definition declares no variable %q.%s", name, suggest(name, known)))
		}
	}
	return cty.ObjectVal(values)
}

func (l *loader) variableFiles() map[string]*hcl.Attribute {
	all := map[string]*hcl.Attribute{}
	for _, name := range l.options.VariableFiles {
		file := l.parseFile(name)
		if file == nil {
			continue
		}
		attrs, diags := file.Body.JustAttributes()
		l.report(diags)
		maps.Copy(all, attrs)
	}
	return all
}

func (l *loader) variable(b *hcl.Block, fromFiles map[string]*hcl.Attribute) (cty.Value, bool) {
	content, diags := b.Body.Content(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "default"}, {Name: "type"}, {Name: "description"}}})
	l.report(diags)
	want, value, given := cty.DynamicPseudoType, cty.NilVal, false
	if attr, ok := content.Attributes["type"]; ok {
		t, diags := typeexpr.TypeConstraint(attr.Expr)
		l.report(diags)
		want = t
	}
	if attr, ok := content.Attributes["default"]; ok {
		v, diags := attr.Expr.Value(nil)
		l.report(diags)
		if value, given = v, true; want == cty.DynamicPseudoType && !diags.HasErrors() {
			want = typeLike(v.Type())
		}
	}
	name, at := b.Labels[0], b.DefRange
	if attr, ok := fromFiles[name]; ok {
		v, diags := attr.Expr.Value(nil)
		l.report(diags)
		value, given, at = v, true, attr.Range
	}
	if text, ok := l.fromOutside(name); ok {
		value, given = l.parseVariable(name, text, want), true
	}
	if !given {
		l.fault(b.DefRange, "Variable without a value", fmt.Sprintf("The variable %q has no default. Set it with --var %s=VALUE or in the environment as %s%s.", name, name, VariablePrefix, name))
		return cty.NilVal, false
	}
	converted, err := convert.Convert(value, want)
	if err != nil {
		l.fault(at, "Wrong value", fmt.Sprintf("The variable %q: want %s, have %s.", name, want.FriendlyName(), value.Type().FriendlyName()))
		return cty.NilVal, false
	}
	return converted, true
}

// typeLike is the type that a default asks of other values: one of any length if
// its elements are all of one type.
func typeLike(t cty.Type) cty.Type {
	var elements []cty.Type
	var make func(cty.Type) cty.Type
	switch {
	case t.IsTupleType():
		elements, make = t.TupleElementTypes(), cty.List
	case t.IsObjectType():
		elements, make = slices.Collect(maps.Values(t.AttributeTypes())), cty.Map
	default:
		return t
	}
	if len(elements) == 0 {
		return make(cty.DynamicPseudoType)
	}
	if slices.ContainsFunc(elements, func(e cty.Type) bool { return !e.Equals(elements[0]) }) {
		return t
	}
	return make(elements[0])
}

// fromOutside finds a variable's text on the command line or, failing that, in
// the environment.
func (l *loader) fromOutside(name string) (string, bool) {
	if text, ok := l.options.Variables[name]; ok {
		return text, true
	}
	if l.options.LookupEnv == nil {
		return "", false
	}
	return l.options.LookupEnv(VariablePrefix + name)
}

// parseVariable reads a value from outside: text as it stands for a string, an
// expression for anything else.
func (l *loader) parseVariable(name, text string, want cty.Type) cty.Value {
	if want == cty.String || want == cty.DynamicPseudoType || want.IsPrimitiveType() {
		return cty.StringVal(text)
	}
	tokens, _ := hclsyntax.LexExpression([]byte(text), "--var "+name, hcl.InitialPos)
	if checkDepth(tokens).HasErrors() {
		return cty.StringVal(text)
	}
	expr, diags := hclsyntax.ParseExpression([]byte(text), "--var "+name, hcl.InitialPos)
	if !diags.HasErrors() {
		v, more := expr.Value(nil)
		if !more.HasErrors() {
			return v
		}
	}
	return cty.StringVal(text) // to be refused by its type
}

// locals evaluates the locals, each when those that it needs are there.
func (l *loader) locals(blocks hcl.Blocks, ctx *hcl.EvalContext) {
	waiting := map[string]*hcl.Attribute{}
	for _, b := range blocks {
		attrs, diags := b.Body.JustAttributes()
		l.report(diags)
		for name, attr := range attrs {
			if before, twice := waiting[name]; twice {
				l.fault(attr.NameRange, "Local declared twice", fmt.Sprintf("The local %q is declared at %s already.", name, l.position(before.Range)))
				continue
			}
			waiting[name] = attr
		}
	}
	values := map[string]cty.Value{}
	ctx.Variables["local"] = cty.ObjectVal(values)
	for len(waiting) > 0 {
		moved := false
		for _, name := range slices.Sorted(maps.Keys(waiting)) {
			if waitsFor(waiting[name].Expr, waiting) {
				continue
			}
			value, ok := l.evaluate(waiting[name].Expr, ctx)
			if !ok {
				value = cty.DynamicVal
			}
			values[name], moved = value, true
			delete(waiting, name)
			ctx.Variables["local"] = cty.ObjectVal(values)
		}
		if !moved {
			for _, name := range slices.Sorted(maps.Keys(waiting)) {
				l.fault(waiting[name].NameRange, "Locals in a circle", fmt.Sprintf("The local %q needs itself, perhaps through others.", name))
			}
			return
		}
	}
}

// waitsFor tells whether an expression uses a local that is not there yet.
func waitsFor(expr hcl.Expression, waiting map[string]*hcl.Attribute) bool {
	for _, t := range expr.Variables() {
		if t.RootName() == "local" && len(t) > 1 {
			if step, ok := t[1].(hcl.TraverseAttr); ok && waiting[step.Name] != nil {
				return true
			}
		}
	}
	return false
}

// unknownNames reports every image.NAME, var.NAME and local.NAME of an expression
// that is not there, and returns where they stand: the library's own message would
// not say which there are.
func (l *loader) unknownNames(expr hcl.Expression, ctx *hcl.EvalContext) []hcl.Range {
	var unknown []hcl.Range
	for _, t := range expr.Variables() {
		kind, listed := map[string]string{"image": "image", "var": "variable", "local": "local"}[t.RootName()]
		if !listed || len(t) < 2 {
			continue
		}
		step, isName := t[1].(hcl.TraverseAttr)
		object, has := ctx.Variables[t.RootName()]
		for p := ctx.Parent(); !has && p != nil; p = p.Parent() {
			object, has = p.Variables[t.RootName()]
		}
		if !isName || !has || !object.Type().IsObjectType() || object.Type().HasAttribute(step.Name) {
			continue
		}
		known := slices.Collect(maps.Keys(object.Type().AttributeTypes()))
		l.fault(step.SrcRange, "Unknown "+kind, fmt.Sprintf("The definition has no %s %q.%s", kind, step.Name, suggest(step.Name, known)))
		unknown = append(unknown, t.SourceRange())
	}
	return unknown
}
