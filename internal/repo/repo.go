// Package repo knows the text of a repository's index, as virt-builder reads
// it (virt-builder(1), "CREATING YOUR OWN TEMPLATES"). Signing it is package
// signed, putting images and index into a directory is package repo/publish.
package repo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
)

// The names of a repository's files.
const (
	IndexName       = "index"     // the text
	SignedIndexName = "index.asc" // the text, clear-signed
	KeyName         = "key.asc"   // the public key that it is signed with
)

// Entry is an image of a repository.
type Entry struct {
	ID             string // what virt-builder asks for
	Name           string // for people
	OSInfo         string // libosinfo's short name, such as debian12
	Arch           string // x86_64
	File           string // path relative to the index
	Checksum       string // SHA-512 of the file, lower-case hexadecimal
	Revision       int
	Format         string // raw or qcow2
	Size           int64  // bytes that the guest sees
	CompressedSize int64  // bytes of the file
	Expand         string // partition that grows with the disk, such as /dev/sda3
	Notes          string // may have several lines
	Layer          string // digest of the layer that it was published from: a key of ours, which others ignore
	Other          []Field
}

// Field is one that has no place in Entry; it is kept as it is.
type Field struct {
	Key   string // with its subkey, such as notes[de]
	Value string // lines after the first without the blank that begins them
}

// layerKey is how an index names a layer.
const layerKey = "herdbook_layer"

// Format writes an index: exactly one blank line between sections and none in
// them, since virt-builder before 1.55.6 knows no other way.
func Format(entries []Entry) []byte {
	var out bytes.Buffer
	for i, e := range entries {
		if i > 0 {
			out.WriteByte('\n')
		}
		e.format(&out)
	}
	return out.Bytes()
}

func (e Entry) format(out *bytes.Buffer) {
	fmt.Fprintf(out, "[%s]\n", e.ID)
	write := func(key, value string) {
		fmt.Fprintf(out, "%s=%s\n", key, strings.ReplaceAll(value, "\n", "\n "))
	}
	field := func(key, value string) {
		if value != "" {
			write(key, value)
		}
	}
	number := func(n int64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatInt(n, 10)
	}
	field("name", e.Name)
	field("osinfo", e.OSInfo)
	field("file", e.File)
	field("arch", e.Arch)
	field("checksum[sha512]", e.Checksum)
	write("revision", strconv.Itoa(e.Revision)) // 0 is not 1, which it is when it is missing
	field("format", e.Format)
	field("size", number(e.Size))
	field("compressed_size", number(e.CompressedSize))
	field("expand", e.Expand)
	field("notes", e.Notes)
	field(layerKey, e.Layer)
	for _, f := range e.Other {
		write(f.Key, f.Value)
	}
}

// The grammar, after virt-builder's scanner.
var (
	sectionLine = regexp.MustCompile(`^\[([-A-Za-z0-9._]+)\]\s*$`)
	fieldLine   = regexp.MustCompile(`^([A-Za-z0-9_.]+(?:\[[A-Za-z0-9_,.]+\])?)=(.*)$`)
)

// Parse reads an index of at most a few megabytes, which the caller has
// verified. Errors name the line.
func Parse(text []byte) ([]Entry, error) {
	var sections []section
	for i, line := range strings.Split(string(text), "\n") {
		if err := parseLine(&sections, line); err != nil {
			return nil, fmt.Errorf("read index, line %d: %w", i+1, err)
		}
	}
	var entries []Entry
	seen := map[string]bool{}
	for _, s := range sections {
		e, err := s.entry()
		if err != nil {
			return nil, fmt.Errorf("read index, [%s]: %w", s.id, err)
		}
		if seen[e.ID+" "+e.Arch] {
			return nil, fmt.Errorf("read index, [%s]: it stands there twice for %s", e.ID, e.Arch)
		}
		seen[e.ID+" "+e.Arch] = true
		entries = append(entries, e)
	}
	return entries, nil
}

// section is one as it was read.
type section struct {
	id     string
	fields []Field
	empty  int // lines since the last field
}

func parseLine(sections *[]section, line string) error {
	if strings.HasPrefix(line, "#") {
		return nil
	}
	if m := sectionLine.FindStringSubmatch(line); m != nil {
		*sections = append(*sections, section{id: m[1]})
		return nil
	}
	if last := len(*sections) - 1; last >= 0 {
		return (*sections)[last].add(line)
	}
	if line != "" {
		return errors.New("want a section, such as [debian-12]")
	}
	return nil
}

// add reads a line that is in the section.
func (s *section) add(line string) error {
	if line == "" {
		s.empty++
		return nil
	}
	empty := s.empty
	s.empty = 0
	if line[0] == ' ' || line[0] == '\t' {
		if len(s.fields) == 0 {
			return errors.New("there is nothing that it continues")
		}
		// A signature does not cover the blank of a line that continues a field
		// with nothing, so such a line of the notes can come back empty.
		s.fields[len(s.fields)-1].Value += strings.Repeat("\n", empty+1) + line[1:]
		return nil
	}
	m := fieldLine.FindStringSubmatch(line)
	if m == nil {
		return fmt.Errorf("%.60q is neither a section nor a field", line)
	}
	for _, f := range s.fields {
		if f.Key == m[1] {
			return fmt.Errorf("the field %s stands there twice", m[1])
		}
	}
	s.fields = append(s.fields, Field{m[1], m[2]})
	return nil
}

func (s section) entry() (Entry, error) {
	e := Entry{ID: s.id, Revision: 1}
	var errs []error
	number := func(f Field, bits int) int64 {
		n, err := strconv.ParseInt(f.Value, 10, bits)
		if err != nil || n < 0 {
			errs = append(errs, fmt.Errorf("%s: %.40q is no number", f.Key, f.Value))
		}
		return n
	}
	for _, f := range s.fields {
		switch f.Key {
		case "name":
			e.Name = f.Value
		case "osinfo":
			e.OSInfo = f.Value
		case "arch":
			e.Arch = f.Value
		case "file":
			e.File = f.Value
		case "checksum[sha512]":
			e.Checksum = f.Value
		case "revision":
			e.Revision = int(number(f, 32))
		case "format":
			e.Format = f.Value
		case "size":
			e.Size = number(f, 64)
		case "compressed_size":
			e.CompressedSize = number(f, 64)
		case "expand":
			e.Expand = f.Value
		case "notes":
			e.Notes = f.Value
		case layerKey:
			e.Layer = f.Value
		default:
			e.Other = append(e.Other, f)
		}
	}
	if e.Arch == "" {
		errs = append(errs, errors.New("it has no arch"))
	}
	if !fs.ValidPath(e.File) || e.File == "." {
		errs = append(errs, fmt.Errorf("file: %.80q does not stay below the index", e.File))
	}
	return e, errors.Join(errs...)
}
