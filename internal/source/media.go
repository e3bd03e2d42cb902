package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"herdbook/internal/digest"
)

// Media keeps what was fetched to start images from: kernels, discs, disk images.
// Several processes may use one directory.
type Media struct {
	Dir     string // made when it is needed
	Fetcher Fetcher
	Now     time.Time
}

// File returns the path of the bytes that address and checksum name. What lies on
// this machine is verified where it lies; anything else is fetched once and kept
// by its checksum. The file is not the caller's to change.
func (m *Media) File(ctx context.Context, address string, sum digest.Checksum) (string, error) {
	return m.file(ctx, address, sum, maxImage)
}

// Boot is File for a kernel or an initrd, which is not so large.
func (m *Media) Boot(ctx context.Context, address string, sum digest.Checksum) (string, error) {
	return m.file(ctx, address, sum, maxBoot)
}

func (m *Media) file(ctx context.Context, address string, sum digest.Checksum, limit int64) (string, error) {
	if u, err := url.Parse(address); err == nil && u.Scheme == "file" {
		return u.Path, verifyFile(u.Path, sum)
	}
	if sum == "" {
		return "", fmt.Errorf("fetch %s: no checksum says what is meant", address)
	}
	path := filepath.Join(m.Dir, sum.FileName())
	if m.kept(path) {
		return path, nil
	}
	if err := os.MkdirAll(m.Dir, 0o755); err != nil {
		return "", fmt.Errorf("fetch %s: %w", address, err)
	}
	lock := flock.New(path + ".lock")
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return "", fmt.Errorf("fetch %s: wait for another herdbook that fetches it: %w", address, err)
	}
	var err error
	if !m.kept(path) {
		err = m.Fetcher.File(ctx, address, path, sum, limit)
	}
	return path, errors.Join(err, lock.Unlock())
}

// kept tells whether a file is there, and notes that it was used.
func (m *Media) kept(path string) bool {
	// A directory that cannot be written to serves its files all the same.
	err := os.Chtimes(path, m.Now, m.Now)
	if err == nil {
		return true
	}
	_, err = os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func verifyFile(path string, sum digest.Checksum) (err error) {
	if sum == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("verify what the image starts from: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := sum.Verify(f); err != nil {
		return fmt.Errorf("verify %s: %w", path, err)
	}
	return nil
}
