// Package tree knows how distributions lay out the trees that their installers
// start from: where kernel and initrd lie, and which document vouches for them.
// It looks into a tree through Files and believes nothing that it reads to be
// true; fetching, and verifying that document, are left to package source.
//
// The layouts are those that virt-install knows (virtinst/install/urldetect.py),
// and the discs of Ubuntu's live server.
package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode"

	"herdbook/internal/digest"
)

// Kind is a way to lay a tree out.
type Kind string

// The kinds.
const (
	Debian   Kind = "debian-installer" // Debian, and Ubuntu up to 20.04
	Anaconda Kind = "anaconda"         // Fedora, Red Hat and their descendants: a tree with a .treeinfo
	SUSE     Kind = "suse"             // openSUSE Leap and SUSE Linux Enterprise up to 15
	Casper   Kind = "casper"           // the discs of Ubuntu's live systems
)

// Files is a tree that is looked into, by paths with slashes that count from its
// root. The error of what is not there wraps fs.ErrNotExist.
type Files interface {
	// Read returns a file that has at most limit bytes; a larger one is an error.
	Read(path string, limit int64) ([]byte, error)
	// Exists tells whether there is such a file, without reading it.
	Exists(path string) (bool, error)
}

// File is a file of a tree.
type File struct {
	Path   string
	Digest digest.Digest // that the tree's document tells; "" if none does
}

// Tree is what was found out.
type Tree struct {
	Kind           Kind
	Name           string // what it calls itself, such as "AlmaLinux 9.5", fit to be shown; may be empty
	Arch           string // in the distribution's own words; may be empty
	Kernel, Initrd File
	// The document that tells the digests, with its bytes as they were read; "" if
	// there is none.
	Document string
	Text     []byte
	// Where a signature of the document lies, if there is one; "" in layouts that
	// have none.
	Signature string
}

// Runs tells, as an error, if herdbook's machines cannot start what is in the tree.
func (t Tree) Runs() error {
	if t.Arch == "" || slices.Contains([]string{"amd64", "x86_64", "i386", "i486", "i586", "i686"}, t.Arch) {
		return nil
	}
	return fmt.Errorf("the tree is for %s; herdbook's machines are x86_64", t.Arch)
}

const (
	maxDocument = 4 << 20 // bytes of a list of checksums; Debian's has 80 KiB
	maxInfo     = 1 << 20 // bytes of a description
)

// ErrNone is wrapped by the error of a place where there is no tree of the kind.
var ErrNone = errors.New("no installer was found")

// Find looks for a tree of a kind. Location, where the tree lies, is only looked at
// for its words: an architecture may be among them.
func Find(kind Kind, location string, files Files) (Tree, error) {
	t, looked, err := find(kind, location, files)
	if err != nil || t.Kernel.Path != "" {
		return t, err
	}
	for _, other := range []Kind{Debian, Anaconda, SUSE, Casper} {
		if other == kind {
			continue
		}
		if found, _, err := find(other, location, files); err == nil && found.Kernel.Path != "" {
			return t, fmt.Errorf("%w: this is a tree of %s, for install %q", ErrNone, describe(found), driver(other))
		}
	}
	return t, fmt.Errorf("%w: %s", ErrNone, absent(looked))
}

// absent says what is not there.
func absent(looked []string) string {
	const most = 3
	rest := ""
	if more := len(looked) - most; more > 0 {
		looked, rest = looked[:most], fmt.Sprintf(", nor at %d other places", more)
	}
	return "there is no " + strings.Join(looked, ", no ") + rest
}

// find returns an empty tree if there is none, and where it has looked.
func find(kind Kind, location string, files Files) (Tree, []string, error) {
	t, looked, err := layout(kind, location, files)
	t.Name, t.Arch = plain(t.Name), plain(t.Arch)
	return t, looked, err
}

func layout(kind Kind, location string, files Files) (Tree, []string, error) {
	switch kind {
	case Debian:
		return findDebian(location, files)
	case Anaconda:
		return findAnaconda(files)
	case SUSE:
		return findSUSE(location, files)
	case Casper:
		return findCasper(files)
	}
	return Tree{}, nil, fmt.Errorf("there is no tree of kind %q", kind)
}

// For is the kind of tree that a kind of install starts from.
func For(install string) Kind {
	return map[string]Kind{"preseed": Debian, "kickstart": Anaconda, "autoyast": SUSE, "autoinstall": Casper}[install]
}

// driver is the kind of install that a tree is for.
func driver(k Kind) string {
	return map[Kind]string{Debian: "preseed", Anaconda: "kickstart", SUSE: "autoyast", Casper: "autoinstall"}[k]
}

func describe(t Tree) string {
	if t.Name != "" {
		return t.Name
	}
	return string(t.Kind)
}

// plain makes untrusted text fit to be shown: on one line, and not a long one.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	const most = 100
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most])
	}
	return text
}

// pair is a kernel and an initrd where a layout has them.
type pair struct{ kernel, initrd string }

// first returns the first pair of which both are there.
func first(files Files, pairs []pair) (pair, []string, error) {
	var looked []string
	for _, p := range pairs {
		for _, name := range []string{p.kernel, p.initrd} {
			there, err := files.Exists(name)
			if err != nil {
				return pair{}, nil, err
			}
			if !there {
				looked = append(looked, name)
				break
			}
			if name == p.initrd {
				return p, nil, nil
			}
		}
	}
	return pair{}, looked, nil
}

// read reads a document that may be missing.
func read(files Files, name string, limit int64) (text []byte, there bool, err error) {
	text, err = files.Read(name, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return text, err == nil, err
}

// inside makes a path of untrusted text that stays in the tree, and would still do
// so behind a base address; "" if it does not.
func inside(name string) string {
	name = path.Clean(strings.TrimPrefix(name, "./"))
	if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, `%?#\`) || strings.ContainsFunc(name, unicode.IsControl) {
		return ""
	}
	return name
}

// sums reads lines of a digest, blanks and a path, as sha256sum writes them. Paths
// count from base.
func sums(text []byte, base string) map[string]digest.Digest {
	all := map[string]digest.Digest{}
	for line := range strings.Lines(string(text)) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		name = inside(path.Join(base, strings.TrimLeft(name, " *")))
		if d, err := digest.Parse(strings.ToLower(sum)); err == nil && name != "" {
			all[name] = d
		}
	}
	return all
}

// take sets kernel and initrd with what the document says of them.
func (t *Tree) take(p pair, all map[string]digest.Digest) {
	t.Kernel, t.Initrd = File{p.kernel, all[p.kernel]}, File{p.initrd, all[p.initrd]}
}

// words are the parts of a location that may name an architecture.
func words(location string) []string {
	return strings.FieldsFunc(location, func(r rune) bool { return strings.ContainsRune("/-_.:", r) })
}
