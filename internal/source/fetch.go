// Package source finds, fetches and verifies what a definition names from outside, and
// pins it. What lies in a bucket of S3 it reads through package bucket. What it learns
// before a build is a pin.Lock; during a build, Media fetches the bytes that the lock
// or a checksum names, and no others: nothing that is learned then changes what is
// built.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"herdbook/internal/bucket"
	"herdbook/internal/event"
	"herdbook/internal/op"
)

// Limits of what is fetched to be started, in bytes.
const (
	maxBoot  = 1 << 30  // a kernel or an initrd
	maxImage = 64 << 30 // a disc or a disk image
)

// Fetcher fetches over HTTP(S), from buckets of S3, and from file: URLs. Its zero value
// works, with the proxies of the environment that net/http honours.
type Fetcher struct {
	// Stall is how long a server may send nothing before the fetch fails; 30
	// seconds if zero. There is no limit on a transfer that goes on.
	Stall time.Duration
	Sink  event.Sink

	// Proxy is used in place of the environment's: a URL, or "off" for none.
	Proxy string
	// Token is shown to the server, but not to another that it redirects to.
	Token op.Secret
	// Bucket says who comes to buckets.
	Bucket bucket.Options

	transport http.RoundTripper // that of net/http if nil
}

// ErrNotFound is wrapped by the error of a fetch whose server says 404 or 410,
// or whose file is not there.
var ErrNotFound = errors.New("not found")

// ErrUnreachable is wrapped by the error of a fetch that no server answered.
var ErrUnreachable = errors.New("no answer")

// errRefused is wrapped by the error of a fetch whose server says 401 or 403, as
// some do of what is not there.
var errRefused = errors.New("refused")

// errTooLarge is wrapped by the error of what has more bytes than it may have.
var errTooLarge = errors.New("too large")

// errRange is wrapped by the error of a fetch that cannot be gone on with.
var errRange = errors.New("the server cannot go on from there")

// errDowngraded is the cause of a redirect that was not followed.
var errDowngraded = errors.New("redirected from https to http, where anybody can change what comes; give the address of a mirror with https throughout")

// errStalled is the cause of a transfer that was given up.
var errStalled = errors.New("the server sent nothing for too long")

// Get returns the bytes at address, at most limit of them.
func (f *Fetcher) Get(ctx context.Context, address string, limit int64) ([]byte, error) {
	body, _, err := f.open(ctx, address, 0, limit)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	switch {
	case errors.Is(err, errTooLarge) || ctx.Err() != nil:
		return nil, fmt.Errorf("fetch %s: %w", shown(address), err)
	case err != nil:
		return nil, fmt.Errorf("fetch %s: %w: after %d bytes: %w", shown(address), ErrUnreachable, len(data), err)
	}
	return data, nil
}

// open asks for address from byte offset on. The second result is the offset
// that the body really starts at: 0 if the server knows no ranges. What has more
// than limit bytes in all is an error, of open or of a read.
func (f *Fetcher) open(ctx context.Context, address string, offset, limit int64) (b *body, start int64, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, 0, fmt.Errorf("fetch %q: not a URL: %w", address, err)
	}
	switch u.Scheme {
	case "file":
		b, start, err = openFile(u, offset)
	case "http", "https":
		b, start, err = f.openHTTP(ctx, address, offset)
	case "s3":
		b, start, err = f.openBucket(ctx, u)
	default:
		err = fmt.Errorf("fetch %q: only http:, https:, s3: and file: addresses are known", address)
	}
	if err != nil {
		return nil, 0, err
	}
	b.limit, b.left = limit, limit-start
	if b.length > b.left {
		return nil, 0, errors.Join(fmt.Errorf("fetch %s: %w", shown(address), b.tooLarge()), b.Close())
	}
	return b, start, nil
}

func openFile(u *url.URL, offset int64) (*body, int64, error) {
	file, err := os.OpenFile(u.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would wait for who writes into it
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, fmt.Errorf("fetch %s: %w", u, ErrNotFound)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("fetch %s: %w", u, err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err == nil {
		offset = min(offset, info.Size())
		_, err = file.Seek(offset, io.SeekStart)
	}
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("fetch %s: %w", u, err), file.Close())
	}
	return &body{ReadCloser: file, length: info.Size() - offset, touch: func() {}}, offset, nil
}

// body is what is fetched. It fails when it stalls, and when it is too large.
type body struct {
	io.ReadCloser
	ctx    context.Context
	length int64 // of what is left, -1 when unknown
	limit  int64 // of the whole
	left   int64 // that may come
	touch  func()
	stop   func()
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	if b.left -= int64(n); b.left < 0 {
		return 0, b.tooLarge()
	}
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

func (b *body) tooLarge() error {
	return fmt.Errorf("%w: more than the %d bytes that it may have", errTooLarge, b.limit)
}

// join puts a path behind a base address, with one slash between.
func join(base, path string) string {
	return strings.TrimRight(base, "/") + "/" + path
}

// shown is an address without the password in it.
func shown(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.User == nil {
		return address
	}
	return u.Redacted()
}
