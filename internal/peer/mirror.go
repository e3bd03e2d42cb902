package peer

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Upstream is Debian's archive, which a Mirror stands before.
const Upstream = "http://deb.debian.org"

// Mirror stands between a guest and Debian's archive: as a mirror
// (http://10.0.2.2:PORT/debian) and as a proxy (http://10.0.2.2:PORT/).
type Mirror struct {
	Overlay map[string]string      // directory of the host, by the path below /debian that it lies at
	Lacks   func(path string) bool // what is not there, whatever the archive has; nil: nothing
	Asked   func(r *http.Request)  // is called for every request; nil: nobody
}

// Start serves on the loopback until the test ends.
func (m Mirror) Start(t testing.TB) (port int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	Must(t, err)
	server := &http.Server{Handler: m, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // its end is Close
	}()
	t.Cleanup(func() {
		Must(t, server.Close())
		<-done
	})
	return listener.Addr().(*net.TCPAddr).Port
}

// ServeHTTP implements http.Handler.
func (m Mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	upstream, err := url.Parse(Upstream)
	if err != nil {
		panic(err)
	}
	if m.Asked != nil {
		m.Asked(r)
	}
	switch {
	case r.URL.Host != "" && r.URL.Host != upstream.Host:
		http.Error(w, "this goes to "+upstream.Host+" only", http.StatusForbidden)
	case m.Lacks != nil && m.Lacks(r.URL.Path):
		http.NotFound(w, r)
	case m.local(r.URL.Path) != "":
		http.ServeFile(w, &http.Request{Method: r.Method, Header: r.Header, URL: &url.URL{Path: "/"}}, m.local(r.URL.Path))
	default:
		proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = upstream.Scheme, upstream.Host, upstream.Host
		}}
		proxy.ServeHTTP(w, r)
	}
}

// local is the file of an overlay that a path means, or "".
func (m Mirror) local(path string) string {
	for below, dir := range m.Overlay {
		name, ok := strings.CutPrefix(path, "/debian"+below)
		if !ok || !filepath.IsLocal(strings.TrimPrefix(name, "/")) {
			continue
		}
		file := filepath.Join(dir, filepath.FromSlash(name))
		if stat, err := os.Stat(file); err == nil && stat.Mode().IsRegular() {
			return file
		}
	}
	return ""
}

// GuestAddress is what a guest calls a port of the host's loopback.
func GuestAddress(port int) string { return fmt.Sprintf("http://10.0.2.2:%d", port) }
