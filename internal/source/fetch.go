// Package source finds, fetches and verifies what a definition names from
// outside, and pins it. It is the only part that speaks HTTP to the world
// before a build; what it learned is a pin.Lock, and nobody behind it asks
// again.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"herdbook/internal/digest"
	"herdbook/internal/event"
)

// Fetcher fetches over HTTP(S) and from file: URLs. Its zero value works, with
// the proxies of the environment that net/http honours.
type Fetcher struct {
	// Stall is how long a server may send nothing before the fetch fails; 30
	// seconds if zero. There is no limit on a transfer that goes on.
	Stall time.Duration
	Sink  event.Sink

	transport http.RoundTripper // that of net/http if nil
}

// ErrNotFound is wrapped by the error of a fetch whose server says 404 or 410,
// or whose file is not there.
var ErrNotFound = errors.New("not found")

// errUnreachable is wrapped by the error of a fetch that no server answered.
var errUnreachable = errors.New("no answer")

// errDowngraded is the cause of a redirect that was not followed.
var errDowngraded = errors.New("redirected from https to http, where anybody can change what comes; give the address of a mirror with https throughout")

// errStalled is the cause of a transfer that was given up.
var errStalled = errors.New("the server sent nothing for too long")

// Get returns the bytes at address, at most limit of them.
func (f *Fetcher) Get(ctx context.Context, address string, limit int64) ([]byte, error) {
	body, _, err := f.open(ctx, address, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", address, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("fetch %s: more than the %d bytes that it may have", address, limit)
	}
	return data, nil
}

// File fetches address to path and verifies it. What an interrupted fetch left
// in path + ".part" is gone on with where the server knows ranges. The file
// appears whole and verified, or not at all; a download that does not match
// want is removed, so that the next one starts afresh.
func (f *Fetcher) File(ctx context.Context, address, path string, want digest.Checksum) error {
	part := path + ".part"
	out, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", address, err)
	}
	defer out.Close()
	if err := f.resume(ctx, address, out); err != nil {
		return err
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read back %s: %w", part, err)
	}
	if err := want.Verify(out); err != nil {
		err = fmt.Errorf("fetch %s: %w", address, err)
		if errors.Is(err, digest.ErrMismatch) {
			err = errors.Join(err, os.Remove(part))
		}
		return err
	}
	if err := out.Sync(); err != nil {
		return fmt.Errorf("fetch %s: %w", address, err)
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("fetch %s: %w", address, err)
	}
	return syncDir(filepath.Dir(path))
}

// resume appends to out what it does not hold yet of address.
func (f *Fetcher) resume(ctx context.Context, address string, out *os.File) error {
	have, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", address, err)
	}
	body, start, err := f.open(ctx, address, have)
	if err != nil {
		return err
	}
	defer body.Close()
	if start != have { // the server began again
		if err := out.Truncate(start); err != nil {
			return fmt.Errorf("fetch %s: %w", address, err)
		}
		if _, err := out.Seek(start, io.SeekStart); err != nil {
			return fmt.Errorf("fetch %s: %w", address, err)
		}
	}
	total := int64(0)
	if body.length >= 0 {
		total = start + body.length
	}
	w := &progress{w: out, done: start, total: total, sink: f.Sink}
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("fetch %s: after %d bytes: %w; run the command again to go on from there", address, w.done, err)
	}
	return nil
}

// open asks for address from byte offset on. The second result is the offset
// that the body really starts at: 0 if the server knows no ranges.
func (f *Fetcher) open(ctx context.Context, address string, offset int64) (*body, int64, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, 0, fmt.Errorf("fetch %q: not a URL: %w", address, err)
	}
	switch u.Scheme {
	case "file":
		return openFile(u, offset)
	case "http", "https":
		return f.openHTTP(ctx, address, offset)
	}
	return nil, 0, fmt.Errorf("fetch %q: only http:, https: and file: addresses are known", address)
}

func openFile(u *url.URL, offset int64) (*body, int64, error) {
	file, err := os.Open(u.Path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, fmt.Errorf("fetch %s: %w", u, ErrNotFound)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("fetch %s: %w", u, err)
	}
	info, err := file.Stat()
	if err == nil {
		offset = min(offset, info.Size())
		_, err = file.Seek(offset, io.SeekStart)
	}
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("fetch %s: %w", u, err), file.Close())
	}
	return &body{ReadCloser: file, length: info.Size() - offset, touch: func() {}}, offset, nil
}

func (f *Fetcher) openHTTP(ctx context.Context, address string, offset int64) (*body, int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stall := f.Stall
	if stall == 0 {
		stall = 30 * time.Second
	}
	timer := time.AfterFunc(stall, func() { cancel(errStalled) })
	stop := func() { timer.Stop(); cancel(nil) }

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		stop()
		return nil, 0, fmt.Errorf("fetch %s: %w", address, err)
	}
	request.Header.Set("User-Agent", "herdbook")
	if offset > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	client := http.Client{Transport: f.transport, CheckRedirect: follow}
	response, err := client.Do(request)
	if errors.Is(err, errDowngraded) {
		stop()
		return nil, 0, fmt.Errorf("fetch %s: %w", address, plainer(ctx, err))
	}
	if err != nil {
		stop()
		return nil, 0, fmt.Errorf("fetch %s: %w: %w", address, errUnreachable, plainer(ctx, err))
	}
	start, err := accept(response, offset)
	if err != nil {
		stop()
		return nil, 0, errors.Join(fmt.Errorf("fetch %s: %w", address, err), response.Body.Close())
	}
	return &body{
		ReadCloser: response.Body,
		ctx:        ctx,
		length:     response.ContentLength,
		touch:      func() { timer.Reset(stall) },
		stop:       stop,
	}, start, nil
}

// follow decides about a redirect. What came by HTTPS may vouch for itself, so it
// must not have come by HTTP on its last way.
func follow(to *http.Request, via []*http.Request) error {
	switch from := via[len(via)-1].URL; {
	case from.Scheme == "https" && to.URL.Scheme != "https":
		return fmt.Errorf("%w (%s)", errDowngraded, to.URL)
	case len(via) >= 10:
		return errors.New("redirected too often")
	}
	return nil
}

// accept checks the status and tells where the body starts.
func accept(response *http.Response, offset int64) (int64, error) {
	switch response.StatusCode {
	case http.StatusOK:
		return 0, nil
	case http.StatusPartialContent:
		var start int64
		if _, err := fmt.Sscanf(response.Header.Get("Content-Range"), "bytes %d-", &start); err != nil || start != offset {
			return 0, fmt.Errorf("asked for bytes from %d on, got the range %q", offset, response.Header.Get("Content-Range"))
		}
		return start, nil
	case http.StatusRequestedRangeNotSatisfiable:
		var size int64
		if _, err := fmt.Sscanf(response.Header.Get("Content-Range"), "bytes */%d", &size); err == nil && size == offset {
			response.Body = http.NoBody // all of it is there
			response.ContentLength = 0
			return offset, nil
		}
		return 0, errors.New("the partial download does not fit what the server has; remove it")
	case http.StatusNotFound, http.StatusGone:
		return 0, fmt.Errorf("%w: the server says %s", ErrNotFound, response.Status)
	}
	if response.StatusCode >= 500 {
		return 0, fmt.Errorf("%w: the server says %s", errUnreachable, response.Status)
	}
	return 0, fmt.Errorf("the server says %s", response.Status)
}

// plainer puts the reason first that a person can act on.
func plainer(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		return cause
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return fmt.Errorf("the name %s cannot be resolved: %s", dns.Name, dns.Err)
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// body is a response that fails when it stalls.
type body struct {
	io.ReadCloser
	ctx    context.Context
	length int64 // of what is left, -1 when unknown
	touch  func()
	stop   func()
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.touch()
	}
	if err != nil && !errors.Is(err, io.EOF) && b.ctx != nil {
		err = plainer(b.ctx, err)
	}
	return n, err
}

func (b *body) Close() error {
	if b.stop != nil {
		b.stop()
	}
	return b.ReadCloser.Close()
}

// progress reports what passes, a MiB at a time.
type progress struct {
	w           io.Writer
	done, total int64
	said        int64
	sink        event.Sink
}

func (p *progress) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.done += int64(n)
	if p.done-p.said >= 1<<20 || p.done == p.total {
		p.said = p.done
		p.sink.Emit(event.Event{Kind: event.Progress, Done: p.done, Total: p.total})
	}
	return n, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// join puts a path behind a base address, with one slash between.
func join(base, path string) string {
	return strings.TrimRight(base, "/") + "/" + path
}
