package serve

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"herdbook/internal/bucket"
)

// The paths that are no objects'.
const (
	pagePrefix  = "/-/"
	listPath    = "/-/objects"
	metricsPath = "/metrics"
)

// Request is a request that was answered.
type Request struct {
	Time     time.Time // when it came
	Remote   string    // address of the client
	User     string    // by basic authentication, if that was right
	Method   string
	Path     string // with what was asked for behind a question mark, as it was sent
	Proto    string
	Status   int
	Sent     int64 // bytes of the body
	Duration time.Duration
	Agent    string // what the client says it is
}

// nosniff keeps browsers from guessing, of what somebody uploaded, that it is a page.
var nosniff = []string{"nosniff"}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.running.TryRLock() {
		refuse(w, http.StatusServiceUnavailable, "the server is ending")
		return
	}
	defer s.running.RUnlock()
	start := s.options.Now()
	a := &answer{ResponseWriter: w, server: s, multiplexed: r.ProtoMajor > 1}
	who := s.who(r)
	defer func() { s.done(a, r, who, start) }() // of a handler that panics, too
	a.Header()["X-Content-Type-Options"] = nosniff
	if r.ContentLength != 0 {
		s.renew(w) // even of a body that nobody wants the server reads a part
	}
	s.route(a, r, who)
}

// route gives a request to what answers it.
func (s *Server) route(w http.ResponseWriter, r *http.Request, who visitor) {
	path := r.URL.Path
	switch {
	case r.Method == http.MethodPut && s.mayWrite(w, r, who):
		s.put(w, r)
	case r.Method == http.MethodDelete && s.mayWrite(w, r, who):
		s.remove(w, r)
	case r.Method == http.MethodPut || r.Method == http.MethodDelete: // answered
	case path == listPath:
		if s.mayWrite(w, r, who) && reads(w, r) {
			s.list(w, r)
		}
	case !who.reads:
		s.challenge(w, who)
	case s.options.Page != nil && (path == "/" || strings.HasPrefix(path, pagePrefix)):
		pageHeaders(w.Header())
		s.options.Page.ServeHTTP(w, r)
	case !reads(w, r): // answered
	case path == metricsPath:
		s.metrics.handler.ServeHTTP(w, r)
	default:
		s.object(w, r, strings.TrimPrefix(path, "/"))
	}
}

// reads refuses what is not a reading.
func reads(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	refuse(w, http.StatusMethodNotAllowed, "an object can be read with GET and HEAD")
	return false
}

// pageHeaders are for browsers: nothing of other sites, no frames, no scripts but
// the page's own. The page may set others.
func pageHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "+
		"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
}

// objectName is the name of the object behind a path, or an error that says why there
// cannot be one.
func objectName(path string) (string, error) {
	if path == metricsPath || strings.HasPrefix(path, pagePrefix) {
		return "", fmt.Errorf("name of an object: %.80q is a path of the server's own", path)
	}
	name, ok := strings.CutPrefix(path, "/")
	if !ok {
		return "", fmt.Errorf("name of an object: %.80q is no path", path)
	}
	return name, bucket.CheckName(name)
}

// refuse answers with a status and a line for a person.
func refuse(w http.ResponseWriter, status int, why string) {
	h := w.Header()
	for _, key := range []string{"Cache-Control", "Content-Encoding", "Content-Length", "Etag", "Last-Modified"} {
		h.Del(key) // those of what it is no longer
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "%d %s: %s\n", status, http.StatusText(status), why)
}

// done notes a request that was answered.
func (s *Server) done(a *answer, r *http.Request, who visitor, start time.Time) {
	took := s.options.Now().Sub(start)
	status := def(a.status, http.StatusOK)
	s.metrics.note(r.Method, status, a.sent, took)
	if s.options.Log == nil {
		return
	}
	s.options.Log(Request{
		Time: start, Remote: r.RemoteAddr, User: who.user, Method: r.Method, Path: r.RequestURI, Proto: r.Proto,
		Status: status, Sent: a.sent, Duration: took, Agent: r.UserAgent(),
	})
}
