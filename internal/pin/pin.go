// Package pin reads and writes the lock file: for every outside thing that a
// definition names, which bytes were meant. It is a text made for review. How
// the bytes are found and verified is left to package source.
//
// The format, a header and then one paragraph a pin, sorted by name:
//
//	# herdbook.lock 1: what the definition's outside names stood for. Commit this file.
//
//	apt http://deb.debian.org/debian bookworm
//		url    http://deb.debian.org/debian/dists/bookworm/InRelease
//		sha256 3f5b…
//		dated  Sat, 06 Sep 2025 11:22:40 UTC
//
//	file file:///srv/installer/linux
//		url    file:///srv/installer/linux
//		sha256 91c0…
//
//	installer http://deb.debian.org/debian/dists/bookworm/main/installer-amd64 kernel
//		url    http://deb.debian.org/debian/dists/bookworm/main/installer-amd64/current/images/netboot/…/linux
//		sha256 d880…
//
//	template https://images.example.org debian-12@testing
//		url      https://images.example.org/images/debian-12-6b1f….qcow2
//		sha512   6b1f…
//		dated    Thu, 26 Nov 2026 01:34:11 UTC
//		revision 5
//		format   qcow2
//		size     6442450944
//
// A pin's name stands at the start of its line: "apt MIRROR SUITE", "installer TREE
// PART", where the parts are archive, kernel and initrd, "file ADDRESS" for a file
// that the definition gives without a checksum, or "template REPOSITORY IMAGE[@WHICH]
// [ARCHITECTURE]". Its fields follow, each behind one tab: url, sha256 or sha512 and,
// if the thing carries a date of its own, dated. A template has besides what its index
// tells of it: revision, format and size, the bytes of the disk.
package pin

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"herdbook/internal/digest"
)

const header = "# herdbook.lock 1: what the definition's outside names stood for. Commit this file."

// maxSize bounds a lock file, in bytes.
const maxSize = 4 << 20

// Pin fixes one outside name.
type Pin struct {
	Name     string          // what the definition means, such as "apt MIRROR SUITE"
	URL      string          // where the bytes were found
	Checksum digest.Checksum // of the bytes
	Dated    string          // the date the thing gives itself, for the reader; may be empty

	// Of templates only.
	Revision int    // for the reader
	Format   string // of the disk image: raw or qcow2; "" if the index does not say
	Size     int64  // bytes of the disk
}

// AptName is the name of an apt repository's suite in the lock file.
func AptName(mirror, suite string) string {
	return "apt " + strings.TrimRight(mirror, "/") + " " + suite
}

// Part is what of an installer's tree a pin fixes.
type Part string

// The parts.
const (
	// Archive is what tells one state of the tree from another: the index of its
	// packages (InRelease, repomd.xml), else the list of the tree's checksums.
	Archive Part = "archive"
	Kernel  Part = "kernel"
	Initrd  Part = "initrd"
)

// InstallerName is the name of a part of an installer's tree in the lock file.
func InstallerName(location string, part Part) string {
	return "installer " + strings.TrimRight(location, "/") + " " + string(part)
}

// FileName is the name of a file that the definition gives without a checksum.
func FileName(address string) string { return "file " + address }

// TemplateName is the name of an image of a repository in the lock file. Which is the
// channel or the revision that is meant, and arch the architecture; each may be empty.
func TemplateName(repository, image, which, arch string) string {
	name := "template " + strings.TrimRight(repository, "/") + " " + image
	if which != "" {
		name += "@" + which
	}
	if arch != "" {
		name += " " + arch
	}
	return name
}

// Lock is the content of a lock file. It is immutable; the zero value is empty.
type Lock struct {
	pins map[string]Pin
}

// Get returns the pin of a name.
func (l Lock) Get(name string) (Pin, bool) {
	p, ok := l.pins[name]
	return p, ok
}

// With returns a lock that holds p in place of any pin of the same name.
func (l Lock) With(p Pin) Lock {
	pins := maps.Clone(l.pins)
	if pins == nil {
		pins = map[string]Pin{}
	}
	pins[p.Name] = p
	return Lock{pins}
}

// Without returns a lock without the pins of names.
func (l Lock) Without(names []string) Lock {
	pins := maps.Clone(l.pins)
	maps.DeleteFunc(pins, func(name string, _ Pin) bool { return slices.Contains(names, name) })
	return Lock{pins}
}

// Only returns a lock without the pins that names does not list.
func (l Lock) Only(names []string) Lock {
	pins := map[string]Pin{}
	for _, name := range names {
		if p, ok := l.pins[name]; ok {
			pins[name] = p
		}
	}
	return Lock{pins}
}

// Format returns the text of the lock file. Equal locks have equal texts.
func (l Lock) Format() []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, header)
	for _, name := range slices.Sorted(maps.Keys(l.pins)) {
		p := l.pins[name]
		fmt.Fprintf(&b, "\n%s\n", p.Name)
		fields := p.fields()
		width := 0
		for _, f := range fields {
			width = max(width, len(f[0]))
		}
		for _, f := range fields {
			fmt.Fprintf(&b, "\t%-*s %s\n", width, f[0], f[1])
		}
	}
	return b.Bytes()
}

// fields are what stands below a pin's name: keys and values.
func (p Pin) fields() [][2]string {
	algorithm, digits, _ := strings.Cut(string(p.Checksum), ":")
	list := [][2]string{{"url", p.URL}, {algorithm, digits}}
	if p.Dated != "" {
		list = append(list, [2]string{"dated", p.Dated})
	}
	if p.Revision != 0 {
		list = append(list, [2]string{"revision", strconv.Itoa(p.Revision)})
	}
	if p.Format != "" {
		list = append(list, [2]string{"format", p.Format})
	}
	if p.Size != 0 {
		list = append(list, [2]string{"size", strconv.FormatInt(p.Size, 10)})
	}
	return list
}

// Parse reads the text of a lock file. Errors name the line.
func Parse(text []byte) (Lock, error) {
	if len(text) > maxSize {
		return Lock{}, fmt.Errorf("parse lock file: %d bytes, more than the %d it may have", len(text), maxSize)
	}
	p := parser{pins: map[string]Pin{}}
	scanner := bufio.NewScanner(bytes.NewReader(text))
	scanner.Buffer(nil, maxSize)
	for number := 1; scanner.Scan(); number++ {
		if err := p.line(scanner.Text()); err != nil {
			return Lock{}, fmt.Errorf("parse lock file: line %d: %w", number, err)
		}
	}
	if err := p.end(); err != nil {
		return Lock{}, fmt.Errorf("parse lock file: at the end: %w", err)
	}
	return Lock{p.pins}, nil
}

type parser struct {
	pins    map[string]Pin
	current *Pin
	started bool
}

func (p *parser) line(line string) error {
	if !p.started {
		p.started = true
		if line != header {
			return fmt.Errorf("want %q: written by another version of herdbook, or not a lock file", header)
		}
		return nil
	}
	switch {
	case line == "" || strings.HasPrefix(line, "#"):
		return nil
	case !strings.HasPrefix(line, "\t"):
		if err := p.end(); err != nil {
			return err
		}
		p.current = &Pin{Name: line}
		return nil
	case p.current == nil:
		return fmt.Errorf("a field before any name")
	}
	return p.field(line[1:])
}

func (p *parser) field(field string) error {
	key, value, _ := strings.Cut(field, " ")
	value = strings.TrimSpace(value)
	switch key {
	case "url":
		p.current.URL = value
	case "sha256", "sha512":
		sum, err := digest.ParseChecksum(key + ":" + value)
		if err != nil {
			return err
		}
		p.current.Checksum = sum
	case "dated":
		p.current.Dated = value
	case "revision":
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil {
			return fmt.Errorf("revision: %.40q is no number", value)
		}
		p.current.Revision = int(n)
	case "format":
		p.current.Format = value
	case "size":
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil {
			return fmt.Errorf("size: %.40q is no number of bytes", value)
		}
		p.current.Size = int64(n)
	default:
		return fmt.Errorf("unknown field %q", key)
	}
	return nil
}

// end files the pin that was being read.
func (p *parser) end() error {
	if p.current == nil {
		return nil
	}
	if p.current.Checksum == "" || p.current.URL == "" {
		return fmt.Errorf("%s: url or checksum is missing", p.current.Name)
	}
	if _, twice := p.pins[p.current.Name]; twice {
		return fmt.Errorf("%s stands twice", p.current.Name)
	}
	p.pins[p.current.Name] = *p.current
	p.current = nil
	return nil
}
