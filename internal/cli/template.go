package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"time"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/pin"
	"herdbook/internal/plan"
	"herdbook/internal/repo"
	"herdbook/internal/repo/client"
	"herdbook/internal/signed"
	"herdbook/internal/source"
	"herdbook/internal/store"
)

// located is a definition whose templates know the addresses of their repositories:
// those of the definition, else those that virt-builder knows on this machine.
func (a *app) located(def *definition.Definition, sink event.Sink) (*definition.Definition, error) {
	all := suppliers{app: a, definition: def, sink: sink}
	found := *def
	found.Images = slices.Clone(def.Images)
	var errs []error
	for i, image := range found.Images {
		if image.Template == nil || image.Template.Address != "" {
			continue
		}
		origin, err := all.origin(image.Template.Repository)
		if err != nil {
			errs = append(errs, usageError{fmt.Sprintf("image %q (%s): %v", image.Name, image.Position, err)})
			continue
		}
		template := *image.Template
		template.Address = origin.URL
		found.Images[i].Template = &template
	}
	return &found, errors.Join(errs...)
}

// suppliers are the repositories that templates can come from.
type suppliers struct {
	*app
	definition *definition.Definition
	sink       event.Sink // hears of what is wrong with virt-builder's

	origins []client.Source // of virt-builder
	looked  bool            // for them
	read    map[string]*client.Catalogue
}

// origin is one of virt-builder's repositories.
func (r *suppliers) origin(name string) (client.Source, error) {
	if !r.looked {
		r.origins, r.looked = client.Origins(r.LookupEnv, r.sink), true
	}
	var known, others []string
	for _, s := range r.origins {
		if s.Name == name {
			return s, nil
		}
		others = append(others, s.Name)
	}
	for _, d := range r.definition.Repositories {
		known = append(known, d.Name)
	}
	list := func(names []string) string {
		if len(names) == 0 {
			return "none"
		}
		return strings.Join(names, ", ")
	}
	return client.Source{}, fmt.Errorf("there is no repository %q: the definition has %s, virt-builder's repos.d has %s", name, list(known), list(others))
}

// source is how the repository of a name is read.
func (r *suppliers) source(name string) (client.Source, error) {
	at := slices.IndexFunc(r.definition.Repositories, func(d definition.Repository) bool { return d.Name == name })
	if at < 0 {
		return r.origin(name)
	}
	return r.sourceOf(r.definition.Repositories[at])
}

// wanted is an image's template, to be pinned.
func (r *suppliers) wanted(image definition.Image, c *client.Client) (source.Wanted, error) {
	t := *image.Template
	s, err := r.source(t.Repository)
	if err != nil {
		return source.Wanted{}, err
	}
	trust := fmt.Sprint(signed.Fingerprints(s.Keys), s.Fingerprints, s.Unsigned, s.Streams)
	return source.Wanted{
		Template: source.Template{Name: t.PinName(), Trust: trust, Look: func(ctx context.Context) (pin.Pin, error) {
			p, err := r.look(ctx, c, s, t)
			if err != nil {
				err = fmt.Errorf("image %q (%s): %w", image.Name, image.Position, err)
			}
			return p, err
		}},
		Refresh: source.Refresh(t.Refresh),
	}, nil
}

// look asks a repository, once in a run, what a template stands for.
func (r *suppliers) look(ctx context.Context, c *client.Client, s client.Source, t definition.Template) (pin.Pin, error) {
	catalogue, ok := r.read[t.Repository]
	if !ok {
		var err error
		if catalogue, err = c.Read(ctx, s); err != nil {
			return pin.Pin{}, err
		}
		if r.read == nil {
			r.read = map[string]*client.Catalogue{}
		}
		r.read[t.Repository] = catalogue
	}
	offer, err := offered(catalogue, t.Selector())
	if err != nil {
		return pin.Pin{}, err
	}
	file, err := offer.File()
	if err == nil && file.Checksum == "" {
		err = client.ErrUnvouched
	}
	if err != nil {
		return pin.Pin{}, fmt.Errorf("pin %s of repository %s: %w", t.Selector(), s, err)
	}
	p := pin.Pin{
		Name: t.PinName(), URL: file.URL, Checksum: file.Checksum, Revision: offer.Revision, Format: string(file.Format), Size: file.Virtual,
	}
	if !offer.Published.IsZero() {
		p.Dated = offer.Published.UTC().Format(time.RFC1123)
	}
	return p, nil
}

// offered finds an image. If nobody says for which architecture, it is for that of
// the machines that herdbook starts, or one that does not tell its own.
func offered(c *client.Catalogue, s repo.Selector) (client.Offer, error) {
	from := client.Catalogues{c}
	if s.Arch != "" {
		return from.Find(s)
	}
	s.Arch = "x86_64"
	offer, err := from.Find(s)
	if errors.Is(err, repo.ErrNoImage) {
		s.Arch = ""
		if other, otherErr := from.Find(s); otherErr == nil && other.Arch == "" {
			return other, nil
		}
	}
	return offer, err
}

// fetch returns the path of what a template is pinned to, verified.
func (r *suppliers) fetch(ctx context.Context, kept string, t plan.Template, sink event.Sink) (string, error) {
	s, err := r.source(t.Repository)
	if err != nil {
		return "", err
	}
	media := source.Media{Dir: kept, Fetcher: source.Fetcher{Sink: sink, Proxy: s.Proxy}, Now: r.Now()}
	if isOf(s.URL, t.Pin.URL) {
		media.Fetcher.Token, media.Fetcher.Bucket = s.Token, s.Bucket
	}
	path, err := media.File(ctx, t.Pin.URL, t.Pin.Checksum)
	switch {
	case errors.Is(err, source.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w; the repository had it when it was pinned: herdbook build --refresh pins what it has now", err)
	case errors.Is(err, digest.ErrMismatch):
		err = fmt.Errorf("%w; what is there is not what was pinned", err)
	}
	return path, err
}

// isOf tells whether a file is where its repository is: a pin that leads elsewhere, in a
// lock file that anybody may have changed, must not be followed with a token.
func isOf(repository, file string) bool {
	r, err := url.Parse(repository)
	f, fileErr := url.Parse(file)
	return err == nil && fileErr == nil && r.Scheme == f.Scheme && r.Host == f.Host && r.RawQuery == f.RawQuery
}

// templates are the templates of a definition, to be pinned.
func (a *app) templates(def *definition.Definition, s *store.Store, acceptOld bool, sink event.Sink) ([]source.Wanted, error) {
	r := suppliers{app: a, definition: def}
	c := a.reader(s, sourceFlags{acceptOld: acceptOld}, sink)
	var list []source.Wanted
	var errs []error
	for _, image := range def.Images {
		if image.Template == nil {
			continue
		}
		w, err := r.wanted(image, c)
		list, errs = append(list, w), append(errs, err)
	}
	return list, errors.Join(errs...)
}

// fetcher fetches templates for a builder.
func (a *app) fetcher(def *definition.Definition, s *store.Store) func(context.Context, plan.Template, event.Sink) (string, error) {
	return func(ctx context.Context, t plan.Template, sink event.Sink) (string, error) {
		r := suppliers{app: a, definition: def}
		return r.fetch(ctx, s.MediaDir(), t, sink)
	}
}
