package client

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"herdbook/internal/digest"
	"herdbook/internal/disk"
	"herdbook/internal/repo"
	"herdbook/internal/repo/streams"
)

// Catalogues are what several sources offer, in their order.
type Catalogues []*Catalogue

// Offer is a revision, and who offers it.
type Offer struct {
	repo.Entry
	From *Catalogue
}

// Offers are the revisions of all sources: of several for one name and architecture
// the highest, of equal ones that of the first source. They come in the order of the
// sources and of their indexes.
func (all Catalogues) Offers() []Offer {
	type name struct{ id, arch string }
	best := map[name]Offer{}
	for _, c := range all {
		for _, e := range c.Index.Entries {
			n := name{e.ID, Arch(e.Arch)}
			if old, ok := best[n]; !ok || e.Revision > old.Revision {
				best[n] = Offer{e, c}
			}
		}
	}
	var list []Offer
	for _, c := range all {
		for _, e := range c.Index.Entries {
			if o := best[name{e.ID, Arch(e.Arch)}]; o.From == c && o.Revision == e.Revision && o.Arch == e.Arch {
				list = append(list, o)
			}
		}
	}
	return list
}

// Find returns the revision that a selector means: of those that several sources
// have, the highest, of equal ones that of the first source.
func (all Catalogues) Find(s repo.Selector) (Offer, error) {
	var best Offer
	var errs []error
	s.Arch = Arch(s.Arch)
	for _, c := range all {
		x := repo.Index{Header: c.Index.Header}
		for _, e := range c.Index.Entries {
			e.Arch = Arch(e.Arch)
			x.Entries = append(x.Entries, e)
		}
		e, err := x.Find(s)
		switch {
		case errors.Is(err, repo.ErrNoImage):
			errs = append(errs, fmt.Errorf("repository %s, for %s: %w", c.Source, cmp.Or(s.Arch, "any architecture"), err))
		case err != nil:
			return Offer{}, fmt.Errorf("repository %s: %w", c.Source, err)
		case best.From == nil || e.Revision > best.Revision:
			best = Offer{e, c}
		}
	}
	if best.From == nil {
		return Offer{}, errors.Join(errs...)
	}
	return best, nil
}

// Arch is an architecture by the name that virt-builder has for it.
func Arch(name string) string {
	switch name {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	case "386", "i486", "i586", "i686":
		return "i386"
	case "powerpc":
		return "ppc"
	case "powerpc64":
		return "ppc64"
	case "powerpc64le", "ppc64el":
		return "ppc64le"
	}
	return name
}

// File is what must be fetched of an offer, and what is known of it.
type File struct {
	URL       string
	From      Source          // whose proxy and, for a signature, keys are used
	Checksum  digest.Checksum // "" if the index has none
	Signature string          // URL of a signature beside the file, if there is no checksum
	Size      int64           // bytes of the file; 0 if it is not known for sure
	Revision  int
	Format    disk.Format // of the disk in it; "" if nobody says
	Virtual   int64       // bytes of the disk at most; 0 if it is not known
}

// ErrUnvouched is wrapped by the error of an image that has neither checksum nor
// signature.
var ErrUnvouched = errors.New("the index has neither a checksum nor a signature of it")

// File chooses what is fetched: of an image of ours the qcow2 file before the xz one,
// since it is a disk as it is.
func (o Offer) File() (File, error) {
	f := File{URL: o.address(o.Entry.File), From: o.From.Source, Revision: o.Revision, Format: disk.Format(o.Format), Virtual: o.Size}
	for _, kind := range []string{"qcow2", "xz", streams.DiskKind} {
		a, ok := o.Artefact(kind)
		if !ok {
			continue
		}
		f.URL, f.Size, f.Checksum = o.address(a.File), a.Size, digest.Checksum("sha512:"+a.SHA512)
		if a.SHA512 == "" {
			f.Checksum = digest.Checksum("sha256:" + a.SHA256)
		}
		if kind == "qcow2" {
			f.Format = disk.QCOW2
		}
		return f, nil
	}
	var err error
	if f.Checksum, f.Signature, err = o.vouch(); err != nil {
		return f, fmt.Errorf("%s: %w", o.ID, err)
	}
	return f, nil
}

// vouch tells what vouches for the file of an image of others.
func (o Offer) vouch() (digest.Checksum, string, error) {
	told := map[string]string{"checksum[sha512]": o.Checksum}
	for _, f := range o.Other {
		told[f.Key] = f.Value
	}
	for _, c := range []struct{ key, algorithm string }{
		{"checksum[sha512]", "sha512:"}, {"checksum", "sha512:"}, {"checksum[sha256]", "sha256:"},
	} {
		if text := strings.TrimSpace(told[c.key]); text != "" {
			sum, err := digest.ParseChecksum(c.algorithm + text)
			return sum, "", err
		}
	}
	sig := told["sig"]
	switch {
	case sig == "" && o.From.Source.Unsigned:
		return "", "", nil
	case sig == "":
		return "", "", fmt.Errorf("%w: ask who runs the repository for checksum[sha512]=…, or say that it may be unsigned", ErrUnvouched)
	case !fs.ValidPath(sig) || strings.Contains(sig, `\`):
		return "", "", fmt.Errorf("sig: %.80q does not stay below the index", sig)
	}
	return "", o.address(sig), nil
}

// address is that of a file of the repository.
func (o Offer) address(file string) string {
	if o.From.Source.Streams {
		return below(o.From.Source.URL, file)
	}
	return beside(o.From.URL, file)
}
