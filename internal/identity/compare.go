package identity

import (
	"fmt"
	"slices"
	"strings"
)

// Defect is one thing about two clones that must not be. The values come from a
// guest, and fit into one line.
type Defect struct {
	Name   string
	Reason string   // what is wrong, a clause
	Values []string // VALUE (PATH, PATH…), none if something is missing
	Hint   string   // what to do, a clause
}

// String is a sentence without its full stop.
func (d Defect) String() string {
	text := d.Name + ": " + d.Reason
	if len(d.Values) > 0 {
		text += ": " + strings.Join(d.Values, ", ")
	}
	return text + "; " + d.Hint
}

// Compare holds two clones of an image against each other. Quiet is what was on the
// image before either started, a and b what they had when they were up. The names
// in allow may be shared; those in require may not, though clones often do. It
// returns what must not be, in the order of the table.
func Compare(quiet, a, b []Fact, allow, require []string) []Defect {
	var defects []Defect
	for _, k := range kinds {
		switch k.with(allow, require) {
		case absent:
			defects = append(defects, k.onImage(quiet)...)
		case own:
			defects = append(defects, k.missing(a, b)...)
			defects = append(defects, k.shared(a, b)...)
		case differ:
			defects = append(defects, k.shared(a, b)...)
		}
	}
	return defects
}

// shared is what both have.
func (k kind) shared(a, b []Fact) []Defect {
	theirs := map[string]bool{}
	for _, f := range b {
		if f.Name == k.name && f.Value != "" {
			theirs[f.Value] = true
		}
	}
	values := k.values(a, func(f Fact) bool { return theirs[f.Value] })
	if len(values) == 0 {
		return nil
	}
	return []Defect{{k.name, "both clones have the same", values, k.hint()}}
}

// onImage is what lies on the image already.
func (k kind) onImage(quiet []Fact) []Defect {
	values := k.values(quiet, func(f Fact) bool { return f.Value != "" })
	if len(values) == 0 {
		return nil
	}
	return []Defect{{k.name, "it lies on the image, so that every clone starts with the same", values, k.hint()}}
}

// missing is what a clone should have made and has not.
func (k kind) missing(clones ...[]Fact) []Defect {
	for _, facts := range clones {
		i := slices.IndexFunc(facts, func(f Fact) bool { return f.Name == k.name && f.Value == "" })
		if i >= 0 {
			return []Defect{{
				Name: k.name, Reason: fmt.Sprintf("a clone has none, although there is %s", facts[i].Where),
				Hint: "something must make it at the first start",
			}}
		}
	}
	return nil
}

// values lists the values of this kind that are chosen, each with its places.
func (k kind) values(facts []Fact, chosen func(Fact) bool) []string {
	places := map[string][]string{}
	var values []string
	for _, f := range facts {
		if f.Name != k.name || !chosen(f) {
			continue
		}
		if places[f.Value] == nil {
			values = append(values, f.Value)
		}
		if !slices.Contains(places[f.Value], f.Where) {
			places[f.Value] = append(places[f.Value], f.Where)
		}
	}
	for i, v := range values {
		values[i] = v + " (" + strings.Join(places[v], ", ") + ")"
	}
	return values
}

// hint says what can be done.
func (k kind) hint() string {
	allowed := fmt.Sprintf("if clones may share it, allow %q", k.name)
	if k.policy == absent {
		allowed = fmt.Sprintf("if it may stay, allow %q", k.name)
	}
	remedies := k.remedies
	if remedies == nil {
		remedies = []string{k.name}
	}
	if len(remedies) == 0 {
		return "delete it on the image; " + allowed
	}
	return "sysprep removes it by the operation " + strings.Join(remedies, " or ") + "; " + allowed
}
