// Package manifest is what a repository tells of a revision beside its disk: the system
// on it, its pedigree with what each layer changed, and all packages of the result. It
// is JSON with a version. Whoever reads one may have it from a stranger: every list and
// every text in it has a bound. How a manifest is found out is left to others.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode"
	"unicode/utf8"

	"herdbook/internal/digest"
)

// Kind is what the file of a manifest is called in an index.
const Kind = "manifest"

// MaxSize is the size that a manifest has at most, in bytes. One of a system with 2,000
// packages and ten layers has half a MiB.
const MaxSize = 16 << 20

const (
	plain   = 1 // of a manifest that tells of no tests, which the first readers take
	version = 2
	maxList = 1 << 16 // of packages, as in package pkgdb
	maxText = 1024    // bytes of a text
)

// Manifest tells of one revision of an image.
type Manifest struct {
	Image    string        `json:"image"`
	Layer    digest.Digest `json:"layer"` // the last of Layers
	Created  time.Time     `json:"created"`
	System   System        `json:"system"`
	Size     int64         `json:"size"`            // bytes that the guest sees
	Layers   List[Layer]   `json:"layers"`          // the oldest first
	Packages List[Package] `json:"packages"`        // of the result, by manager and name
	Tests    List[Test]    `json:"tests,omitempty"` // that the last layer passed, the oldest first; since version 2
}

// Test is one that was passed.
type Test struct {
	Name    string    `json:"name"`          // such as test "boots" by BIOS
	Time    time.Time `json:"time"`          // of its end
	Elapsed float64   `json:"elapsed"`       // seconds that it took
	How     string    `json:"how,omitempty"` // accelerator
	Cases   int64     `json:"cases"`         // that it had
}

// System is what is installed.
type System struct {
	Name         string       `json:"name"`             // for people: Debian GNU/Linux 12 (bookworm)
	ID           string       `json:"id"`               // of os-release
	VersionID    string       `json:"version_id"`       // of os-release; may be ""
	Architecture string       `json:"architecture"`     // as Debian names it; may be ""
	Kernels      List[Kernel] `json:"kernels"`          // versions, the newest first
	OSInfo       string       `json:"osinfo,omitempty"` // libosinfo's short-id, such as debian12
}

// Kernel is the version of a kernel.
type Kernel string

// Layer is one step of the pedigree.
type Layer struct {
	Digest  digest.Digest `json:"digest"`
	Image   string        `json:"image"` // that it was made for
	Step    string        `json:"step"`  // such as packages "nginx"
	Created time.Time     `json:"created"`
	Elapsed float64       `json:"elapsed"` // seconds that it took
	How     string        `json:"how"`     // accelerator, or host
	Size    int64         `json:"size"`    // bytes on the publisher's disk

	// What it changed. Nil of a layer that holds no system, and where that could not be
	// read.
	Packages *Changes `json:"packages,omitempty"`
	// Bytes that its file systems have in use, and how many more than before; 0 where it
	// is not known.
	Used  int64 `json:"used,omitempty"`
	Grown int64 `json:"grown,omitempty"`
}

// Changes are those of packages, by name.
type Changes struct {
	Added   List[Package] `json:"added"`
	Removed List[Package] `json:"removed"`
	Changed List[Change]  `json:"changed"`
}

// Package is one that is installed.
type Package struct {
	Manager      string `json:"manager"` // dpkg, rpm, apk or pacman
	Name         string `json:"name"`
	Version      string `json:"version"`
	Architecture string `json:"architecture,omitempty"`
	Size         int64  `json:"size,omitempty"` // bytes that its files take; 0 if it does not say
}

// Change is a package that has another version than before.
type Change struct {
	Manager      string `json:"manager"`
	Name         string `json:"name"`
	Architecture string `json:"architecture,omitempty"`
	From         string `json:"from"`            // version
	To           string `json:"to"`              // version
	Grown        int64  `json:"grown,omitempty"` // bytes that its files take more
}

// wire is a manifest as it is written.
type wire struct {
	Version int `json:"version"`
	Manifest
}

// Format writes a manifest. The same one makes the same bytes.
func (m Manifest) Format() ([]byte, error) {
	number := plain
	if len(m.Tests) > 0 {
		number = version
	}
	text, err := json.MarshalIndent(wire{number, m}, "", " ")
	if err == nil {
		err = m.check()
	}
	if err == nil && len(text) >= MaxSize {
		err = fmt.Errorf("it has %d bytes; %d is the most", len(text), MaxSize)
	}
	if err != nil {
		return nil, fmt.Errorf("write manifest of %s: %w", m.Image, err)
	}
	return append(text, '\n'), nil
}

// Parse reads a manifest from untrusted text. What it does not know is refused, as
// another version would have it.
func Parse(untrusted []byte) (Manifest, error) {
	m, err := parse(untrusted)
	if err != nil {
		return Manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	return m, nil
}

func parse(untrusted []byte) (Manifest, error) {
	if len(untrusted) > MaxSize {
		return Manifest{}, fmt.Errorf("it has %d bytes; %d is the most", len(untrusted), MaxSize)
	}
	var about struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(untrusted, &about); err != nil {
		return Manifest{}, err
	}
	if about.Version < plain || about.Version > version {
		return Manifest{}, fmt.Errorf("version %d is none that herdbook reads: %d to %d", about.Version, plain, version)
	}
	var w wire
	if err := strictly(untrusted, &w); err != nil {
		return Manifest{}, err
	}
	if w.Version == plain && len(w.Tests) > 0 {
		return Manifest{}, fmt.Errorf("version %d has no tests", plain)
	}
	return w.Manifest, w.check()
}

// strictly decodes one value and all of it.
func strictly(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows its end")
	}
	return nil
}

// List is a list of which every element is checked before the next is read: a few bytes
// of text cannot become many of memory.
type List[T element] []T

// element is what can be in a list.
type element interface{ check() error }

// UnmarshalJSON implements json.Unmarshaler.
func (l *List[T]) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	first, err := d.Token()
	if err != nil || first == nil {
		return err
	}
	if first != json.Delim('[') {
		return fmt.Errorf("%v stands where a list should", first)
	}
	for *l = nil; d.More(); {
		if len(*l) == maxList {
			return fmt.Errorf("a list has more than %d elements", maxList)
		}
		var one T
		if err := d.Decode(&one); err != nil {
			return err
		}
		if err := one.check(); err != nil {
			return err
		}
		*l = append(*l, one)
	}
	return nil
}

// MarshalJSON implements json.Marshaler: none is an empty list.
func (l List[T]) MarshalJSON() ([]byte, error) {
	if len(l) == 0 {
		return []byte("[]"), nil
	}
	return json.Marshal([]T(l))
}

func (m Manifest) check() error {
	s := m.System
	if err := texts(m.Image, s.Name, s.ID, s.VersionID, s.Architecture, s.OSInfo); err != nil {
		return err
	}
	if n := len(m.Layers); n == 0 || m.Layers[n-1].Digest != m.Layer {
		return errors.New("its layer is not the last of its layers")
	}
	return named(m.Image, m.Size)
}

func (l Layer) check() error {
	if _, err := digest.Parse(string(l.Digest)); err != nil {
		return err
	}
	if l.Elapsed < 0 || l.Used < 0 {
		return fmt.Errorf("layer %s has a negative number", l.Digest.Short())
	}
	return errors.Join(named(l.Image, l.Size), named(l.Step, 0), texts(l.Image, l.Step, l.How))
}

func (t Test) check() error {
	return errors.Join(named(t.Name, t.Cases), texts(t.Name, t.How))
}

func (p Package) check() error {
	return errors.Join(named(p.Name, p.Size), named(p.Manager, 0), texts(p.Manager, p.Name, p.Version, p.Architecture))
}

func (c Change) check() error {
	return errors.Join(named(c.Name, 0), named(c.Manager, 0), texts(c.Manager, c.Name, c.Architecture, c.From, c.To))
}

func (k Kernel) check() error { return errors.Join(named(string(k), 0), texts(string(k))) }

// named refuses what has no name or a negative size.
func named(name string, size int64) error {
	if name == "" || size < 0 {
		return fmt.Errorf("something is called %.40q and has %d bytes", name, size)
	}
	return nil
}

// texts refuses what is too long or not for a line.
func texts(list ...string) error {
	for _, text := range list {
		if len(text) > maxText || !utf8.ValidString(text) {
			return fmt.Errorf("text %.40q has %d bytes, or is not UTF-8; %d are the most", text, len(text), maxText)
		}
		for _, r := range text {
			if unicode.IsControl(r) {
				return fmt.Errorf("text %.40q has a control character", text)
			}
		}
	}
	return nil
}
