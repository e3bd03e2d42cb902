package streams

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"herdbook/internal/repo"
)

// MaxText is the size that the text of an index or of a products file may have, in
// bytes. Ubuntu's list of everything released has a fifth.
const MaxText = 32 << 20

// Bounds of what is read.
const (
	maxDepth = 32      // of objects and arrays; what is read lies at 7
	maxKeys  = 1 << 20 // of all objects
	maxName  = 200     // bytes of a product, a version, a pubname, an architecture
)

// ParseIndex reads an index and returns the paths of the products files with images
// to be downloaded, relative to the root of the tree, in order of their names in the
// index. The caller has verified the text if the tree is signed; then the files
// behind the paths have to be signed, too.
func ParseIndex(untrusted []byte) ([]string, error) {
	var x struct {
		Format string `json:"format"`
		Index  map[string]struct {
			Format   string `json:"format"`
			Datatype string `json:"datatype"`
			Path     string `json:"path"`
		} `json:"index"`
	}
	if err := decode(untrusted, &x); err != nil {
		return nil, fmt.Errorf("read index of simplestreams: %w", err)
	}
	if x.Format != indexFormat {
		return nil, fmt.Errorf("read index of simplestreams: its format is %.40q, not %q", x.Format, indexFormat)
	}
	var paths []string
	for _, name := range slices.Sorted(maps.Keys(x.Index)) {
		content := x.Index[name]
		if content.Format != productsFormat || content.Datatype != datatype {
			continue
		}
		if !isBelow(content.Path) {
			return nil, fmt.Errorf("read index of simplestreams, %.80q: %.80q does not stay below the root", name, content.Path)
		}
		if !slices.Contains(paths, content.Path) {
			paths = append(paths, content.Path)
		}
	}
	return paths, nil
}

// tags are what may be said of all products, of one, or of one version.
type tags struct {
	Arch    string `json:"arch"`
	Pubname string `json:"pubname"`
}

// or takes from a level further out what this one does not say.
func (t tags) or(outer tags) tags {
	if t.Arch == "" {
		t.Arch = outer.Arch
	}
	if t.Pubname == "" {
		t.Pubname = outer.Pubname
	}
	return t
}

type product struct {
	tags
	Versions map[string]version `json:"versions"`
}

type version struct {
	tags
	Items map[string]json.RawMessage `json:"items"`
}

// ParseProducts reads a products file: an entry for each product with a disk image,
// in order of their names. It is that of the greatest version with one that can be
// verified, by SHA-256 or SHA-512. An entry has as ID the product, as alias the
// pubname, and one artefact of the kind DiskKind, of which either digest may be "".
// The version is the field VersionKey; where it begins with a number, as with a
// date, that is the revision, too. Size is 0, since nobody tells what the guest
// sees; so is what the file is, qcow2 most often. Architectures have the names that
// virt-builder has for them.
func ParseProducts(untrusted []byte) ([]repo.Entry, error) {
	var x struct {
		tags
		Format   string             `json:"format"`
		Products map[string]product `json:"products"`
	}
	if err := decode(untrusted, &x); err != nil {
		return nil, fmt.Errorf("read products of simplestreams: %w", err)
	}
	if x.Format != productsFormat {
		return nil, fmt.Errorf("read products of simplestreams: their format is %.40q, not %q", x.Format, productsFormat)
	}
	var entries []repo.Entry
	for _, id := range slices.Sorted(maps.Keys(x.Products)) {
		e, found, err := x.Products[id].entry(id, x.tags)
		if err != nil {
			return nil, fmt.Errorf("read products of simplestreams, %.80q: %w", id, err)
		}
		if found {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// entry is the newest version of a product with a disk image, if there is one.
func (p product) entry(id string, outer tags) (repo.Entry, bool, error) {
	for _, number := range slices.SortedFunc(maps.Keys(p.Versions), func(a, b string) int { return compareVersions(b, a) }) {
		v := p.Versions[number]
		disk, found, err := v.disk()
		if err != nil {
			return repo.Entry{}, false, fmt.Errorf("version %.80q: %w", number, err)
		}
		if !found {
			continue
		}
		t := v.or(p.tags).or(outer)
		for _, name := range []string{id, number, t.Arch} {
			if !isName(name) {
				return repo.Entry{}, false, fmt.Errorf("version %.80q: %.80q cannot be the name of a product, a version or an architecture", number, name)
			}
		}
		e := repo.Entry{
			ID: id, Name: t.Pubname, Arch: archOf(t.Arch), File: disk.File, Checksum: disk.SHA512, CompressedSize: disk.Size,
			Revision: revision(number), Other: []repo.Field{{Key: VersionKey, Value: number}},
		}
		e.Artefacts = []repo.Artefact{disk}
		if isName(t.Pubname) {
			e.Aliases = []string{t.Pubname}
		}
		return e, true, nil
	}
	return repo.Entry{}, false, nil
}

// disk is the disk image of a version, if it has one that can be verified.
func (v version) disk() (repo.Artefact, bool, error) {
	for _, name := range []string{diskItem, "disk.img"} {
		text, ok := v.Items[name]
		if !ok {
			continue
		}
		var i item
		if err := json.Unmarshal(text, &i); err != nil {
			return repo.Artefact{}, false, fmt.Errorf("%s: %w", name, err)
		}
		i.SHA256, i.SHA512 = strings.ToLower(i.SHA256), strings.ToLower(i.SHA512)
		switch {
		case i.SHA256 == "" && i.SHA512 == "":
			continue
		case !isBelow(i.Path):
			return repo.Artefact{}, false, fmt.Errorf("%s: %.80q does not stay below the root", name, i.Path)
		case i.Size < 0 || !isDigest(i.SHA256, 64) || !isDigest(i.SHA512, 128):
			return repo.Artefact{}, false, fmt.Errorf("%s: its size or its digest is none", name)
		}
		return repo.Artefact{Kind: DiskKind, File: i.Path, Size: i.Size, SHA256: i.SHA256, SHA512: i.SHA512}, true, nil
	}
	return repo.Artefact{}, false, nil
}

// isDigest tells whether a digest has its length, or is not given.
func isDigest(s string, length int) bool {
	return s == "" || len(s) == length && strings.Trim(s, "0123456789abcdef") == ""
}

// isBelow tells whether a path stays below the root and is one line.
func isBelow(path string) bool {
	return fs.ValidPath(path) && path != "." && !strings.Contains(path, `\`) && !strings.ContainsFunc(path, isControl)
}

// isName tells whether text is one short word.
func isName(text string) bool {
	return text != "" && len(text) <= maxName && !strings.ContainsFunc(text, func(r rune) bool { return isControl(r) || r == ' ' || r == '\ufffd' })
}

func isControl(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029'
}

// archOf is virt-builder's name of an architecture that has another one in Debian.
func archOf(name string) string {
	switch name {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	case "i486", "i586", "i686":
		return "i386"
	case "ppc64el":
		return "ppc64le"
	case "armhf":
		return "armv7l"
	}
	return name
}

// decode reads JSON into a value. What encoding/json would take without a word is
// refused: a key that is there twice, also with other cases of its letters, more
// after the end, and depth without bound.
func decode(untrusted []byte, into any) error {
	if len(untrusted) > MaxText {
		return fmt.Errorf("%d bytes, more than the %d it may have", len(untrusted), MaxText)
	}
	if err := checkKeys(untrusted); err != nil {
		return err
	}
	return json.Unmarshal(untrusted, into)
}

// level is an object that is being read, with the keys it has, or an array.
type level struct {
	keys  map[string]bool // nil for an array
	value bool            // the next token of an object is a value
}

// checkKeys refuses keys that are there twice and depth without bound.
func checkKeys(untrusted []byte) error {
	d := json.NewDecoder(bytes.NewReader(untrusted))
	d.UseNumber()
	var open []level
	for count := 0; ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil // json.Unmarshal says whether it is too early
		} else if err != nil {
			return err
		}
		last := len(open) - 1
		switch text, isText := token.(string); {
		case isText && last >= 0 && open[last].keys != nil && !open[last].value:
			key := strings.ToLower(strings.ToUpper(text))
			if open[last].keys[key] {
				return fmt.Errorf("%.80q stands there twice", text)
			}
			if count++; count > maxKeys {
				return fmt.Errorf("it has more than %d keys", maxKeys)
			}
			open[last].keys[key], open[last].value = true, true
			continue
		case token == json.Delim('}') || token == json.Delim(']'):
			open = open[:last]
			continue
		}
		if last >= 0 {
			open[last].value = false
		}
		switch token {
		case json.Delim('{'):
			open = append(open, level{keys: map[string]bool{}})
		case json.Delim('['):
			open = append(open, level{})
		}
		if len(open) > maxDepth {
			return fmt.Errorf("it is more than %d levels deep", maxDepth)
		}
	}
}
