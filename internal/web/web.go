// Package web shows a repository to people: its images, revisions and channels,
// what made them and what is in them, and how to use them. The pages are HTML and
// CSS, and a script that only adds buttons to copy commands; nothing comes from
// elsewhere. What the repository says is untrusted text. Reading it is left to the
// Source.
package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

//go:embed page
var files embed.FS

// Options say how the pages are served. The zero value works, but for Now.
type Options struct {
	Name string           // of the repository, for people; "" is the host of its address
	URL  string           // where others reach the repository; "" is where the request found it
	Now  func() time.Time // the clock, by which an index is expired
}

// Handler shows a repository at / and below /-/.
type Handler struct {
	source Source
	opts   Options
	prefix string // of all paths, for a server that stands before this one
	mux    *http.ServeMux
	pages  map[string]*template.Template
	assets map[string]asset

	mu      sync.Mutex
	latest  *catalogue
	content contents
}

// asset is a file of the page's own.
type asset struct {
	path string // with its digest, so that it can be kept for ever
	kind string
	data []byte
}

// policy lets a page have what this server serves, and nothing be written into it.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// New returns a handler for a repository. The error is that of Options.URL.
func New(source Source, opts Options) (*Handler, error) {
	h := &Handler{source: source, opts: opts, mux: http.NewServeMux(), assets: map[string]asset{}}
	if opts.URL != "" {
		u, err := url.Parse(opts.URL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("address of the repository: %q is no URL that begins with http:// or https://", opts.URL)
		}
		h.prefix = strings.TrimSuffix(u.EscapedPath(), "/")
	}
	for name, kind := range map[string]string{"style.css": "text/css; charset=utf-8", "copy.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"} {
		if err := h.asset(name, kind); err != nil {
			return nil, err
		}
	}
	if err := h.parse(); err != nil {
		return nil, err
	}
	h.mux.HandleFunc("GET /{$}", h.page(h.index))
	h.mux.HandleFunc("GET /-/images/{name}", h.page(h.image))
	h.mux.HandleFunc("GET /-/images/{name}/{revision}", h.page(h.revision))
	h.mux.HandleFunc("GET /-/compare/{name}", h.choose)
	h.mux.HandleFunc("GET /-/compare/{name}/{a}/{b}", h.page(h.compare))
	h.mux.HandleFunc("GET /", h.page(func(*request) (view, error) { return view{}, errNothing }))
	return h, nil
}

// ServeHTTP implements http.Handler. What it does not know gets a page that says so.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

func (h *Handler) asset(name, kind string) error {
	data, err := files.ReadFile("page/" + name)
	if err != nil {
		return err
	}
	stem, suffix, _ := strings.Cut(name, ".")
	a := asset{fmt.Sprintf("/-/%s.%s.%s", stem, digest(data), suffix), kind, data}
	h.assets[name] = a
	h.mux.HandleFunc("GET "+a.path, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		w.Header().Set("Content-Type", a.kind)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.data))
	})
	return nil
}

// digest is enough of a hash to tell two versions of one file apart.
func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// parse reads the templates: base.html has what all pages have in common.
func (h *Handler) parse() error {
	h.pages = map[string]*template.Template{}
	for _, name := range []string{"index", "image", "revision", "compare", "error"} {
		t, err := template.New("base.html").Funcs(h.functions()).ParseFS(files, "page/base.html", "page/"+name+".html")
		if err != nil {
			return err
		}
		h.pages[name] = t
	}
	return nil
}

// request is one that a page answers.
type request struct {
	*http.Request
	*catalogue
	base string    // the repository's address, without a slash at its end
	now  time.Time // of the whole page
}

// view is a page that is ready to be written.
type view struct {
	page  string // the template
	title string
	data  any
}

// frame is what base.html shows.
type frame struct {
	Title, Site string
	Query       string // in the field of the head
	Repository  *Repository
	Expired     bool
	Data        any
}

var (
	errNothing  = errors.New("there is nothing here")
	errQuestion = errors.New("the address asks for something that cannot be")
	hostname    = regexp.MustCompile(`^[A-Za-z0-9._~\[\]:-]+$`)
)

// page answers with what a function makes.
func (h *Handler) page(make func(*request) (view, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := &request{Request: r, base: h.address(r), now: h.opts.Now()}
		c, err := h.catalogue(r.Context())
		var v view
		if err == nil {
			q.catalogue = c
			v, err = make(q)
		}
		h.write(w, q, v, err)
	}
}

// address is where others reach the repository.
func (h *Handler) address(r *http.Request) string {
	switch {
	case h.opts.URL != "":
		return strings.TrimSuffix(h.opts.URL, "/")
	case !hostname.MatchString(r.Host):
		return "http://localhost"
	case r.TLS != nil:
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// catalogue is what the pages need of the repository as it is now.
func (h *Handler) catalogue(ctx context.Context) (*catalogue, error) {
	repository, err := h.source.Repository(ctx)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.latest == nil || h.latest.repository != repository {
		h.latest = newCatalogue(repository)
	}
	return h.latest, nil
}

// problem is what a page says in place of what was asked for.
type problem struct {
	Status  int
	Heading string
	Text    string
	Near    []string // images with like names
}

// write writes a page, or one about why there is none.
func (h *Handler) write(w http.ResponseWriter, q *request, v view, err error) {
	status := http.StatusOK
	if err != nil {
		p := explain(q, err)
		status, v = p.Status, view{"error", p.Heading, p}
	}
	f := frame{Title: v.title, Site: h.opts.Name, Data: v.data}
	if v.page == "index" {
		f.Query = asked(q.Request)
	}
	if f.Site == "" {
		f.Site = strings.TrimPrefix(strings.TrimPrefix(q.base, "https://"), "http://")
	}
	if q.catalogue != nil {
		f.Repository = q.repository
		f.Expired = !f.Repository.Expires.IsZero() && !q.now.Before(f.Repository.Expires)
	}
	var body bytes.Buffer
	if err := h.pages[v.page].Execute(&body, f); err != nil {
		http.Error(w, "this page cannot be made", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cache-Control", "no-cache")
	if status != http.StatusOK {
		header.Set("Content-Length", fmt.Sprint(body.Len()))
		w.WriteHeader(status)
		if q.Method != http.MethodHead {
			_, _ = w.Write(body.Bytes()) // who went away needs no page
		}
		return
	}
	header.Set("ETag", `"`+digest(body.Bytes())+`"`)
	http.ServeContent(w, q.Request, "", time.Time{}, bytes.NewReader(body.Bytes()))
}

// explain says what is wrong and what to do. Causes within the server are its
// operator's, who has them from the Source.
func explain(q *request, err error) problem {
	switch {
	case errors.Is(err, errNothing):
		p := problem{Status: http.StatusNotFound, Heading: "There is nothing here", Text: "No page and no image has this address."}
		if name := q.PathValue("name"); name != "" && q.catalogue != nil {
			p.Near = q.near(name)
		}
		return p
	case errors.Is(err, errQuestion):
		return problem{Status: http.StatusBadRequest, Heading: "That cannot be shown", Text: strings.TrimPrefix(err.Error(), errQuestion.Error()+": ")}
	case errors.Is(err, fs.ErrNotExist):
		return problem{Status: http.StatusNotFound, Heading: "There is nothing published yet", Text: "This repository has no index that could be read: publish an image first."}
	}
	return problem{Status: http.StatusServiceUnavailable, Heading: "The repository cannot be read", Text: "Try again in a moment. If that does not help, its operator finds the cause in the server's log."}
}
