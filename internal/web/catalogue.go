package web

import (
	"cmp"
	"slices"
	"strings"
)

// catalogue is a repository in the order in which people look for things.
type catalogue struct {
	repository *Repository
	images     []*picture // by name
	byName     map[string]*picture
}

// picture is an image with its revisions.
type picture struct {
	Name      string
	Archs     []string
	Revisions []*Revision // by architecture, the newest first
	text      string      // all that is looked through, in lower case
	manifests []string    // files of those manifests whose packages are looked through
}

// pointer is what a channel points to.
type pointer struct {
	Channel
	Revision *Revision
}

func newCatalogue(repository *Repository) *catalogue {
	c := &catalogue{repository: repository, byName: map[string]*picture{}}
	for i := range repository.Revisions {
		r := &repository.Revisions[i]
		p := c.byName[r.Image]
		if p == nil {
			p = &picture{Name: r.Image}
			c.byName[r.Image] = p
			c.images = append(c.images, p)
		}
		p.Revisions = append(p.Revisions, r)
		if !slices.Contains(p.Archs, r.Arch) {
			p.Archs = append(p.Archs, r.Arch)
		}
	}
	slices.SortFunc(c.images, func(a, b *picture) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range c.images {
		p.prepare()
	}
	return c
}

// prepare sorts the revisions and notes what is looked through.
func (p *picture) prepare() {
	slices.SortFunc(p.Archs, byArch)
	slices.SortStableFunc(p.Revisions, func(a, b *Revision) int {
		return cmp.Or(byArch(a.Arch, b.Arch), cmp.Compare(b.Number, a.Number))
	})
	text := []string{p.Name, strings.Join(p.Archs, "\n")}
	shown := p.Shown("")
	for _, r := range p.Revisions {
		names := r.channels()
		text = append(text, names...)
		if r == shown || len(names) > 0 {
			text = append(text, r.Title, r.System, r.Notes)
			if m, ok := r.artefact("manifest"); ok {
				p.manifests = append(p.manifests, m.File)
			}
		}
	}
	slices.Sort(text)
	p.text = strings.ToLower(strings.Join(slices.Compact(text), "\n"))
}

// byArch orders architectures, the most common one first.
func byArch(a, b string) int {
	const first = "x86_64"
	switch {
	case a == b:
		return 0
	case a == first:
		return -1
	case b == first:
		return 1
	}
	return strings.Compare(a, b)
}

// Of are the revisions for an architecture; "" is all.
func (p *picture) Of(arch string) []*Revision {
	var list []*Revision
	for _, r := range p.Revisions {
		if arch == "" || r.Arch == arch {
			list = append(list, r)
		}
	}
	return list
}

// Shown is the revision that stands for the image: what stable points to, or the
// newest; of an architecture, or of the first. It is nil if there is none.
func (p *picture) Shown(arch string) *Revision {
	var newest *Revision
	for _, r := range p.Of(arch) {
		if slices.Contains(r.channels(), "stable") {
			return r
		}
		if newest == nil {
			newest = r
		}
	}
	return newest
}

// Newest is the revision of the shown one's architecture with the highest number.
func (p *picture) Newest() *Revision { return p.Of(p.Shown("").Arch)[0] }

// Several tells whether the image is there for more than one architecture.
func (p *picture) Several() bool { return len(p.Archs) > 1 }

// Pointers are the channels that point to a revision, stable first, then by name.
func (p *picture) Pointers() []pointer {
	var list []pointer
	for _, r := range p.Revisions {
		for _, c := range r.Channels {
			if c.Present {
				list = append(list, pointer{c, r})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b pointer) int {
		return cmp.Or(other(a.Name)-other(b.Name), strings.Compare(a.Name, b.Name))
	})
	return list
}

// other is 0 for the channel that stands first.
func other(channel string) int {
	if channel == "stable" {
		return 0
	}
	return 1
}

// Fetch is the file of a revision that one downloads to run it, if there is one.
func (r Revision) Fetch() (a Artefact) {
	for _, kind := range []string{"xz", "qcow2"} {
		if found, ok := r.artefact(kind); ok {
			a = found
		}
	}
	return a
}

// Present are the names of the channels that point to the revision.
func (r Revision) Present() []string { return r.channels() }

// near are names like one that does not exist: those that have it within, or that
// it has within, or that begin in the same way.
func (c *catalogue) near(name string) []string {
	const most = 8
	var list []string
	name = strings.ToLower(name)
	for _, p := range c.images {
		own := strings.ToLower(p.Name)
		if strings.Contains(own, name) || strings.Contains(name, own) || len(name) > 2 && strings.HasPrefix(own, name[:3]) {
			list = append(list, p.Name)
		}
		if len(list) == most {
			break
		}
	}
	return list
}

// hit is an image that was found.
type hit struct {
	*picture
	Packages []string // those that were asked for, some of them
	rank     int
}

// search returns the images that have every word of a query in their texts or among
// the names of their packages. The best come first.
func (c *catalogue) search(query string, packages *contents) []hit {
	words := strings.Fields(strings.ToLower(query))
	list := make([]hit, 0, len(c.images))
	find := make([]func(file string) []string, len(words))
	for i, word := range words {
		find[i] = packages.find(word)
	}
	for _, p := range c.images {
		h, all := hit{picture: p}, true
		for i, word := range words {
			if strings.Contains(p.text, word) {
				h.rank += p.rank(word)
				continue
			}
			var found []string
			for _, file := range p.manifests {
				found = append(found, find[i](file)...)
			}
			slices.Sort(found)
			h.Packages = append(h.Packages, slices.Compact(found)...)
			h.rank += 3
			if all = len(found) > 0; !all {
				break
			}
		}
		if all {
			list = append(list, h)
		}
	}
	slices.SortStableFunc(list, func(a, b hit) int { return cmp.Compare(a.rank, b.rank) })
	return list
}

// rank is how far a word is from the name of the image: the less, the nearer.
func (p *picture) rank(word string) int {
	switch name := strings.ToLower(p.Name); {
	case name == word:
		return 0
	case strings.HasPrefix(name, word):
		return 1
	}
	return 2
}
