package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"herdbook/internal/digest"
	"herdbook/internal/event"
)

// ErrMoved is wrapped by the error that says that a tree has another kernel or
// initrd by now than the lock says.
var ErrMoved = errors.New("the installer's tree has changed since it was pinned; run herdbook build --refresh")

// Moved wraps ErrMoved around the error of a fetch that the lock had promised to
// work: the file is gone, or another one.
func Moved(err error) error {
	if errors.Is(err, ErrNotFound) || errors.Is(err, digest.ErrMismatch) {
		return fmt.Errorf("%w: %w", ErrMoved, err)
	}
	return err
}

// Media keeps what was fetched to start images from: kernels, discs, disk images.
// Several processes may use one directory.
type Media struct {
	Dir     string // made when it is needed
	Fetcher Fetcher
	Now     time.Time
}

// File returns the path of the bytes that address and checksum name. What lies on
// this machine is verified where it lies; anything else is fetched once, kept by
// its checksum, and verified at each use. The file is not the caller's to change.
func (m *Media) File(ctx context.Context, address string, sum digest.Checksum) (string, error) {
	return m.file(ctx, address, sum, maxImage)
}

// Boot is File for a kernel or an initrd, which is not so large.
func (m *Media) Boot(ctx context.Context, address string, sum digest.Checksum) (string, error) {
	return m.file(ctx, address, sum, maxBoot)
}

func (m *Media) file(ctx context.Context, address string, sum digest.Checksum, limit int64) (string, error) {
	if u, err := url.Parse(address); err == nil && u.Scheme == "file" {
		return u.Path, verifyFile(ctx, u.Path, sum)
	}
	if sum == "" {
		return "", fmt.Errorf("fetch %s: no checksum says what is meant", address)
	}
	path := filepath.Join(m.Dir, sum.FileName())
	if err := m.kept(ctx, path, sum); err == nil || !isLost(err) {
		return path, err
	}
	if err := os.MkdirAll(m.Dir, 0o755); err != nil {
		return "", fmt.Errorf("fetch %s: %w", address, err)
	}
	lock := flock.New(path + ".lock")
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return "", fmt.Errorf("fetch %s: wait for another herdbook that fetches it: %w", address, err)
	}
	err := m.kept(ctx, path, sum) // it may have come meanwhile
	if errors.Is(err, digest.ErrMismatch) {
		m.Fetcher.Sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("%v; fetching it again", err)})
		if err := os.Remove(path); err != nil {
			return "", errors.Join(fmt.Errorf("remove what is damaged: %w", err), lock.Unlock())
		}
	}
	if isLost(err) {
		err = m.Fetcher.File(ctx, address, path, sum, limit)
	}
	return path, errors.Join(err, lock.Unlock())
}

// isLost tells the error of a kept file that must be fetched again.
func isLost(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, digest.ErrMismatch)
}

// kept verifies a file that was kept, and notes that it was used.
func (m *Media) kept(ctx context.Context, path string, sum digest.Checksum) error {
	if err := verifyFile(ctx, path, sum); err != nil {
		return err
	}
	// A directory that cannot be written to serves its files all the same.
	_ = os.Chtimes(path, m.Now, m.Now)
	return nil
}

func verifyFile(ctx context.Context, path string, sum digest.Checksum) (err error) {
	if sum == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("verify what the image starts from: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := sum.Verify(patient{ctx, f}); err != nil {
		return fmt.Errorf("verify %s: %w", path, err)
	}
	return nil
}

// patient is a reader that ends when nobody waits for it any more.
type patient struct {
	ctx context.Context
	r   io.Reader
}

func (p patient) Read(b []byte) (int, error) {
	if p.ctx.Err() != nil {
		return 0, context.Cause(p.ctx)
	}
	return p.r.Read(b)
}
