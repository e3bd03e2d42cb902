package doors

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"herdbook/internal/repo"
)

// boxKind is what the kind of an artefact begins with that is a box for the provider
// whose name follows.
const boxKind = "box."

// catalogue is what Vagrant knows of a box (Vagrant's documentation, "Box Metadata").
type catalogue struct {
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Versions    []version `json:"versions"`

	at map[int]int // where the version of a revision is
}

type version struct {
	Version   string     `json:"version"`
	Providers []provider `json:"providers"`
}

type provider struct {
	Name         string `json:"name"`
	URL          string `json:"url"`
	ChecksumType string `json:"checksum_type"`
	Checksum     string `json:"checksum"`
	Architecture string `json:"architecture"`         // as Vagrant 2.4 calls it
	Default      bool   `json:"default_architecture"` // where there is none for the host
}

// catalogues are those of the images with boxes: one of what stable points to, which
// has the image's name, and one for each other channel, as the aliases of the index
// are. Vagrant takes the greatest version and knows no pre-releases, so they must not
// stand together. A revision N is version N.0.0. Vagrant takes no relative URLs.
func catalogues(x repo.Index, root *url.URL) ([]File, error) {
	if root == nil {
		return nil, nil
	}
	var files []File
	for _, part := range x.Split() {
		image := part.Entries[0].Of()
		for _, channel := range channels(part) {
			c := catalogue{Name: image, at: map[int]int{}}
			if channel != repo.Stable {
				c.Name += "-" + channel
			}
			for _, arch := range architectures(part) {
				c.add(part.History(image, arch, channel), root)
			}
			if len(c.Versions) == 0 {
				continue
			}
			c.settle()
			var out bytes.Buffer
			e := json.NewEncoder(&out)
			e.SetEscapeHTML(false)
			e.SetIndent("", "  ")
			if err := e.Encode(c); err != nil {
				return nil, err
			}
			files = append(files, File{Name: VagrantDir + "/" + c.Name + ".json", Text: out.Bytes()})
		}
	}
	return files, nil
}

// add adds the boxes of an architecture.
func (c *catalogue) add(history []repo.Entry, root *url.URL) {
	for _, e := range history {
		var list []provider
		for _, a := range e.Artefacts {
			if name, ok := strings.CutPrefix(a.Kind, boxKind); ok {
				// Every Vagrant knows SHA-256, and SHA-512 only those since 2.2.4.
				list = append(list, provider{Name: name, URL: at(root, a.File), ChecksumType: "sha256", Checksum: a.SHA256, Architecture: vagrantArch(e.Arch)})
			}
		}
		if list == nil {
			continue
		}
		if c.Description == "" || e.Arch == "x86_64" && e.Revision == history[0].Revision {
			c.Description = strings.TrimSpace(cmp.Or(e.Name, e.Image) + "\n\n" + e.Notes)
		}
		i, ok := c.at[e.Revision]
		if !ok {
			i = len(c.Versions)
			c.at[e.Revision] = i
			c.Versions = append(c.Versions, version{Version: fmt.Sprintf("%d.0.0", e.Revision)})
		}
		c.Versions[i].Providers = append(c.Versions[i].Providers, list...)
	}
}

// settle sorts the newest version first and the usual architecture last: Vagrant
// before 2.4 knows none and takes the last box of a provider. So versions without the
// usual one go, where others have it.
func (c *catalogue) settle() {
	slices.SortFunc(c.Versions, func(a, b version) int {
		return cmp.Or(cmp.Compare(len(b.Version), len(a.Version)), cmp.Compare(b.Version, a.Version))
	})
	usual := func(p provider) int {
		if p.Architecture == "amd64" {
			return 1
		}
		return 0
	}
	isUnusual := func(v version) bool {
		return !slices.ContainsFunc(v.Providers, func(p provider) bool { return usual(p) == 1 })
	}
	if slices.ContainsFunc(c.Versions, func(v version) bool { return !isUnusual(v) }) {
		c.Versions = slices.DeleteFunc(c.Versions, isUnusual)
	}
	for _, v := range c.Versions {
		slices.SortFunc(v.Providers, func(a, b provider) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(usual(a), usual(b)), cmp.Compare(a.Architecture, b.Architecture))
		})
		for i := range v.Providers {
			v.Providers[i].Default = i == len(v.Providers)-1 || v.Providers[i+1].Name != v.Providers[i].Name
		}
	}
}

// vagrantArch is Vagrant's name of an architecture.
func vagrantArch(name string) string {
	switch name {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	case "i686":
		return "i386"
	}
	return name
}
