// Package serve serves a repository's directory over HTTP and HTTPS: its objects, to
// read, and for those who have the token, to write. What the objects mean is left to
// others, and so is the page for people, which it only gives its paths to.
//
//	GET, HEAD /NAME              an object: ranges, conditions (RFC 9110), gzip for texts
//	PUT /NAME                    writes one: If-Match or If-None-Match, Repr-Digest (RFC 9530),
//	                             Idempotency-Key (draft-ietf-httpapi-idempotency-key-header)
//	DELETE /NAME                 removes one
//	GET /-/objects?prefix=TEXT   what there is, as JSON
//	GET /metrics                 figures for Prometheus
//	/, and below /-/             the page for people
//
// The strong ETag of an object is the version that its bucket gives it. A client's
// end of this is bucket.HTTP.
package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"herdbook/internal/bucket"
	"herdbook/internal/event"
)

// Options are how a repository is served. Dir and Now must be set; the zero values of
// the rest are good for a repository that everybody may read and nobody may write.
type Options struct {
	Dir       string           // directory of the repository, which the first upload may make
	Now       func() time.Time // for deadlines, durations and logs
	Page      http.Handler     // gets "/" and what is below "/-/"; nil: there is no page
	Readers   []Credential     // who may read; empty: everybody
	Uploaders []Credential     // who may write, and read; empty: nobody
	Cert, Key string           // files in PEM, which are read anew when they change; empty: HTTP
	Log       func(Request)    // gets every request when it is answered; may be nil
	Sink      event.Sink       // notices: what the server could not do

	Header         time.Duration // how long a request's header may take; 0: 10 s
	Idle           time.Duration // without progress, a body or an answer ends, and so does a connection without a request; 0: 1 min
	Grace          time.Duration // how long what runs may go on after the end; 0: 30 s
	MaxConnections int           // further ones wait; 0: 4096
	MaxUploads     int           // further ones wait; 0: 16
	MaxUpload      int64         // size of an object in bytes; 0: 1 TiB
}

// Server serves one repository.
type Server struct {
	// HTTP is the server below, whose ErrorLog may be set before Serve.
	HTTP http.Server

	options  Options
	bucket   bucket.Bucket
	texts    texts
	metrics  *metrics
	certs    *certificate  // nil: HTTP
	uploads  chan struct{} // as many as there may be
	outcomes outcomes      // of uploads
	running  sync.RWMutex  // read by every request that is answered
}

// New makes a server. The error says what is wrong with the certificate.
func New(o Options) (*Server, error) {
	o.Header = def(o.Header, 10*time.Second)
	o.Idle = def(o.Idle, time.Minute)
	o.Grace = def(o.Grace, 30*time.Second)
	o.MaxConnections = def(o.MaxConnections, 4096)
	o.MaxUploads = def(o.MaxUploads, 16)
	o.MaxUpload = def(o.MaxUpload, 1<<40)
	s := &Server{options: o, bucket: bucket.Dir(o.Dir), uploads: make(chan struct{}, o.MaxUploads)}
	s.texts = texts{dir: o.Dir, bucket: s.bucket, public: len(o.Readers) == 0, limit: maxTexts, files: maxFiles}
	s.metrics = newMetrics(o.Dir)
	s.HTTP = http.Server{
		Handler:           s,
		ReadHeaderTimeout: o.Header,
		IdleTimeout:       o.Idle,
		MaxHeaderBytes:    16 << 10,
		ConnContext:       withConn,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 100},
	}
	if o.Cert != "" || o.Key != "" {
		s.certs = &certificate{options: o}
		if _, err := s.certs.get(nil); err != nil {
			return nil, err
		}
		s.HTTP.TLSConfig = &tls.Config{GetCertificate: s.certs.get, MinVersion: tls.VersionTLS12}
	}
	return s, nil
}

// def is the value of an option.
func def[T comparable](given, otherwise T) T {
	var zero T
	if given == zero {
		return otherwise
	}
	return given
}

// Serve answers requests from l, which it closes, until ctx ends; then no new ones,
// but those that run may end within the grace period. The error is nil unless l
// failed.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	served := make(chan error, 1)
	l = s.bound(l)
	end := func(context.Context) error { return nil } // of what is not net/http's
	if s.certs == nil && s.texts.public {
		f := newFront(context.WithoutCancel(ctx), s, l)
		l, end = f, f.end
	}
	go func() {
		if s.certs != nil {
			served <- s.HTTP.ServeTLS(l, "", "")
		} else {
			served <- s.HTTP.Serve(l)
		}
	}()
	var failed error
	select {
	case failed = <-served:
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.options.Grace)
	defer cancel()
	err := s.HTTP.Shutdown(grace)
	err = errors.Join(err, end(grace))
	if err != nil {
		s.notice("what did not end within %v was cut: %v", s.options.Grace, err)
		err = s.HTTP.Close()
	}
	// Uploads that were cut clean up.
	s.running.Lock()
	if failed != nil {
		return errors.Join(fmt.Errorf("serve %s: %w", s.options.Dir, failed), err)
	}
	<-served // says that it was shut down
	return err
}

func (s *Server) notice(format string, args ...any) {
	s.options.Sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf(format, args...)})
}
