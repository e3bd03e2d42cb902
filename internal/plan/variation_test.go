package plan

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"herdbook/internal/op"
)

// variation is one way to change one field of a value.
type variation struct {
	field string // TYPE.FIELD, such as op.File.Path
	how   string
	same  bool // the value means the same afterwards
	apply func()
}

// variations lists what can be changed in what v points to, field by field, down
// to strings and numbers. The order depends on the types and the lengths only.
func variations(v reflect.Value, field string) []variation {
	if v.Type() == reflect.TypeFor[op.Secret]() {
		return secretVariations(v, field)
	}
	switch v.Kind() {
	case reflect.Interface:
		if v.IsNil() {
			return nil
		}
		return variations(v.Elem(), field)
	case reflect.Pointer:
		return pointerVariations(v, field)
	case reflect.Struct:
		var list []variation
		for i := range v.NumField() {
			list = append(list, variations(v.Field(i), v.Type().String()+"."+v.Type().Field(i).Name)...)
		}
		return list
	case reflect.Map:
		if v.Type() == reflect.TypeFor[map[string]string]() && v.IsNil() {
			return []variation{{field, "has one", false, func() { v.Set(reflect.ValueOf(map[string]string{"added": ""})) }}}
		}
		if m, ok := v.Interface().(map[string]string); ok {
			return textVariations(m, field)
		}
		return mapVariations(v.Interface().(map[string]op.Secret), field)
	case reflect.Slice:
		return sliceVariations(v, field)
	case reflect.String:
		list := []variation{{field, "is longer", false, func() { v.SetString(v.String() + "x") }}}
		if v.String() != "" {
			list = append(list, variation{field, "is empty", false, func() { v.SetString("") }})
		}
		return list
	case reflect.Bool:
		return []variation{{field, "is the other", false, func() { v.SetBool(!v.Bool()) }}}
	case reflect.Uint16:
		return []variation{{field, "is larger", false, func() { v.SetUint(v.Uint() + 1) }}}
	case reflect.Int, reflect.Int64:
		return []variation{{field, "is larger", false, func() { v.SetInt(v.Int() + 1) }}}
	}
	panic(fmt.Sprintf("%s: no variation of a %s", field, v.Type()))
}

func secretVariations(v reflect.Value, field string) []variation {
	s := v.Addr().Interface().(*op.Secret)
	list := []variation{{field, "is a literal", false, func() { *s = op.Secret{Value: s.Value + "x"} }}}
	if s.Name != "" {
		list = append(list,
			variation{field, "has another value", true, func() { s.Value += "x" }},
			variation{field, "has another name", false, func() { s.Name += "X" }},
			variation{field, "has another text around it", false, func() { s.Around += "x" }},
			variation{field, "has another version", false, func() { s.Version += "x" }})
	}
	return list
}

func mapVariations(m map[string]op.Secret, field string) []variation {
	list := []variation{{field, "has one more", false, func() { m[fmt.Sprint("ADDED", len(m))] = op.Secret{} }}}
	for name := range m {
		list = append(list, variation{field, "has no " + name, false, func() { delete(m, name) }})
		secret := reflect.New(reflect.TypeFor[op.Secret]()).Elem()
		secret.Set(reflect.ValueOf(m[name]))
		for _, inner := range secretVariations(secret, field) {
			list = append(list, variation{field, name + " " + inner.how, inner.same, func() {
				inner.apply()
				m[name] = secret.Interface().(op.Secret)
			}})
		}
	}
	slices.SortFunc(list, func(a, b variation) int { return strings.Compare(a.how, b.how) })
	return list
}

func textVariations(m map[string]string, field string) []variation {
	list := []variation{{field, "has one more", false, func() { m[fmt.Sprint("added", len(m))] = "" }}}
	for name, value := range m {
		list = append(list,
			variation{field, "has no " + name, false, func() { delete(m, name) }},
			variation{field, name + " is longer", false, func() { m[name] = value + "x" }})
	}
	slices.SortFunc(list, func(a, b variation) int { return strings.Compare(a.how, b.how) })
	return list
}

// networkVariations: there may be none, and one that is there may be another.
func networkVariations(v reflect.Value, field string) []variation {
	if v.IsNil() {
		return []variation{{field, "is there", false, func() { v.Set(reflect.ValueOf(network())) }}}
	}
	return append(variations(v.Elem(), field), variation{field, "is not there", false, func() { v.SetZero() }})
}

// pointerVariations of an optional flag: each of its three values; else of what it
// points to.
func pointerVariations(v reflect.Value, field string) []variation {
	if field == "definition.Step.Network" {
		return networkVariations(v, field)
	}
	flag, ok := v.Interface().(*bool)
	if !ok {
		if v.IsNil() {
			return nil
		}
		return variations(v.Elem(), field)
	}
	yes, no := true, false
	all := []*bool{nil, &yes, &no}
	var list []variation
	for _, other := range all {
		if (flag == nil) != (other == nil) || flag != nil && *flag != *other {
			list = append(list, variation{field, "is another of three", false, func() { v.Set(reflect.ValueOf(other)) }})
		}
	}
	return list
}

// unordered are the lists whose order means nothing, nor does it mean anything
// that a name stands twice in them.
var unordered = map[string]bool{
	"op.Packages.Install": true, "op.Packages.Remove": true, "definition.Bootstrap.Include": true, "op.Sysprep.Operations": true,
	"op.Sysprep.Enable": true, "op.Sysprep.RemoveUserAccounts": true, "op.Sysprep.KeepUserAccounts": true,
}

func sliceVariations(v reflect.Value, field string) []variation {
	n := v.Len()
	var list []variation
	twisted := func() reflect.Value {
		list := reflect.MakeSlice(v.Type(), 0, n)
		for i := range n {
			list = reflect.Append(list, v.Index(n-1-i))
		}
		return list
	}
	if n > 1 && !reflect.DeepEqual(twisted().Interface(), v.Interface()) { // some lists read the same both ways
		list = append(list, variation{field, "is in another order", unordered[field], func() { v.Set(twisted()) }})
	}
	if n > 0 && unordered[field] {
		list = append(list, variation{field, "has one twice", true, func() { v.Set(reflect.Append(v, v.Index(0))) }})
	}
	if field == "op.Sysprep.Operations" || field == "op.Sysprep.Enable" {
		return append(list, sysprepVariations(v.Addr().Interface().(*[]string), field)...)
	}
	if n > 0 {
		list = append(list, variation{field, "lacks one", unordered[field] && standsBefore(v, n-1), func() { v.Set(v.Slice(0, n-1)) }})
	}
	if texts, ok := v.Addr().Interface().(*[]string); ok {
		list = append(list, variation{field, "has one more", false, func() { *texts = append(slices.Clone(*texts), fmt.Sprint("added", n)) }})
	}
	for i := range n {
		list = append(list, variations(v.Index(i), field)...)
	}
	return list
}

// standsBefore tells whether what a list has at n stands further up, too.
func standsBefore(list reflect.Value, n int) bool {
	for i := range n {
		if reflect.DeepEqual(list.Index(i).Interface(), list.Index(n).Interface()) {
			return true
		}
	}
	return false
}

// sysprepVariations stay with what there is. None at all means the defaults.
func sysprepVariations(list *[]string, field string) []variation {
	const other = "hostname" // no default, and in none of the values
	if len(*list) > 0 {
		return []variation{{field, "has one more", false, func() { *list = append(slices.Clone(*list), other) }}}
	}
	if field == "op.Sysprep.Enable" {
		return []variation{{field, "has one", false, func() { *list = []string{other} }}}
	}
	return []variation{
		{field, "spells the default out", true, func() { *list = defaults() }},
		{field, "says the default", true, func() { *list = []string{"defaults"} }},
		{field, "lacks one", false, func() { *list = defaults()[1:] }},
	}
}

// defaults are the names of sysprep's default operations.
func defaults() []string {
	var names []string
	for _, o := range (&op.Sysprep{}).Selected() {
		names = append(names, o.Name)
	}
	return names
}
