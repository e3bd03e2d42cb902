// Package doors derives from a repository's index what other kinds of clients ask
// for: simplestreams, Vagrant's catalogues, a menu for iPXE, lists of checksums. They
// are plain files, the same bytes for the same index, that lie beside it and lead to
// the same images. Writing and signing them is left to others.
package doors

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"herdbook/internal/repo"
	"herdbook/internal/repo/streams"
)

// The names of the files, relative to the index, beside those of package streams.
const (
	MenuName   = "boot.ipxe"
	SHA256Name = "SHA256SUMS"
	SHA512Name = "SHA512SUMS"
	VagrantDir = "vagrant" // with NAME.json and NAME-CHANNEL.json
)

// File is one that is derived from an index.
type File struct {
	Name string // relative to the index
	Text []byte
	Sign bool // it is written clear-signed, and not at all without a key
}

// Files derives them all, in order. An index with a name in it that one of the
// formats cannot tell is refused, so it is wise to ask before the index is written.
// What was a file of an earlier index and is none of this one is to be removed: Is
// tells those.
//
// What takes no relative paths is led to where the index says that it is served, and left
// out if it does not say.
func Files(x repo.Index) ([]File, error) {
	var files []File
	root, err := root(x.Location)
	if err == nil {
		err = check(x)
	}
	for _, derive := range []func(repo.Index, *url.URL) ([]File, error){lists, catalogues, menu, checksums} {
		if err != nil {
			break
		}
		var more []File
		more, err = derive(x, root)
		files = append(files, more...)
	}
	if err == nil {
		err = different(files)
	}
	if err != nil {
		return nil, fmt.Errorf("derive files from the index: %w", err)
	}
	return files, nil
}

// different refuses two files of one name, which images have whose names differ by
// that of a channel.
func different(files []File) error {
	seen := map[string]bool{}
	for _, f := range files {
		if seen[f.Name] {
			return fmt.Errorf("%s would stand for two images; give one of them another name", f.Name)
		}
		seen[f.Name] = true
	}
	return nil
}

// Is tells whether a name in a repository is that of a derived file, of this index
// or another.
func Is(name string) bool {
	switch name {
	case MenuName, SHA256Name, SHA512Name,
		streams.IndexName, streams.ImagesName, streams.SignedIndexName, streams.SignedImagesName:
		return true
	}
	return strings.HasPrefix(name, VagrantDir+"/") && strings.HasSuffix(name, ".json")
}

// root is the URL that files are relative to, or nil.
func root(location string) (*url.URL, error) {
	if location == "" {
		return nil, nil
	}
	u, err := url.Parse(location)
	switch {
	case err != nil:
		return nil, errors.New("location of the repository: it is not a URL")
	case u.Scheme == "file" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("location of the repository: %.80q: want a URL of http, https or file", u.Redacted())
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, fmt.Errorf("location of the repository: %.80q: want no user, query or fragment, since every reader would see it", bare(u))
	}
	return u, nil
}

// bare is a URL without what could be a secret.
func bare(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// at is the URL of a file.
func at(root *url.URL, file string) string {
	u := *root
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/")+"/"+file, ""
	return u.String()
}

var (
	plain = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$`)
	kind  = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z0-9_]+)?$`)
)

// check refuses names that one of the formats could not tell. All else is made to
// fit where it is written.
func check(x repo.Index) error {
	for _, e := range x.Entries {
		for _, file := range e.Files() {
			if !isFile(file) {
				return fmt.Errorf("[%.80s]: %.80q cannot be the name of a file", e.ID, file)
			}
		}
		if e.Image == "" {
			continue
		}
		for _, name := range []string{e.Image, e.Arch} {
			if !plain.MatchString(name) {
				return fmt.Errorf("[%.80s]: %.80q cannot be the name of an image or of an architecture", e.ID, name)
			}
		}
		for _, channel := range e.Channels {
			if err := repo.CheckChannel(channel); err != nil {
				return fmt.Errorf("[%.80s]: %w", e.ID, err)
			}
		}
		for _, a := range e.Artefacts {
			if !kind.MatchString(a.Kind) {
				return fmt.Errorf("[%.80s]: %.80q cannot be the kind of a file", e.ID, a.Kind)
			}
		}
	}
	return nil
}

// isFile tells whether a path stays below the index and is one line.
func isFile(path string) bool {
	strange := func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }
	return fs.ValidPath(path) && path != "." && !strings.ContainsFunc(path, strange)
}

// lists are those of simplestreams. The signed index leads to signed images.
func lists(x repo.Index, _ *url.URL) ([]File, error) {
	images, err := streams.FormatProducts(x)
	if err != nil {
		return nil, err
	}
	index, err := streams.FormatIndex(x, streams.ImagesName)
	if err != nil {
		return nil, err
	}
	signed, err := streams.FormatIndex(x, streams.SignedImagesName)
	return []File{
		{Name: streams.ImagesName, Text: images},
		{Name: streams.SignedImagesName, Text: images, Sign: true},
		{Name: streams.IndexName, Text: index},
		{Name: streams.SignedIndexName, Text: signed, Sign: true},
	}, err
}

// channels are those that point to a revision of an image of ours, whose index this
// is, of any architecture, in order.
func channels(image repo.Index) []string {
	var list []string
	for _, e := range image.Entries {
		if e.Image != "" {
			list = append(list, e.Channels...)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// architectures are those of an image, in order.
func architectures(image repo.Index) []string {
	var list []string
	for _, e := range image.Entries {
		list = append(list, e.Arch)
	}
	slices.Sort(list)
	return slices.Compact(list)
}
