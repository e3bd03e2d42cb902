package comparison

import (
	"cmp"
	"slices"
	"strings"

	"herdbook/internal/pkgdb"
	"herdbook/internal/survey"
)

// pair is a thing of both systems, or of one: the other is nil.
type pair[T any] struct {
	key           string
	before, after *T
}

// change is what happened to a pair that is not the same.
func (p pair[T]) change() Change {
	switch {
	case p.before == nil:
		return Added
	case p.after == nil:
		return Removed
	}
	return Changed
}

// pairs joins two lists by a key, in its order. Of several with one key the first
// counts, as it does for who looks it up in the guest.
func pairs[T any](before, after []T, key func(T) string) []pair[T] {
	found := map[string]*pair[T]{}
	for i := range before {
		k := key(before[i])
		if found[k] == nil {
			found[k] = &pair[T]{k, &before[i], nil}
		}
	}
	for i := range after {
		k := key(after[i])
		if found[k] == nil {
			found[k] = &pair[T]{k, nil, &after[i]}
		} else if found[k].after == nil {
			found[k].after = &after[i]
		}
	}
	list := make([]pair[T], 0, len(found))
	for _, p := range found {
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b pair[T]) int { return cmp.Compare(a.key, b.key) })
	return list
}

// versions are those of one package: rpm can have several kernels.
type versions struct {
	Package
	list []string
}

// grouped joins the versions of each package.
func grouped(databases []pkgdb.Database) []versions {
	var list []versions
	at := map[Package]int{}
	for _, d := range databases {
		for _, p := range d.Packages {
			key := Package{Manager: d.Manager, Name: p.Name, Architecture: p.Architecture}
			if i, ok := at[key]; ok {
				list[i].list = append(list[i].list, p.Version)
				continue
			}
			at[key] = len(list)
			list = append(list, versions{key, []string{p.Version}})
		}
	}
	return list
}

// Packages tells which versions of packages came and went, by name.
func Packages(before, after []pkgdb.Database) []Package {
	list := []Package{}
	for _, p := range pairs(grouped(before), grouped(after), func(v versions) string { return v.Name + "\x00" + v.Architecture + "\x00" + v.Manager }) {
		var gone, come []string
		from := cmp.Or(p.before, p.after).Package
		if p.before != nil {
			gone = without(p.before.list, p.after)
		}
		if p.after != nil {
			come = without(p.after.list, p.before)
		}
		if len(gone) == 1 && len(come) == 1 {
			from.Change, from.From, from.To = Changed, gone[0], come[0]
			list = append(list, from)
			continue
		}
		for _, version := range gone {
			from.Change, from.From, from.To = Removed, version, ""
			list = append(list, from)
		}
		for _, version := range come {
			from.Change, from.From, from.To = Added, "", version
			list = append(list, from)
		}
	}
	return list
}

// without are the versions that others do not have.
func without(list []string, others *versions) []string {
	if others == nil {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(v string) bool { return slices.Contains(others.list, v) })
}

// differ makes the difference of two things by their fields, which come in the same
// order from both; of what is nil there are none.
func differ[T any](p pair[T], fields func(*T) []Detail) (Difference, bool) {
	d := Difference{Change: p.change(), Name: p.key}
	var before, after []Detail
	if p.before != nil {
		before = fields(p.before)
	}
	if p.after != nil {
		after = fields(p.after)
	}
	for i := range max(len(before), len(after)) {
		var detail Detail
		if i < len(before) {
			detail.What, detail.From = before[i].What, before[i].To
		}
		if i < len(after) {
			detail.What, detail.To = after[i].What, after[i].To
		}
		if detail.From != detail.To {
			d.Details = append(d.Details, detail)
		}
	}
	return d, d.Change != Changed || len(d.Details) > 0
}

// differences are those of two lists.
func differences[T any](before, after []T, key func(T) string, fields func(*T) []Detail) []Difference {
	list := []Difference{}
	for _, p := range pairs(before, after, key) {
		if d, ok := differ(p, fields); ok {
			list = append(list, d)
		}
	}
	return list
}

func units(before, after []survey.Unit) []Difference {
	return differences(before, after, func(u survey.Unit) string { return u.Name },
		func(u *survey.Unit) []Detail { return []Detail{{What: "state", To: u.State}} })
}

func groups(before, after []survey.Group) []Difference {
	return differences(before, after, func(g survey.Group) string { return g.Name }, func(g *survey.Group) []Detail {
		return []Detail{{What: "gid", To: g.GID}, {What: "members", To: strings.Join(slices.Sorted(slices.Values(g.Members)), ",")}}
	})
}

func users(before, after []survey.User) []Difference {
	list := []Difference{}
	for _, p := range pairs(before, after, func(u survey.User) string { return u.Name }) {
		d, ok := differ(p, func(u *survey.User) []Detail {
			return []Detail{{What: "uid", To: u.UID}, {What: "gid", To: u.GID}, {What: "comment", To: u.Comment}, {What: "home", To: u.Home}, {What: "shell", To: u.Shell}, {What: "password", To: u.Password}}
		})
		if d.Change == Changed && p.before.Password == p.after.Password && !p.before.SamePassword(*p.after) {
			d.Details, ok = append(d.Details, Detail{What: "password"}), true
		}
		if ok {
			list = append(list, d)
		}
	}
	return list
}

func sizes(before, after []survey.DirectorySize) []Size {
	list := []Size{}
	for _, p := range pairs(before, after, func(d survey.DirectorySize) string { return strings.ReplaceAll(d.Dir, "/", "\x00") }) {
		s := Size{Dir: cmp.Or(p.before, p.after).Dir}
		if p.before != nil {
			s.From, s.FilesFrom = p.before.Bytes, p.before.Files
		}
		if p.after != nil {
			s.To, s.FilesTo = p.after.Bytes, p.after.Files
		}
		if s.From != s.To || s.FilesFrom != s.FilesTo {
			list = append(list, s)
		}
	}
	return list
}
