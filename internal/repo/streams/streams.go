// Package streams reads and writes lists of images in the format of simplestreams
// (index:1.0 and products:1.0), which Ubuntu's and CirrOS's images are published in
// and virt-builder reads with format=simplestreams (virt-builder(1), "SIMPLE
// STREAMS"; simplestreams, doc/README). An index leads to products files; a product
// has versions, and a version items, each a file with its size and digests. All of
// it is bytes: fetching and signatures are left to others.
//
// A channel of an image of ours is a product, as the daily images are beside the
// released ones with Ubuntu. Its versions are the revision that the channel points to
// and the lower ones that it pointed to before: readers take the greatest version
// without asking, and must get neither what is still being tested nor what was rolled
// back.
//
//	org.herdbook:web:x86_64            stable
//	org.herdbook.testing:web:x86_64    another channel
package streams

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"herdbook/internal/repo"
)

// The names of the files, relative to the root of the tree. Each has a twin that is
// clear-signed, and the signed index leads to signed products.
const (
	IndexName        = "streams/v1/index.json"
	ImagesName       = "streams/v1/images.json"
	SignedIndexName  = "streams/v1/index.sjson"
	SignedImagesName = "streams/v1/images.sjson"
)

const (
	indexFormat    = "index:1.0"
	productsFormat = "products:1.0"
	datatype       = "image-downloads"
	contentID      = "org.herdbook:images:download"
	vendor         = "org.herdbook"
	diskItem       = "disk1.img"
)

// What entries have that are read from streams.
const (
	DiskKind   = "disk"            // kind of an artefact: a disk image of an unknown format
	VersionKey = "streams_version" // field of an entry: the version, such as 20260601.1
)

// itemNames are the names of artefacts by their kinds, which are their ftypes, too.
// Those of a disk, a kernel and an initrd are Ubuntu's.
var itemNames = map[string]string{
	"qcow2":    diskItem,
	"xz":       "disk1.img.xz",
	"kernel":   "boot-kernel",
	"initrd":   "boot-initrd",
	"manifest": "manifest.json",
}

// FormatIndex writes the index of a repository's streams, which leads to the
// products file of that name: ImagesName or SignedImagesName.
func FormatIndex(x repo.Index, products string) ([]byte, error) {
	names := []string{}
	for _, p := range productsOf(x) {
		names = append(names, p.id)
	}
	return encode(map[string]any{
		"format":  indexFormat,
		"updated": updated(x),
		"index": map[string]any{contentID: map[string]any{
			"datatype": datatype,
			"format":   productsFormat,
			"path":     products,
			"products": names,
			"updated":  updated(x),
		}},
	})
}

// FormatProducts writes the images of a repository that herdbook published there as
// products: one for each channel and architecture.
func FormatProducts(x repo.Index) ([]byte, error) {
	products := map[string]any{}
	for _, p := range productsOf(x) {
		if _, twice := products[p.id]; twice {
			return nil, fmt.Errorf("the product %s stands for two revisions", p.id)
		}
		products[p.id] = p.fields()
	}
	return encode(map[string]any{
		"format":     productsFormat,
		"datatype":   datatype,
		"content_id": contentID,
		"updated":    updated(x),
		"products":   products,
	})
}

func updated(x repo.Index) string { return x.Signed.UTC().Format(time.RFC1123Z) }

func encode(value any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(value) // the keys of maps are sorted
	return out.Bytes(), err
}

// channel is a product.
type channel struct {
	id, name string
	history  []repo.Entry
	versions map[int]string // by revisions
}

// productsOf are the products of an index, in its order.
func productsOf(x repo.Index) []channel {
	var list []channel
	for _, part := range x.Split() {
		for _, e := range part.Entries {
			if e.Image == "" {
				continue
			}
			for _, name := range e.Channels {
				prefix := vendor
				if name != repo.Stable {
					prefix += "." + name
				}
				list = append(list, channel{
					fmt.Sprintf("%s:%s:%s", prefix, e.Image, e.Arch), name,
					part.History(e.Image, e.Arch, name), versionsOf(part.Revisions(e.Image, e.Arch)),
				})
			}
		}
	}
	return list
}

// versionsOf names each of the revisions of an image, the newest first, by the time
// it was published at, and its number. A greater revision has a greater version, even
// if the clock went back.
func versionsOf(revisions []repo.Entry) map[int]string {
	versions := map[int]string{}
	var at time.Time
	for _, e := range slices.Backward(revisions) {
		if e.Published.After(at) {
			at = e.Published
		}
		versions[e.Revision] = fmt.Sprintf("%s.%06d", at.UTC().Format("20060102150405"), e.Revision)
	}
	return versions
}

func (c channel) fields() map[string]any {
	versions := map[string]any{}
	for _, e := range c.history {
		versions[c.versions[e.Revision]] = map[string]any{
			"items":   itemsOf(e),
			"label":   c.name,
			"pubname": fmt.Sprintf("%s-r%d", e.Image, e.Revision),
		}
	}
	newest := c.history[0]
	return map[string]any{
		"arch":          newest.Arch,
		"os":            cmp.Or(newest.OSInfo, "unknown"),
		"release":       newest.Image,
		"release_title": cmp.Or(newest.Name, newest.Image),
		"stream":        c.name,
		"versions":      versions,
	}
}

// item is a file of a version.
type item struct {
	FType  string `json:"ftype"`
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	SHA512 string `json:"sha512"`
}

func itemsOf(e repo.Entry) map[string]item {
	items := map[string]item{}
	for _, a := range e.Artefacts {
		name := cmp.Or(itemNames[a.Kind], a.Kind)
		items[name] = item{name, a.File, a.Size, a.SHA256, a.SHA512}
	}
	return items
}
