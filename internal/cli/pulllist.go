package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"herdbook/internal/repo"
	"herdbook/internal/repo/client"
)

// tellImages lists images as virt-builder --list does, or prints the notes on one.
func (a *app) tellImages(ctx context.Context, f pullFlags, args []string) (err error) {
	write, ok := map[string]func(io.Writer, listing) error{"short": listShort, "long": a.listLong, "json": listJSON}[f.listFormat]
	switch {
	case !ok:
		return usageError{fmt.Sprintf("--list-format=%s: want short, long or json", f.listFormat)}
	case f.list && f.notes:
		return usageError{"--list and --notes are two things; give one of them"}
	case f.notes && len(args) == 0:
		return usageError{"--notes: on which image? herdbook pull --list tells what there is"}
	}
	s, done, err := a.useStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	sink := a.notices()
	all, err := a.catalogues(ctx, a.reader(s, f.sourceFlags, sink), f.sourceFlags)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return write(a.Stdout, listing{all, all.Offers()})
	}
	selector, err := repo.ParseSelector(args[0])
	if err != nil {
		return usageError{err.Error()}
	}
	selector.Arch = f.arch
	offer, err := all.Find(selector)
	if err != nil {
		return err
	}
	if f.list { // then virt-builder tells of no sources
		return write(a.Stdout, listing{nil, []client.Offer{offer}})
	}
	text := a.notesOn(offer)
	if text == "" {
		text = "There are no notes for " + offer.ID
	}
	_, err = fmt.Fprintln(a.Stdout, visible(text))
	return err
}

// listing is what is listed.
type listing struct {
	sources client.Catalogues
	offers  []client.Offer
}

func listShort(w io.Writer, l listing) error {
	for _, o := range l.offers {
		if o.Hidden {
			continue
		}
		name := o.Name
		if name != "" {
			name = " " + name
		}
		if _, err := fmt.Fprintf(w, "%-24s %-10s%s\n", o.ID, visible(o.Arch), visible(name)); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) listLong(w io.Writer, l listing) error {
	var out bytes.Buffer
	for _, c := range l.sources {
		fmt.Fprintf(&out, "Source URI: %s\n", sourceURI(c))
		switch {
		case c.Source.KeyFile != "":
			fmt.Fprintf(&out, "Key: %s\n", c.Source.KeyFile)
		case len(c.Fingerprints) > 0:
			fmt.Fprintf(&out, "Fingerprint: %s\n", strings.Join(c.Fingerprints, " "))
		}
		out.WriteByte('\n')
	}
	for _, o := range l.offers {
		if o.Hidden {
			continue
		}
		field := func(name, value string) {
			if value != "" {
				fmt.Fprintf(&out, "%-24s %s\n", name+":", value)
			}
		}
		field("os-version", o.ID)
		field("Full name", o.Name)
		field("Architecture", o.Arch)
		field("Minimum/default size", humanSize(o.Size))
		if o.CompressedSize > 0 {
			field("Download size", humanSize(o.CompressedSize))
		}
		field("Aliases", strings.Join(o.Aliases, " "))
		if text := a.notesOn(o); text != "" {
			fmt.Fprintf(&out, "\nNotes:\n\n%s\n", text)
		}
		out.WriteByte('\n')
	}
	_, err := io.WriteString(w, visible(out.String()))
	return err
}

// humanSize writes a size as virt-builder does.
func humanSize(n int64) string {
	if n < 1024 {
		return fmt.Sprint(n)
	}
	f := float64(n) / 1024
	for _, unit := range "KM" {
		if f < 1024 {
			return fmt.Sprintf("%.1f%c", f, unit)
		}
		f /= 1024
	}
	return fmt.Sprintf("%.1fG", f)
}

// listedSource and listedImage are of the JSON of virt-builder, version 1.
type listedSource struct {
	Key         string `json:"key,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	URI         string `json:"uri"`
}

type listedImage struct {
	ID             string            `json:"os-version"`
	Name           string            `json:"full-name,omitempty"`
	Arch           string            `json:"arch"`
	Size           int64             `json:"size"`
	CompressedSize string            `json:"compressed-size,omitempty"`
	Notes          map[string]string `json:"notes,omitempty"` // by language
	Aliases        []string          `json:"aliases,omitempty"`
	OSInfo         string            `json:"osinfo,omitempty"`
	Hidden         bool              `json:"hidden"`
}

func listJSON(w io.Writer, l listing) error {
	list := struct {
		Version   int            `json:"version"`
		Sources   []listedSource `json:"sources"`
		Templates []listedImage  `json:"templates"`
	}{1, []listedSource{}, []listedImage{}}
	for _, c := range l.sources {
		s := listedSource{Key: c.Source.KeyFile, URI: sourceURI(c)}
		if s.Key == "" {
			s.Fingerprint = strings.Join(c.Fingerprints, " ")
		}
		list.Sources = append(list.Sources, s)
	}
	for _, o := range l.offers {
		i := listedImage{ID: o.ID, Name: o.Name, Arch: o.Arch, Size: o.Size, Notes: notes(o), Aliases: o.Aliases, OSInfo: o.OSInfo, Hidden: o.Hidden}
		if o.CompressedSize > 0 {
			i.CompressedSize = fmt.Sprint(o.CompressedSize)
		}
		list.Templates = append(list.Templates, i)
	}
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(list)
}

// sourceURI is the address of what was read, as virt-builder would be told it.
func sourceURI(c *client.Catalogue) string {
	address := c.URL
	if c.Source.Streams {
		address = c.Source.URL
	}
	if u, err := url.Parse(address); err == nil && u.User != nil {
		return u.Redacted()
	}
	return address
}

// notes are those on an image, by language; those that say none have C.
func notes(o client.Offer) map[string]string {
	all := map[string]string{}
	if o.Notes != "" {
		all["C"] = o.Notes
	}
	for _, f := range o.Other {
		if language, ok := strings.CutPrefix(f.Key, "notes["); ok {
			all[strings.TrimSuffix(language, "]")] = f.Value
		}
	}
	return all
}

// notesOn are the notes on an image in the user's language, if there are any.
func (a *app) notesOn(o client.Offer) string {
	all := notes(o)
	for _, language := range append(a.languages(), "C") {
		if text := all[language]; text != "" {
			return text
		}
	}
	return ""
}

// languages are those of messages, as the environment says: de_DE, then de.
func (a *app) languages() []string {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if value, ok := a.LookupEnv(name); ok && value != "" {
			locale, _, _ := strings.Cut(value, ".")
			locale, _, _ = strings.Cut(locale, "@")
			language, _, _ := strings.Cut(locale, "_")
			return slices.Compact([]string{locale, language})
		}
	}
	return nil
}
