package bucket

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// HTTPOptions are how a herdbook that serves a repository is spoken to.
type HTTPOptions struct {
	Token      Secret            // for uploads; empty: the bucket can be read only, and not be listed
	AllowPlain bool              // sends the token over plain HTTP to other machines, too
	Transport  http.RoundTripper // nil: one of its own, by Go's defaults
	// Wait waits before something is tried again; nil: as long as it says.
	Wait func(ctx context.Context, d time.Duration) error
}

// HTTP is a bucket behind "herdbook repo serve" (package serve), or, to be read only,
// behind any web server that gives strong ETags. Its address is that of the
// repository. Failures that may pass are tried again: see attempts.
func HTTP(address string, o HTTPOptions) (Bucket, error) {
	base, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New("address of a repository: it is no URL") // without it, since it may have a password
	case base.User != nil:
		return nil, fmt.Errorf("address of a repository on %s: it must have no password, which every process could read", base.Host)
	case base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.RawQuery != "" || base.Fragment != "":
		return nil, fmt.Errorf("address of a repository: %s is not like https://HOST/PATH", base.Redacted())
	case o.Token != "" && base.Scheme == "http" && !o.AllowPlain && !loopback(base.Hostname()):
		return nil, fmt.Errorf("address of a repository: a token for %s would be sent so that everybody on the way can read it: use https", base.Redacted())
	}
	if o.Transport == nil {
		o.Transport = transport()
	}
	if o.Wait == nil {
		o.Wait = wait
	}
	base.Path = strings.TrimSuffix(base.Path, "/") + "/"
	base.RawPath = ""
	return &web{
		base: base, options: o,
		client: &http.Client{Transport: o.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// loopback tells whether a host is this machine. Other names than localhost are what
// a name server says.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func transport() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	t = t.Clone()
	t.DisableCompression = true           // bytes as they are, with the tag that a condition needs
	t.ResponseHeaderTimeout = time.Minute // from the end of a request
	t.MaxIdleConnsPerHost = 8
	return t
}

// web is a bucket behind HTTP.
type web struct {
	base    *url.URL
	options HTTPOptions
	client  *http.Client
}

func (b *web) address(name string) *url.URL {
	u := *b.base
	u.Path += name
	return &u
}

func (b *web) Open(ctx context.Context, name string) (io.ReadCloser, Object, error) {
	r, o, err := b.open(ctx, name)
	if err != nil {
		return nil, Object{}, fmt.Errorf("open %.80s at %s: %w", name, b.base, err)
	}
	return r, o, nil
}

func (b *web) open(ctx context.Context, name string) (io.ReadCloser, Object, error) {
	if err := CheckName(name); err != nil {
		return nil, Object{}, err
	}
	response, err := b.get(ctx, name, nil)
	if err != nil {
		return nil, Object{}, err
	}
	o, err := described(name, response)
	if err == nil && (response.StatusCode != http.StatusOK || response.ContentLength < 0) {
		err = fmt.Errorf("the server says %s and not how long the object is", response.Status)
	}
	if err != nil {
		return nil, o, errors.Join(err, response.Body.Close())
	}
	o.Size = response.ContentLength
	return &resumed{bucket: b, ctx: ctx, object: o, body: response.Body}, o, nil
}

// get asks for an object and tries again.
func (b *web) get(ctx context.Context, name string, header http.Header) (response *http.Response, err error) {
	err = b.try(ctx, func() error {
		response, err = b.do(ctx, request{method: http.MethodGet, address: b.address(name), header: header})
		return err
	})
	return response, err
}

// described is what a response says of an object.
func described(name string, response *http.Response) (Object, error) {
	tag := response.Header.Get("Etag")
	version, ok := strings.CutPrefix(tag, `"`)
	version, closed := strings.CutSuffix(version, `"`)
	if !ok || !closed || version == "" {
		return Object{}, fmt.Errorf("the server tells no version of the object: its ETag is %.80q, which is no strong one", tag)
	}
	modified, err := http.ParseTime(response.Header.Get("Last-Modified"))
	if err != nil {
		return Object{}, fmt.Errorf("the server does not tell when the object was written: %w", err)
	}
	return Object{Name: name, Version: version, Modified: modified}, nil
}

// resumed is the body of an object, which goes on where a connection broke, if it is
// still the same object.
type resumed struct {
	bucket *web
	ctx    context.Context
	object Object
	body   io.ReadCloser
	at     int64
	broken int // how often since it last gave something
}

func (r *resumed) Read(p []byte) (int, error) {
	for {
		n, err := r.body.Read(p)
		if r.at += int64(n); n > 0 {
			r.broken = 0
		}
		if err == io.EOF && r.at < r.object.Size {
			err = io.ErrUnexpectedEOF
		}
		if err == nil || err == io.EOF || n > 0 && passes(err) {
			if err == io.EOF {
				return n, io.EOF
			}
			return n, nil // it shows again
		}
		if r.broken++; !passes(err) || r.ctx.Err() != nil || r.broken >= attempts {
			return n, fmt.Errorf("read %.80s at %s: %w", r.object.Name, r.bucket.base, errors.Join(r.ctx.Err(), err))
		}
		if err := r.resume(); err != nil {
			return n, fmt.Errorf("read on in %.80s at %s: %w", r.object.Name, r.bucket.base, err)
		}
	}
}

// resume asks for the rest.
func (r *resumed) resume() error {
	_ = r.body.Close() // it is broken
	response, err := r.bucket.get(r.ctx, r.object.Name, http.Header{
		"Range":    {fmt.Sprintf("bytes=%d-", r.at)},
		"If-Match": {`"` + r.object.Version + `"`},
	})
	if err != nil {
		return err
	}
	var start int64
	_, err = fmt.Sscanf(response.Header.Get("Content-Range"), "bytes %d-", &start)
	if response.StatusCode != http.StatusPartialContent || err != nil || start != r.at || response.Header.Get("Etag") != `"`+r.object.Version+`"` {
		return errors.Join(fmt.Errorf("the server says %s, and gives %q of another object or range", response.Status, response.Header.Get("Content-Range")),
			response.Body.Close())
	}
	r.body = response.Body
	return nil
}

func (r *resumed) Close() error { return r.body.Close() }

func (b *web) Put(ctx context.Context, name string, content Content, condition Condition) (Object, error) {
	o, err := b.put(ctx, name, content, condition)
	if err != nil {
		return Object{}, fmt.Errorf("put %.80s to %s: %w", name, b.base, err)
	}
	return o, nil
}

// expectFrom is the size from which on the server is asked whether it wants the
// content at all, in bytes: what is there already need not cross the network.
const expectFrom = 64 << 10

func (b *web) put(ctx context.Context, name string, content Content, condition Condition) (o Object, err error) {
	if err := errors.Join(CheckName(name), condition.check(), ctx.Err()); err != nil {
		return o, err
	}
	// What is there before anything was sent cannot be ours: see below.
	if err := b.expect(ctx, name, condition); err != nil {
		return o, err
	}
	sum, err := digest(io.NewSectionReader(content, 0, content.Size()), content.Size())
	if err = errors.Join(err, ctx.Err()); err != nil {
		return o, fmt.Errorf("read what is put: %w", err)
	}
	header := http.Header{
		"Repr-Digest":     {"sha-256=:" + base64.StdEncoding.EncodeToString(sum) + ":"},
		"Idempotency-Key": {`"` + rand.Text() + `"`}, // so that the server knows the next try for what it is
	}
	if content.Size() > expectFrom {
		header.Set("Expect", "100-continue")
	}
	switch {
	case condition.Absent:
		header.Set("If-None-Match", "*")
	case condition.Version != "":
		header.Set("If-Match", `"`+condition.Version+`"`)
	}
	unknown := false // whether one that failed may have been made, by a server that has forgotten it
	err = b.try(ctx, func() error {
		response, err := b.do(ctx, request{method: http.MethodPut, address: b.address(name), header: header, content: content})
		if errors.Is(err, ErrChanged) && unknown {
			var ours bool
			if o, ours, err = b.holds(ctx, name, sum); err == nil && !ours {
				err = ErrChanged
			}
			return err
		}
		if err != nil {
			unknown = true
			return err
		}
		o, err = described(name, response)
		o.Size = content.Size()
		return errors.Join(err, response.Body.Close())
	})
	return o, err
}

// expect is ErrChanged where a condition does not hold already.
func (b *web) expect(ctx context.Context, name string, condition Condition) error {
	if condition == (Condition{}) {
		return nil
	}
	var o Object
	err := b.try(ctx, func() error {
		response, err := b.do(ctx, request{method: http.MethodHead, address: b.address(name)})
		if err != nil {
			return err
		}
		o, err = described(name, response)
		return errors.Join(err, response.Body.Close())
	})
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case condition.Absent == (err == nil) || condition.Version != o.Version:
		return ErrChanged
	}
	return nil
}

// holds tells whether an object has the content that was to be put: then it was.
func (b *web) holds(ctx context.Context, name string, sum []byte) (Object, bool, error) {
	r, o, err := b.open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return o, false, nil
	}
	if err != nil {
		return o, false, err
	}
	there, err := digest(r, o.Size)
	return o, slices.Equal(there, sum), errors.Join(err, r.Close())
}

// digest reads size bytes, and fails if there are not so many.
func digest(r io.Reader, size int64) ([]byte, error) {
	hash := sha256.New()
	n, err := io.Copy(hash, r)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes of %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	return hash.Sum(nil), err
}

// maxList bounds a list, in bytes of JSON.
const maxList = 256 << 20

func (b *web) List(ctx context.Context, prefix string) ([]Object, error) {
	var list []Object
	if err := ctx.Err(); err != nil || !mayBegin(prefix) {
		return nil, err
	}
	if b.options.Token == "" {
		return nil, fmt.Errorf("list %s: %w: give the token of this server", b.base, ErrNoList)
	}
	address := b.address("-/objects")
	address.RawQuery = url.Values{"prefix": {prefix}}.Encode()
	err := b.try(ctx, func() error {
		response, err := b.do(ctx, request{method: http.MethodGet, address: address})
		if err != nil {
			return err
		}
		list = nil
		err = json.NewDecoder(io.LimitReader(response.Body, maxList)).Decode(&list)
		return errors.Join(err, response.Body.Close())
	})
	for _, o := range list {
		if err == nil && (CheckName(o.Name) != nil || !strings.HasPrefix(o.Name, prefix)) {
			err = fmt.Errorf("the server lists %.80q, which was not asked for", o.Name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", b.base, err)
	}
	return list, nil
}

func (b *web) Remove(ctx context.Context, name string) error {
	err := errors.Join(CheckName(name), ctx.Err())
	if err == nil {
		err = b.try(ctx, func() error {
			response, err := b.do(ctx, request{method: http.MethodDelete, address: b.address(name)})
			if err != nil {
				return err
			}
			return response.Body.Close()
		})
	}
	if errors.Is(err, fs.ErrNotExist) || err == nil {
		return nil
	}
	return fmt.Errorf("remove %.80s from %s: %w", name, b.base, err)
}
