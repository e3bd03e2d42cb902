package web

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// differences are the packages that one state has and another has not.
type differences struct {
	Added, Removed rows[Package]
	Changed        rows[Change]
}

// None tells whether the packages are the same.
func (d differences) None() bool { return d.Added.Total+d.Removed.Total+d.Changed.Total == 0 }

// Summary counts them in words.
func (d differences) Summary() string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{d.Added.Total, "added"}, {d.Removed.Total, "removed"}, {d.Changed.Total, "changed"}} {
		if p.n > 0 {
			parts = append(parts, exact(int64(p.n))+" "+p.what)
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "no packages")
}

// compareData is what compare.html shows.
type compareData struct {
	Image       string
	Arch        string
	Several     bool
	A, B        *Revision
	Unread      []int // revisions without a manifest that could be read
	Common      int   // layers that both have
	Layers      []comparedLayer
	Differences differences
	Sizes       [2]int64 // bytes that the packages of each take
}

// comparedLayer is a layer that only one of two revisions has.
type comparedLayer struct {
	Layer
	In int // the revision
}

// Fetched is how much more there is to download.
func (d compareData) Fetched() int64 { return d.B.Fetch().Size - d.A.Fetch().Size }

// Disk is how much larger the disk is.
func (d compareData) Disk() int64 { return d.B.Size - d.A.Size }

// Grown is how much more the packages take.
func (d compareData) Grown() int64 { return d.Sizes[1] - d.Sizes[0] }

// choose leads from the form to the page that compares.
func (h *Handler) choose(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	to := h.prefix + "/-/compare/" + url.PathEscape(r.PathValue("name")) + "/" + url.PathEscape(cmp.Or(q.Get("a"), "-")) + "/" + url.PathEscape(cmp.Or(q.Get("b"), "-"))
	if arch := q.Get("arch"); arch != "" {
		to += "?arch=" + url.QueryEscape(arch)
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (h *Handler) compare(q *request) (view, error) {
	p, a, err := q.find("a")
	if err != nil {
		return view{}, err
	}
	_, b, err := q.find("b")
	if err != nil {
		return view{}, err
	}
	if a.Arch != b.Arch {
		return view{}, fmt.Errorf("%w: revision %d is for %s and revision %d for %s", errQuestion, a.Number, a.Arch, b.Number, b.Arch)
	}
	d := compareData{Image: p.Name, Arch: a.Arch, Several: p.Several(), A: a, B: b}
	var of [2]Manifest
	for i, r := range []*Revision{a, b} {
		var data revisionData
		of[i] = h.manifest(q, r, &data)
		if data.Manifest == "" || data.Unread {
			d.Unread = append(d.Unread, r.Number)
		}
	}
	if d.Unread = slices.Compact(d.Unread); len(d.Unread) == 0 {
		d.Common, d.Layers = comparedLayers(of[0].Layers, of[1].Layers, a.Number, b.Number)
		d.Differences = comparePackages(of[0].Packages, of[1].Packages)
		d.Sizes = [2]int64{total(of[0].Packages), total(of[1].Packages)}
	}
	return view{"compare", fmt.Sprintf("%s, from revision %d to %d", p.Name, a.Number, b.Number), d}, nil
}

func total(packages []Package) (n int64) {
	for _, p := range packages {
		n += p.Size
	}
	return n
}

// comparedLayers returns how many layers two pedigrees have in common, and those
// that come behind, which only one of them has.
func comparedLayers(a, b []Layer, inA, inB int) (common int, list []comparedLayer) {
	for common < min(len(a), len(b)) && a[common].Digest == b[common].Digest {
		common++
	}
	for _, l := range a[common:] {
		list = append(list, comparedLayer{l, inA})
	}
	for _, l := range b[common:] {
		list = append(list, comparedLayer{l, inB})
	}
	return common, list
}

// comparePackages returns what b has and a has not. A package that both have in one
// version each has changed; of one that can be there several times, such as a
// kernel, versions come and go.
func comparePackages(a, b []Package) differences {
	type key struct{ name, arch string }
	group := func(list []Package) map[key][]Package {
		m := map[key][]Package{}
		for _, p := range list {
			m[key{p.Name, p.Arch}] = append(m[key{p.Name, p.Arch}], p)
		}
		return m
	}
	var added, removed []Package
	var changed []Change
	before, after := group(a), group(b)
	lacking := func(list, in []Package) []Package {
		return slices.DeleteFunc(slices.Clone(list), func(p Package) bool {
			return slices.ContainsFunc(in, func(o Package) bool { return o.Version == p.Version })
		})
	}
	for k, list := range after {
		old := before[k]
		if len(list) == 1 && len(old) == 1 {
			if o, n := old[0], list[0]; o.Version != n.Version {
				changed = append(changed, Change{n.Name, n.Arch, o.Version, n.Version, n.Size - o.Size})
			}
			continue
		}
		added = append(added, lacking(list, old)...)
	}
	for k, list := range before {
		if len(list) != 1 || len(after[k]) != 1 {
			removed = append(removed, lacking(list, after[k])...)
		}
	}
	byName := func(a, b Package) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Arch, b.Arch), strings.Compare(a.Version, b.Version))
	}
	slices.SortFunc(added, byName)
	slices.SortFunc(removed, byName)
	slices.SortFunc(changed, func(a, b Change) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Arch, b.Arch))
	})
	room := maxAll
	return differences{firstOf(added, &room), firstOf(removed, &room), firstOf(changed, &room)}
}
