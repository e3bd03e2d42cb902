package definition

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"

	"herdbook/internal/digest"
)

// maxFile bounds what file() reads, in bytes.
const maxFile = 16 << 20

// functions are what an expression may call.
func (l *loader) functions() map[string]function.Function {
	all := map[string]function.Function{
		"abs": stdlib.AbsoluteFunc, "ceil": stdlib.CeilFunc, "chomp": stdlib.ChompFunc, "coalesce": stdlib.CoalesceFunc,
		"concat": stdlib.ConcatFunc, "contains": stdlib.ContainsFunc, "distinct": stdlib.DistinctFunc, "flatten": stdlib.FlattenFunc,
		"floor": stdlib.FloorFunc, "format": stdlib.FormatFunc, "formatlist": stdlib.FormatListFunc, "indent": stdlib.IndentFunc,
		"join": stdlib.JoinFunc, "jsondecode": stdlib.JSONDecodeFunc, "jsonencode": stdlib.JSONEncodeFunc, "keys": stdlib.KeysFunc,
		"length": stdlib.LengthFunc, "lookup": stdlib.LookupFunc, "lower": stdlib.LowerFunc, "max": stdlib.MaxFunc, "merge": stdlib.MergeFunc,
		"min": stdlib.MinFunc, "range": stdlib.RangeFunc, "regex": stdlib.RegexFunc, "regexall": stdlib.RegexAllFunc, "replace": stdlib.ReplaceFunc,
		"reverse": stdlib.ReverseListFunc, "setproduct": stdlib.SetProductFunc, "sort": stdlib.SortFunc, "split": stdlib.SplitFunc,
		"strrev": stdlib.ReverseFunc, "substr": stdlib.SubstrFunc, "title": stdlib.TitleFunc, "trim": stdlib.TrimFunc,
		"trimprefix": stdlib.TrimPrefixFunc, "trimspace": stdlib.TrimSpaceFunc, "trimsuffix": stdlib.TrimSuffixFunc, "upper": stdlib.UpperFunc,
		"values": stdlib.ValuesFunc, "zipmap": stdlib.ZipmapFunc,
		"tolist": stdlib.MakeToFunc(cty.List(cty.DynamicPseudoType)), "tomap": stdlib.MakeToFunc(cty.Map(cty.DynamicPseudoType)),
		"toset": stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)), "tostring": stdlib.MakeToFunc(cty.String),
		"tonumber": stdlib.MakeToFunc(cty.Number), "tobool": stdlib.MakeToFunc(cty.Bool),
		"sha256":       textFunction("text", func(s string) (string, error) { return string(digest.Of([]byte(s))), nil }),
		"base64encode": textFunction("text", func(s string) (string, error) { return base64.StdEncoding.EncodeToString([]byte(s)), nil }),
		"file":         textFunction("path", l.readText),
		"env":          l.envFunction(),
		"secret":       l.envFunction(), // by the name that others have for it
		"secret_file":  l.secretFileFunction(),
	}
	// Templates have no templatefile: one that names itself would never end.
	all["templatefile"] = l.templateFunction(maps.Clone(all))
	return all
}

// textFunction is a function from a string, the parameter name, to a string.
func textFunction(name string, fn func(string) (string, error)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: name, Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			s, err := fn(args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return cty.StringVal(s), nil
		},
	})
}

// path makes a path of the definition absolute.
func (l *loader) path(name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(l.dir, name)
}

func (l *loader) readFile(name string) (string, error) {
	stat, err := os.Stat(l.path(name))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, unwrapPath(err))
	}
	if !stat.Mode().IsRegular() {
		return "", fmt.Errorf("read %s: it is no regular file", name)
	}
	p, err := readBounded(l.path(name), maxFile)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return string(p), nil
}

// readText reads a file that becomes a value, which cannot hold any bytes: they
// would be others in the guest.
func (l *loader) readText(name string) (string, error) {
	text, err := l.readFile(name)
	if err == nil && !utf8.ValidString(text) {
		err = fmt.Errorf("read %s: it is no text in UTF-8; a copy step takes any file", name)
	}
	return text, err
}

// unwrapPath drops the path of an error that already stands in the message.
func unwrapPath(err error) error {
	if p, ok := err.(*os.PathError); ok {
		return p.Err
	}
	return err
}

// templateFunction renders a file as a template with variables of its own.
func (l *loader) templateFunction(functions map[string]function.Function) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{
			{Name: "path", Type: cty.String},
			{Name: "variables", Type: cty.DynamicPseudoType, AllowMarked: true},
		},
		Type: function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := args[0].AsString()
			expr, err := l.template(name)
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			variables, marks := args[1].Unmark()
			if !variables.Type().IsObjectType() && !variables.Type().IsMapType() {
				return cty.NilVal, function.NewArgErrorf(1, "want an object of variables")
			}
			v, diags := expr.Value(&hcl.EvalContext{Variables: variables.AsValueMap(), Functions: functions})
			if diags.HasErrors() {
				return cty.NilVal, function.NewArgError(0, sentence(diags))
			}
			// A template of one ${…} alone gives that value, of whatever type.
			text, err := convert.Convert(v, cty.String)
			if err != nil {
				return cty.NilVal, function.NewArgErrorf(0, "%s: %w", name, err)
			}
			return text.WithMarks(marks), nil
		},
	})
}

// template parses a file as a template.
func (l *loader) template(name string) (hclsyntax.Expression, error) {
	text, err := l.readText(name)
	if err != nil {
		return nil, err
	}
	tokens, _ := hclsyntax.LexTemplate([]byte(text), name, hcl.InitialPos)
	if diags := checkDepth(tokens); diags.HasErrors() {
		return nil, sentence(diags)
	}
	expr, diags := hclsyntax.ParseTemplate([]byte(text), name, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, sentence(diags)
	}
	return expr, nil
}

// sentence is an error without its full stop: the message that it becomes a part
// of has one.
func sentence(diags hcl.Diagnostics) error {
	return errors.New(strings.TrimSuffix(diags.Error(), "."))
}

// secretFunctions are the functions that give secrets. What they say is no secret.
var secretFunctions = []string{"env", "secret", "secret_file"}

// envFunction reads a variable of the environment as a secret.
func (l *loader) envFunction() function.Function {
	return l.secretFunction("name", func(name string) (value, marked string, err error) {
		ok := false
		if l.options.LookupEnv != nil {
			value, ok = l.options.LookupEnv(name)
		}
		if !ok {
			return "", "", fmt.Errorf("the environment variable %s is not set", name)
		}
		return value, name, nil
	})
}

// secretFileFunction reads a file as a secret, without the line ends at its end.
func (l *loader) secretFileFunction() function.Function {
	return l.secretFunction("path", func(path string) (value, marked string, err error) {
		text, err := l.readText(path)
		return strings.TrimRight(text, "\r\n"), "file:" + path, err
	})
}

// secretFunction is a function from a name of the parameter and perhaps a version to a
// secret, of which read returns the value and what keys call it.
func (l *loader) secretFunction(parameter string, read func(name string) (value, marked string, err error)) function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{{Name: parameter, Type: cty.String, AllowMarked: true}},
		VarParam: &function.Parameter{Name: "version", Type: cty.String, AllowMarked: true},
		Type:     function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if len(args) > 2 {
				return cty.NilVal, fmt.Errorf("want a %s and perhaps a version", parameter)
			}
			if slices.ContainsFunc(args, isSecret) {
				return cty.NilVal, fmt.Errorf("its %s and its version may not be secret", parameter)
			}
			name, version := args[0].AsString(), ""
			if len(args) == 2 {
				version = args[1].AsString()
			}
			if name == "" || strings.ContainsAny(name+version, " +") {
				return cty.NilVal, fmt.Errorf("its %s and its version hold neither spaces nor plus signs, and the %s is not empty", parameter, parameter)
			}
			value, marked, err := read(name)
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			l.secrets++
			if l.blind {
				value = fmt.Sprintf("⟦env %s %s⟧", marked, version)
			}
			return cty.StringVal(value).Mark(mark{name: marked, version: version, value: value}), nil
		},
	})
}
