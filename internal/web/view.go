package web

import (
	"context"
	"time"
)

// Source gives what the pages show. Its methods may be called side by side.
type Source interface {
	// Repository returns the repository as it is now. What it returns is not changed
	// any more; as long as the repository is the same, it is the same pointer.
	Repository(ctx context.Context) (*Repository, error)
	// Manifest returns what the manifest in a file of the repository says. The file is
	// that of an artefact of the kind manifest and always has the same content.
	Manifest(ctx context.Context, file string) (Manifest, error)
}

// Repository is what an index says.
type Repository struct {
	Version     int        // of the index; 0 if it says none
	Signed      time.Time  // zero if it does not say
	Expires     time.Time  // zero for never
	Fingerprint string     // of the key that signs the index, hexadecimal; "" if nobody does
	Revisions   []Revision // by image and architecture, the newest first
}

// Revision is one revision of an image. All texts in it are untrusted.
type Revision struct {
	Image     string // its name
	ID        string // what virt-builder calls it, such as web or web-r5
	Title     string // for people; may be ""
	System    string // libosinfo's short name, such as debian12; may be ""
	Arch      string // such as x86_64
	Number    int    // counted from 1
	Notes     string // may have several lines
	Size      int64  // bytes that a guest sees
	Published time.Time
	Channels  []Channel // those that point to it, and those that did
	Artefacts []Artefact
}

// Channel is a name that points to a revision.
type Channel struct {
	Name    string
	Since   time.Time // when it came to point there; zero if that is not known
	Present bool      // it points there now
}

// Artefact is one file of a revision.
type Artefact struct {
	Kind   string // qcow2, xz, box.PROVIDER, kernel, initrd, manifest
	File   string // path relative to the index
	Size   int64  // bytes
	SHA512 string // lower-case hexadecimal
}

// Manifest is what made an image and what is in it. All texts in it are untrusted.
type Manifest struct {
	System   string    // for people, such as Debian GNU/Linux 12 (bookworm); may be ""
	Kernels  []string  // versions, the newest first
	Layers   []Layer   // the oldest first
	Packages []Package // of the finished image, by name
}

// Layer is one layer of a pedigree.
type Layer struct {
	Digest  string
	Image   string // the image that it was made for
	Step    string // what made it, such as packages "nginx"
	Made    time.Time
	Took    time.Duration // 0 if that is not known
	Size    int64         // bytes on disk
	Grown   int64         // bytes that its file systems have more in use than before; 0 if that is not known
	Unknown bool          // what it did to packages is not known
	Added   []Package
	Removed []Package
	Changed []Change
}

// Package is a software package.
type Package struct {
	Name    string
	Version string
	Arch    string // may be ""
	Size    int64  // bytes that its files take; 0 if that is not known
}

// Change is a package that has another version than before.
type Change struct {
	Name     string
	Arch     string // may be ""
	From, To string // versions
	Grown    int64  // bytes that its files take more than before
}

// artefact returns the file of a kind.
func (r Revision) artefact(kind string) (Artefact, bool) {
	for _, a := range r.Artefacts {
		if a.Kind == kind {
			return a, true
		}
	}
	return Artefact{}, false
}

// channels are the names of those that point to the revision.
func (r Revision) channels() []string {
	var names []string
	for _, c := range r.Channels {
		if c.Present {
			names = append(names, c.Name)
		}
	}
	return names
}
