// Package source finds, fetches and verifies what a definition names from
// outside, and pins it. It is the only part of herdbook that fetches over HTTP
// itself. What it learns before a build is a pin.Lock; during a build, Media fetches
// the bytes that the lock or a checksum names, and no others: nothing that is learned
// then changes what is built.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"herdbook/internal/digest"
	"herdbook/internal/event"
)

// Limits of what is fetched to be started, in bytes.
const (
	maxBoot  = 1 << 30  // a kernel or an initrd
	maxImage = 64 << 30 // a disc or a disk image
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
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", address, err)
	}
	return data, nil
}

// File fetches address, at most limit bytes, to path and verifies it. What an
// interrupted fetch left in path + ".part" is gone on with where the server knows
// ranges. The file appears whole and verified, or not at all; a download that does
// not match want is removed, so that the next one starts afresh.
func (f *Fetcher) File(ctx context.Context, address, path string, want digest.Checksum, limit int64) error {
	part := path + ".part"
	out, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", address, err)
	}
	defer out.Close()
	if err := f.resume(ctx, address, out, limit); err != nil {
		if errors.Is(err, errTooLarge) {
			err = errors.Join(err, os.Remove(part))
		}
		return err
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read back %s: %w", part, err)
	}
	if err := want.Verify(patient{ctx, out}); err != nil {
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

// resume appends to out what it does not hold yet of address, or begins again if the
// server cannot go on from there.
func (f *Fetcher) resume(ctx context.Context, address string, out *os.File, limit int64) error {
	have, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", address, err)
	}
	body, start, err := f.open(ctx, address, have, limit)
	if errors.Is(err, errRange) {
		body, start, err = f.open(ctx, address, 0, limit)
	}
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
	_, err = io.Copy(w, body)
	switch {
	case errors.Is(err, errTooLarge):
		return fmt.Errorf("fetch %s: %w", address, err)
	case err != nil:
		return fmt.Errorf("fetch %s: after %d bytes: %w; run the command again to go on from there", address, w.done, err)
	}
	return nil
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
	default:
		err = fmt.Errorf("fetch %q: only http:, https: and file: addresses are known", address)
	}
	if err != nil {
		return nil, 0, err
	}
	b.limit, b.left = limit, limit-start
	if b.length > b.left {
		return nil, 0, errors.Join(fmt.Errorf("fetch %s: %w", address, b.tooLarge()), b.Close())
	}
	return b, start, nil
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
