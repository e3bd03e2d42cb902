// Package repo knows what a repository is: images, their revisions, the channels
// that point to them, and the text of the index that says so, as virt-builder reads
// it (virt-builder(1), "CREATING YOUR OWN TEMPLATES"). All of it is values. Signing
// the text is package signed; writing it, package repo/publish; reading that of
// others, package repo/client.
//
// An image is known by its name and architecture and has revisions, counted from 1.
// Each is an entry of the index. A channel, such as testing, is a name that points
// to one revision until it is moved. The channel stable has the image's plain name:
//
//	[web]             the revision that stable points to; aliases web-stable and web-r7
//	[web-r8]          another one; aliases web-testing, if testing points to it
//	[web-r6]          one that nothing points to, which is hidden
//
// What herdbook knows beside what virt-builder does stands in keys that begin with
// herdbook_, which virt-builder ignores, and what it says of the whole index in
// comments at its start.
package repo

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The names of a repository's files.
const (
	IndexName       = "index"     // the text
	SignedIndexName = "index.asc" // the text, clear-signed
	KeyName         = "key.asc"   // the public key that it is signed with
	ImageDir        = "images"    // what the index names, each file named by its content
)

// Stable is the channel whose revision has the plain name of its image.
const Stable = "stable"

// MaxIndex is the size that the text of an index, with its signature, may have, in
// bytes. One of 10,000 revisions has a tenth.
const MaxIndex = 64 << 20

// Index is what a repository says of itself and of its images.
type Index struct {
	Header
	Entries []Entry // by image and architecture, the newest revision first
}

// Header is what an index says of itself. The zero value is that of a repository
// which herdbook did not write.
type Header struct {
	Version int       // raised by one with each change
	Signed  time.Time // when this version was made
	Expires time.Time // when readers must not take it for the newest any more; zero for never

	// Location is where the repository is served, a URL of http, https or file without
	// a slash at its end: for what takes no relative paths. "" if nobody says.
	Location string
}

// Entry is one revision of an image.
type Entry struct {
	ID             string // what virt-builder asks for
	Name           string // for people
	OSInfo         string // libosinfo's short name, such as debian12
	Arch           string // x86_64
	File           string // path relative to the index
	Checksum       string // SHA-512 of the file, lower-case hexadecimal
	Revision       int
	Format         string   // raw or qcow2, of what is in the file
	Size           int64    // bytes that the guest sees
	CompressedSize int64    // bytes of the file
	Expand         string   // partition that grows with the disk, such as /dev/sda3
	LVExpand       string   // logical volume that grows with it, such as /dev/vg/root
	Notes          string   // may have several lines
	Hidden         bool     // not listed
	Aliases        []string // other names
	Facts
	Other []Field // those that have no place here, as they are
}

// Facts are what only herdbook tells of a revision.
type Facts struct {
	Image     string     // the name that it was published by; "" in the index of others
	Layer     string     // digest of the layer that it was published from
	Published time.Time  // zero in the index of others
	Channels  []string   // those that point to it
	Released  []Release  // when channels came to point to it, those of now and of before
	Artefacts []Artefact // its files
	Cmdline   string     // words for the kernel among them, such as root=UUID=… ro
}

// Release is when a channel came to point to a revision.
type Release struct {
	Channel string
	Time    time.Time
}

// Artefact is one file of a revision.
type Artefact struct {
	Kind   string // qcow2, xz, box.PROVIDER, kernel, initrd, manifest
	File   string // path relative to the index
	Size   int64  // bytes
	SHA256 string // lower-case hexadecimal
	SHA512 string
}

// Field is one that has no place in Entry; it is kept as it is.
type Field struct {
	Key   string // with its subkey, such as notes[de]
	Value string // lines after the first without the blank that begins them
}

// Of is the name of the image that the entry is a revision of.
func (e Entry) Of() string { return cmp.Or(e.Image, e.ID) }

// Artefact returns the file of a kind.
func (e Entry) Artefact(kind string) (Artefact, bool) {
	for _, a := range e.Artefacts {
		if a.Kind == kind {
			return a, true
		}
	}
	return Artefact{}, false
}

// Files are the paths of all files that the entry names.
func (e Entry) Files() []string {
	files := []string{e.File}
	for _, a := range e.Artefacts {
		if a.File != e.File {
			files = append(files, a.File)
		}
	}
	return files
}

// Has tells whether a channel points to the revision.
func (e Entry) Has(channel string) bool { return slices.Contains(e.Channels, channel) }

// Was tells whether a channel points to the revision, or did at some time.
func (e Entry) Was(channel string) bool {
	_, was := e.released(channel)
	return was
}

// released is when a channel came to point to the revision.
func (e Entry) released(channel string) (time.Time, bool) {
	for _, r := range e.Released {
		if r.Channel == channel {
			return r.Time, true
		}
	}
	return time.Time{}, false
}

// History is the revision that a channel of an image points to, and those with
// lower numbers that it pointed to before, the newest first: what a reader may see
// who takes the greatest of what there is. It is empty if nothing is pointed to.
func (x Index) History(image, arch, channel string) []Entry {
	var list []Entry
	for _, e := range x.Revisions(image, arch) {
		if e.Has(channel) || e.Was(channel) && len(list) > 0 {
			list = append(list, e)
		}
	}
	return list
}

// Images are the names of the images, in order.
func (x Index) Images() []string {
	var names []string
	for _, e := range x.Entries {
		names = append(names, e.Of())
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Split makes an index of each image, by their names: what is asked of one image is
// asked of fewer entries.
func (x Index) Split() []Index {
	var list []Index
	of := map[string]int{}
	for _, image := range x.Images() {
		of[image] = len(list)
		list = append(list, Index{Header: x.Header})
	}
	for _, e := range x.Entries {
		part := &list[of[e.Of()]]
		part.Entries = append(part.Entries, e)
	}
	return list
}

// Revisions are those of an image, of all architectures, or only of one if arch
// is not "".
func (x Index) Revisions(image, arch string) []Entry {
	var list []Entry
	for _, e := range x.Entries {
		if e.Of() == image && (arch == "" || e.Arch == arch) {
			list = append(list, e)
		}
	}
	return list
}

// Selector says which revision of an image is meant: exactly one of Channel and
// Revision is set, or none for what the plain name stands for.
type Selector struct {
	Image    string
	Arch     string // "" if there is only one
	Channel  string
	Revision int
}

// String writes the selector as ParseSelector reads it.
func (s Selector) String() string {
	switch {
	case s.Revision > 0:
		return fmt.Sprintf("%s@%d", s.Image, s.Revision)
	case s.Channel != "":
		return s.Image + "@" + s.Channel
	}
	return s.Image
}

var (
	channelName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	revisioned  = regexp.MustCompile(`^r[0-9]+$`)
)

// CheckChannel refuses what cannot be the name of a channel. A hyphen would make
// names that can be read in two ways.
func CheckChannel(name string) error {
	if !channelName.MatchString(name) || revisioned.MatchString(name) || len(name) > 40 {
		return fmt.Errorf("%.60q cannot be the name of a channel: want lower-case letters, digits and underscores, a letter first, not r and a number", name)
	}
	return nil
}

// names are all that an entry can be asked for by.
func (e Entry) names() []string { return append([]string{e.ID}, e.Aliases...) }

// settle gives every revision its section and its aliases, by the channels that
// point to it, and sorts them. Aliases that somebody wrote by hand stay with what
// the plain name stands for.
func (x Index) settle() (Index, error) {
	out := Index{Header: x.Header, Entries: slices.Clone(x.Entries)}
	ours := map[string]bool{} // names that channels and revisions make
	for _, e := range out.Entries {
		for _, r := range e.Released {
			ours[e.Image+"-"+r.Channel] = true
		}
		ours[fmt.Sprintf("%s-r%d", e.Image, e.Revision)] = true
	}
	byHand := map[string][]string{} // image and architecture → aliases
	for i, e := range out.Entries {
		if e.Image == "" {
			continue
		}
		for _, alias := range e.Aliases {
			if !ours[alias] && !revisionAlias(e.Image, alias) {
				byHand[e.Image+" "+e.Arch] = append(byHand[e.Image+" "+e.Arch], alias)
			}
		}
		out.Entries[i].rename()
	}
	for i, e := range out.Entries {
		if e.Image != "" && e.Has(Stable) {
			out.Entries[i].Aliases = append(e.Aliases, byHand[e.Image+" "+e.Arch]...)
		}
	}
	slices.SortStableFunc(out.Entries, func(a, b Entry) int {
		return cmp.Or(strings.Compare(a.Of(), b.Of()), strings.Compare(a.Arch, b.Arch), cmp.Compare(b.Revision, a.Revision))
	})
	return out, out.check()
}

func revisionAlias(image, alias string) bool {
	rest, ok := strings.CutPrefix(alias, image+"-")
	return ok && revisioned.MatchString(rest)
}

// rename makes the names of a revision of ours.
func (e *Entry) rename() {
	slices.Sort(e.Channels)
	byRevision := fmt.Sprintf("%s-r%d", e.Image, e.Revision)
	e.ID, e.Aliases, e.Hidden = byRevision, nil, len(e.Channels) == 0
	for _, channel := range e.Channels {
		e.Aliases = append(e.Aliases, e.Image+"-"+channel)
	}
	if e.Has(Stable) {
		e.ID, e.Aliases = e.Image, append(e.Aliases, byRevision)
	}
}

// check refuses an index in which one name would stand for two images: virt-builder
// takes an alias before a name, and the first of two. Some file systems, on which a
// repository may be kept, know no cases.
func (x Index) check() error {
	taken := map[string]string{} // name in lower case → image
	for _, e := range x.Entries {
		for _, name := range e.names() {
			folded := strings.ToLower(name)
			if other, ok := taken[folded]; ok && other != e.Of() {
				return fmt.Errorf("the name %s would stand for both %s and %s; give one of them another name", name, other, e.Of())
			}
			taken[folded] = e.Of()
		}
	}
	return nil
}
