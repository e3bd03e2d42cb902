package serve

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"herdbook/internal/bucket"
)

// put writes an object: its bytes go into the bucket as they come, and it appears if
// all of them came, they have the digest that was said, and the condition holds.
func (s *Server) put(w http.ResponseWriter, r *http.Request) {
	name, condition, body, err := s.incoming(w, r)
	if err == nil {
		err = s.place(r.Context())
	}
	if err != nil {
		s.refuseUpload(w, err)
		return
	}
	defer func() { <-s.uploads }()
	o, err := s.write(r, name, body, condition)
	if err != nil {
		s.refuseUpload(w, err)
		return
	}
	h := w.Header()
	h.Set("Etag", etag(o.object.Version))
	h.Set("Last-Modified", o.object.Modified.UTC().Format(http.TimeFormat))
	if o.isNew {
		w.WriteHeader(http.StatusCreated)
	} else {
		w.WriteHeader(http.StatusNoContent)
	}
}

// write writes an object, unless it was this upload that wrote it before.
func (s *Server) write(r *http.Request, name string, body *incoming, condition bucket.Condition) (*outcome, error) {
	o := &outcome{done: make(chan struct{})}
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		key = name + "\x00" + key
		var err error
		if o, err = s.outcomes.claim(r.Context(), key); err != nil || o.made {
			return o, err
		}
		defer s.outcomes.settle(key, o)
	}
	_, err := identify(filepath.Join(s.options.Dir, filepath.FromSlash(name)))
	o.isNew = errors.Is(err, fs.ErrNotExist)
	o.object, err = s.bucket.Put(r.Context(), name, body, condition)
	o.made = err == nil
	s.metrics.uploaded.Add(float64(body.at))
	return o, err
}

// place waits until there are few enough uploads.
func (s *Server) place(ctx context.Context) error {
	select {
	case s.uploads <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wrong is an error of the client's, with the status that says so.
type wrong struct {
	status int
	why    string
}

func (e wrong) Error() string { return e.why }

// incoming reads the header of an upload.
func (s *Server) incoming(w http.ResponseWriter, r *http.Request) (string, bucket.Condition, *incoming, error) {
	var condition bucket.Condition
	name, err := objectName(r.URL.Path)
	switch {
	case err != nil:
		return "", condition, nil, wrong{http.StatusBadRequest, err.Error()}
	case r.Header.Get("Content-Range") != "":
		return "", condition, nil, wrong{http.StatusBadRequest, "an object is written whole, not in ranges"}
	case r.Header.Get("Content-Encoding") != "":
		return "", condition, nil, wrong{http.StatusUnsupportedMediaType, "an object is written as it is, not encoded"}
	case r.ContentLength < 0:
		return "", condition, nil, wrong{http.StatusLengthRequired, "say the size with Content-Length"}
	case r.ContentLength > s.options.MaxUpload:
		return "", condition, nil, wrong{http.StatusRequestEntityTooLarge, fmt.Sprintf("an object may have %d bytes", s.options.MaxUpload)}
	}
	if condition, err = conditionOf(r.Header); err != nil {
		return "", condition, nil, err
	}
	sums, err := digests(r.Header)
	if err != nil {
		return "", condition, nil, err
	}
	body := &incoming{body: r.Body, size: r.ContentLength, sums: sums, renew: func() { s.renew(w) }, settle: func() { s.settle(w) }}
	if body.size == 0 {
		err = body.end()
	}
	return name, condition, body, err
}

// conditionOf reads If-Match and If-None-Match, as far as a bucket knows conditions.
func conditionOf(h http.Header) (c bucket.Condition, err error) {
	match, none := h.Values("If-Match"), h.Values("If-None-Match")
	switch {
	case len(match)+len(none) == 0:
		return c, nil
	case len(match)+len(none) == 1 && len(none) == 1 && none[0] == "*":
		return bucket.Condition{Absent: true}, nil
	case len(match) == 1 && len(none) == 0:
		if v, ok := version(match[0]); ok {
			return bucket.Condition{Version: v}, nil
		}
	}
	return c, wrong{http.StatusBadRequest, `an upload's condition is If-None-Match: * or If-Match: "VERSION"`}
}

// checksum is a digest that the content must have.
type checksum struct {
	hash.Hash
	want string
}

// digests reads Repr-Digest (RFC 9530): a dictionary of byte sequences (RFC 9651), of
// which those with unknown names mean nothing here.
func digests(h http.Header) ([]checksum, error) {
	var sums []checksum
	for part := range strings.SplitSeq(strings.Join(h.Values("Repr-Digest"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		var sum checksum
		switch name {
		case "sha-256":
			sum.Hash = sha256.New()
		case "sha-512":
			sum.Hash = sha512.New()
		default:
			continue
		}
		inner, first := strings.CutPrefix(value, ":")
		inner, last := strings.CutSuffix(inner, ":")
		bytes, err := base64.StdEncoding.DecodeString(inner)
		if !first || !last || err != nil || len(bytes) != sum.Size() {
			return nil, wrong{http.StatusBadRequest, "Repr-Digest: want " + name + "=:BASE64:"}
		}
		sum.want = string(bytes)
		sums = append(sums, sum)
	}
	return sums, nil
}

// incoming is the body of an upload as the content of an object, which a directory
// reads once from its start to its end. The last part is given out only if the
// whole is what was said.
type incoming struct {
	body   io.Reader
	size   int64
	sums   []checksum
	renew  func() // gives the body another idle period
	settle func() // says that all of it is there
	at     int64
}

// Size is what Content-Length said.
func (c *incoming) Size() int64 { return c.size }

// ReadAt reads what comes next.
func (c *incoming) ReadAt(p []byte, at int64) (n int, err error) {
	if at != c.at {
		return 0, fmt.Errorf("an upload can be read only as it comes: at %d, not at %d", c.at, at)
	}
	for n < len(p) && c.at < c.size && err == nil {
		c.renew()
		var m int
		m, err = c.body.Read(p[n:])
		for _, sum := range c.sums {
			_, _ = sum.Write(p[n : n+m]) // never fails
		}
		n += m
		c.at += int64(m)
	}
	switch {
	case c.at == c.size:
		c.settle()
		if err := c.end(); err != nil {
			return 0, err
		}
		if n < len(p) {
			return n, io.EOF
		}
		return n, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, wrong{http.StatusRequestTimeout, fmt.Sprintf("the upload stands still after %d of %d bytes", c.at, c.size)}
	case err != nil:
		return n, wrong{http.StatusBadRequest, fmt.Sprintf("the upload ends after %d of %d bytes: %v", c.at, c.size, err)}
	}
	return n, nil
}

// end checks the whole.
func (c *incoming) end() error {
	for _, sum := range c.sums {
		if string(sum.Sum(nil)) != sum.want {
			return wrong{http.StatusBadRequest, "what came has not the digest of Repr-Digest"}
		}
	}
	return nil
}

// renew gives the body of a request another idle period.
func (s *Server) renew(w http.ResponseWriter) {
	// Where there are no deadlines, as in a test's recorder, there is no waiting either.
	_ = http.NewResponseController(w).SetReadDeadline(s.options.Now().Add(s.options.Idle))
}

// settle ends what renew began: the bucket may take its time to write.
func (s *Server) settle(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // likewise
}

// refuseUpload answers that something was not written.
func (s *Server) refuseUpload(w http.ResponseWriter, err error) {
	var mistake wrong
	status := http.StatusInternalServerError
	switch {
	case errors.As(err, &mistake):
		status = mistake.status
		err = mistake
	case errors.Is(err, bucket.ErrChanged):
		status, err = http.StatusPreconditionFailed, bucket.ErrChanged
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		status = http.StatusInsufficientStorage
	case errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EEXIST):
		status = http.StatusConflict
	}
	if status >= http.StatusInternalServerError {
		s.notice("%v", err)
	}
	refuse(w, status, err.Error())
}

// remove removes an object.
func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	name, err := objectName(r.URL.Path)
	if err != nil {
		err = wrong{http.StatusBadRequest, err.Error()}
	} else if len(r.Header.Values("If-Match"))+len(r.Header.Values("If-None-Match")) > 0 {
		err = wrong{http.StatusBadRequest, "an object is removed without a condition"}
	} else {
		err = s.bucket.Remove(r.Context(), name)
	}
	if err != nil {
		s.refuseUpload(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// listed is an object in a list.
type listed struct {
	Name     string    `json:"name"`
	Size     int64     `json:"size"`
	Version  string    `json:"version"`
	Modified time.Time `json:"modified"`
}

// list answers with the objects whose names begin with a prefix.
func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	found, err := s.bucket.List(r.Context(), r.URL.Query().Get("prefix"))
	if err != nil {
		s.refuseUpload(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	objects := make([]listed, len(found))
	for i, o := range found {
		// In whole seconds, like Last-Modified: one time for one object.
		objects[i] = listed{Name: o.Name, Size: o.Size, Version: o.Version, Modified: o.Modified.UTC().Truncate(time.Second)}
	}
	_ = json.NewEncoder(w).Encode(objects) // the client is gone, and net/http knows
}
