package web

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	imagesPerPage    = 50
	revisionsPerPage = 100
	packagesPerPage  = 200
	maxKernels       = 5
	maxQuery         = 200 // bytes
)

// asked is what the request searches for.
func asked(r *http.Request) string {
	q := strings.ToValidUTF8(strings.TrimSpace(r.URL.Query().Get("q")), "")
	for len(q) > maxQuery {
		_, size := utf8.DecodeLastRuneInString(q)
		q = q[:len(q)-size]
	}
	return q
}

// paging is which part of a list a page shows.
type paging struct {
	Total       int
	First, Last int // of the things shown, counted from 1
	Page, Pages int
	Older       string // the page behind, as a query; "" if there is none
	Earlier     string // the page before
}

// paged returns the part of a list that a request asks for.
func paged[T any](r *http.Request, list []T, size int) ([]T, paging) {
	n, err := strconv.Atoi(r.URL.Query().Get("page"))
	p := paging{Total: len(list), Pages: max(1, (len(list)+size-1)/size)}
	if err != nil {
		n = 1
	}
	p.Page = min(max(n, 1), p.Pages)
	from := (p.Page - 1) * size
	to := min(from+size, len(list))
	p.First, p.Last = min(from+1, to), to
	link := func(page int) string {
		q := url.Values{"page": {fmt.Sprint(page)}}
		for _, key := range []string{"q", "arch"} {
			if v := r.URL.Query().Get(key); v != "" {
				q.Set(key, v)
			}
		}
		return "?" + q.Encode()
	}
	if p.Page > 1 {
		p.Earlier = link(p.Page - 1)
	}
	if p.Page < p.Pages {
		p.Older = link(p.Page + 1)
	}
	return list[from:to], p
}

// indexData is what index.html shows.
type indexData struct {
	Query  string
	Hits   []hit
	Paging paging
	Images int
	Unread int // manifests that were not looked through for packages
	Verify []command
}

func (h *Handler) index(q *request) (view, error) {
	d := indexData{Query: asked(q.Request), Images: len(q.images)}
	if d.Query != "" {
		var manifests []string
		for _, p := range q.images {
			manifests = append(manifests, p.manifests...)
		}
		d.Unread = h.content.read(q.Context(), h.source, manifests)
	}
	d.Hits, d.Paging = paged(q.Request, q.search(d.Query, &h.content), imagesPerPage)
	if q.repository.Fingerprint != "" {
		d.Verify = trust(q.base)
	}
	title := "Images"
	if d.Query != "" {
		title = "Images with " + d.Query
	}
	return view{"index", title, d}, nil
}

// imageData is what image.html shows.
type imageData struct {
	*picture
	Arch     string
	Shown    *Revision
	List     []*Revision // of the architecture, a part of them
	Paging   paging
	Choices  []int // revisions that can be compared: those of the list and those of channels
	Pointers []pointer
	Places   []place
	Before   int // the revision that comparing begins with
	Newest   int
}

func (h *Handler) image(q *request) (view, error) {
	p := q.byName[q.PathValue("name")]
	if p == nil {
		return view{}, errNothing
	}
	arch := q.URL.Query().Get("arch")
	d := imageData{picture: p, Shown: p.Shown(arch)}
	if d.Shown == nil {
		return view{}, errNothing
	}
	d.Arch = d.Shown.Arch
	all := p.Of(d.Arch)
	d.List, d.Paging = paged(q.Request, all, revisionsPerPage)
	for _, r := range d.List {
		d.Choices = append(d.Choices, r.Number)
	}
	for _, one := range p.Pointers() {
		if one.Revision.Arch == d.Arch {
			d.Pointers = append(d.Pointers, one)
			d.Choices = append(d.Choices, one.Revision.Number)
		}
	}
	d.Newest, d.Before = all[0].Number, d.Shown.Number
	if d.Before == d.Newest {
		d.Before = all[min(1, len(all)-1)].Number
	}
	d.Choices = append(d.Choices, d.Newest, d.Before)
	slices.Sort(d.Choices)
	d.Choices = slices.Compact(d.Choices)
	slices.Reverse(d.Choices)
	d.Places = places(q, d.Shown, p.Several())
	return view{"image", p.Name, d}, nil
}

// find returns the revision that a part of the path names.
func (q *request) find(part string) (*picture, *Revision, error) {
	p := q.byName[q.PathValue("name")]
	number, err := strconv.Atoi(q.PathValue(part))
	if p == nil || err != nil {
		return nil, nil, errNothing
	}
	arch := q.URL.Query().Get("arch")
	for _, r := range p.Revisions {
		if r.Number == number && (arch == "" || r.Arch == arch) {
			return p, r, nil
		}
	}
	return nil, nil, errNothing
}

// revisionData is what revision.html shows.
type revisionData struct {
	*Revision
	Several  bool
	Before   int    // the revision before it; 0 if there is none
	Manifest string // its file; "" if there is none
	Unread   bool   // the manifest is there and could not be read
	Whole    string // the system, as the manifest has it, or the index
	Kernels  []string
	Query    string
	All      int // packages
	Packages []Package
	Paging   paging
	Pedigree pedigree
	Layers   []layerData
	Use      []command
}

func (h *Handler) revision(q *request) (view, error) {
	p, r, err := q.find("revision")
	if err != nil {
		return view{}, err
	}
	d := revisionData{Revision: r, Several: p.Several(), Query: asked(q.Request)}
	for _, other := range p.Of(r.Arch) {
		if other.Number < r.Number {
			d.Before = max(d.Before, other.Number)
		}
	}
	m := h.manifest(q, r, &d)
	d.All, d.Whole, d.Kernels = len(m.Packages), cmp.Or(m.System, r.System), m.Kernels[:min(len(m.Kernels), maxKernels)]
	word := strings.ToLower(d.Query)
	matching := m.Packages
	if word != "" {
		matching = slices.DeleteFunc(slices.Clone(matching), func(p Package) bool { return !strings.Contains(strings.ToLower(p.Name), word) })
	}
	d.Packages, d.Paging = paged(q.Request, matching, packagesPerPage)
	d.Pedigree, d.Layers = draw(m.Layers), explainLayers(m.Layers)
	if r.Fetch().File != "" {
		d.Use = download(q.base, r.Fetch())
	}
	return view{"revision", fmt.Sprintf("%s, revision %d", r.Image, r.Number), d}, nil
}

// manifest reads that of a revision. A page can do without.
func (h *Handler) manifest(q *request, r *Revision, d *revisionData) Manifest {
	a, ok := r.artefact("manifest")
	if !ok {
		return Manifest{}
	}
	d.Manifest = a.File
	m, err := h.source.Manifest(q.Context(), a.File)
	d.Unread = err != nil
	return m
}
