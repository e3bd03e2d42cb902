package repo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// Keys of ours; virt-builder ignores what it does not know.
const (
	imageKey     = "herdbook_image"
	layerKey     = "herdbook_layer"
	publishedKey = "herdbook_published"
	channelsKey  = "herdbook_channels"
	releasedKey  = "herdbook_released" // [CHANNEL]
	artefactKey  = "herdbook_artefact" // [KIND]
	cmdlineKey   = "herdbook_cmdline"
)

// The comments at the start of an index of ours.
const (
	titleLine   = "# A repository of herdbook, for virt-builder and others."
	versionLine = "# version: "
	signedLine  = "# signed: "
	expiresLine = "# expires: "
	placeLine   = "# location: "
)

// Format writes an index: exactly one blank line between sections and none in
// them, since virt-builder before 1.55.6 knows no other way.
func Format(x Index) []byte {
	var out bytes.Buffer
	if x.Version > 0 {
		fmt.Fprintf(&out, "%s\n%s%d\n%s%s\n", titleLine, versionLine, x.Version, signedLine, stamp(x.Signed))
		if !x.Expires.IsZero() {
			fmt.Fprintf(&out, "%s%s\n", expiresLine, stamp(x.Expires))
		}
		if x.Location != "" {
			fmt.Fprintf(&out, "%s%s\n", placeLine, x.Location)
		}
	}
	for i, e := range x.Entries {
		if i > 0 {
			out.WriteByte('\n')
		}
		e.format(&out)
	}
	return out.Bytes()
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func parseStamp(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	return inSeconds(t), err
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
	field("lvexpand", e.LVExpand)
	field("notes", e.Notes)
	e.Facts.format(field)
	for _, f := range e.Other {
		write(f.Key, f.Value)
	}
	if e.Hidden {
		write("hidden", "true")
	}
	field("aliases", strings.Join(e.Aliases, " "))
}

func (f Facts) format(field func(key, value string)) {
	field(imageKey, f.Image)
	field(layerKey, f.Layer)
	if !f.Published.IsZero() {
		field(publishedKey, stamp(f.Published))
	}
	field(channelsKey, strings.Join(f.Channels, " "))
	for _, r := range f.Released {
		field(releasedKey+"["+r.Channel+"]", stamp(r.Time))
	}
	for _, a := range f.Artefacts {
		field(artefactKey+"["+a.Kind+"]", fmt.Sprintf("%s %d %s %s", a.File, a.Size, a.SHA256, a.SHA512))
	}
	field(cmdlineKey, f.Cmdline)
}

// Parse reads an index, which the caller has verified. Errors name the line. It
// takes what virt-builder takes, and empty lines wherever they stand, but no file
// that would not stay below the index.
func Parse(text []byte) (Index, error) {
	if len(text) > MaxIndex {
		return Index{}, fmt.Errorf("read index: %d bytes, more than the %d it may have", len(text), MaxIndex)
	}
	header, err := parseHeader(string(text))
	if err != nil {
		return Index{}, fmt.Errorf("read index: %w", err)
	}
	sections, err := scan(string(text))
	if err != nil {
		return Index{}, fmt.Errorf("read index, %w", err)
	}
	x := Index{Header: header}
	seen := map[[2]string]bool{}
	for _, s := range sections {
		e, err := s.entry()
		if err != nil {
			return Index{}, fmt.Errorf("read index, [%s]: %w", s.id, err)
		}
		if name := [2]string{e.ID, e.Arch}; seen[name] {
			return Index{}, fmt.Errorf("read index, [%s]: it stands there twice for %s", e.ID, e.Arch)
		} else {
			seen[name] = true
		}
		x.Entries = append(x.Entries, e)
	}
	return x, nil
}

// parseHeader reads the comments with which an index of ours begins. One that does not
// begin so has no header; one that does must have all of it.
func parseHeader(text string) (h Header, err error) {
	rest, ours := strings.CutPrefix(text, titleLine+"\n")
	if !ours {
		return Header{}, nil
	}
	for {
		line, more, _ := strings.Cut(rest, "\n")
		rest = more
		switch {
		case strings.HasPrefix(line, versionLine):
			h.Version, err = strconv.Atoi(line[len(versionLine):])
			if err == nil && h.Version < 1 {
				err = fmt.Errorf("version %d is not above 0", h.Version)
			}
		case strings.HasPrefix(line, signedLine):
			h.Signed, err = parseStamp(line[len(signedLine):])
		case strings.HasPrefix(line, expiresLine):
			h.Expires, err = parseStamp(line[len(expiresLine):])
		case strings.HasPrefix(line, placeLine):
			h.Location = line[len(placeLine):]
		case h.Version < 1:
			return Header{}, errors.New("its first lines do not tell its version")
		default:
			return h, nil
		}
		if err != nil {
			return Header{}, fmt.Errorf("%.60q: %w", line, err)
		}
	}
}

// entry makes an entry of a section.
func (s section) entry() (Entry, error) {
	e := Entry{ID: s.id, Revision: 1}
	var errs []error
	for _, f := range s.fields {
		if err := e.set(f); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.Key, err))
		}
	}
	if e.Arch == "" {
		errs = append(errs, errors.New("it has no arch"))
	}
	for _, file := range e.Files() {
		if !fs.ValidPath(file) || file == "." || strings.Contains(file, `\`) {
			errs = append(errs, fmt.Errorf("file: %.80q does not stay below the index", file))
		}
	}
	return e, errors.Join(errs...)
}

// set takes one field over.
func (e *Entry) set(f Field) (err error) {
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
		var n int64
		n, err = number(f.Value, 32)
		e.Revision = int(n)
	case "format":
		e.Format = f.Value
	case "size":
		e.Size, err = number(f.Value, 64)
	case "compressed_size":
		e.CompressedSize, err = number(f.Value, 64)
	case "expand":
		e.Expand = f.Value
	case "lvexpand":
		e.LVExpand = f.Value
	case "notes":
		e.Notes = f.Value
	case "hidden":
		e.Hidden, err = truth(f.Value)
	case "aliases":
		e.Aliases = words(f.Value)
	default:
		known, err := e.Facts.set(f)
		if !known {
			e.Other = append(e.Other, f)
		}
		return err
	}
	return err
}

// set takes a field over, if it is one of ours.
func (f *Facts) set(field Field) (known bool, err error) {
	key, sub, _ := strings.Cut(strings.TrimSuffix(field.Key, "]"), "[")
	switch {
	case field.Key == imageKey:
		f.Image = field.Value
	case field.Key == layerKey:
		f.Layer = field.Value
	case field.Key == publishedKey:
		f.Published, err = parseStamp(field.Value)
	case field.Key == channelsKey:
		f.Channels = words(field.Value)
	case key == releasedKey && sub != "":
		var at time.Time
		at, err = parseStamp(field.Value)
		f.Released = append(f.Released, Release{sub, at})
	case key == artefactKey && sub != "":
		var a Artefact
		a, err = parseArtefact(sub, field.Value)
		f.Artefacts = append(f.Artefacts, a)
	case field.Key == cmdlineKey:
		f.Cmdline = field.Value
	default:
		return false, nil
	}
	return true, err
}

// words are those of a list; an empty list is nil.
func words(text string) []string {
	if list := strings.Fields(text); len(list) > 0 {
		return list
	}
	return nil
}

func parseArtefact(kind, text string) (Artefact, error) {
	part := strings.Split(text, " ")
	if len(part) != 4 || !isHex(part[2], 64) || !isHex(part[3], 128) {
		return Artefact{}, fmt.Errorf("%.80q: want FILE SIZE SHA256 SHA512", text)
	}
	size, err := number(part[1], 64)
	return Artefact{Kind: kind, File: part[0], Size: size, SHA256: part[2], SHA512: part[3]}, err
}

func isHex(s string, length int) bool {
	return len(s) == length && strings.Trim(s, "0123456789abcdef") == ""
}

func number(text string, bits int) (int64, error) {
	n, err := strconv.ParseInt(text, 10, bits)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%.40q is no number", text)
	}
	return n, nil
}

func truth(text string) (bool, error) {
	if text != "true" && text != "false" {
		return false, fmt.Errorf("%.40q is neither true nor false", text)
	}
	return text == "true", nil
}
