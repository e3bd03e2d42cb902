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
	return m.Keep(ctx, address, sum, limit)
}

// Keep is File for what has at most limit bytes, but what lies on this machine is
// copied, too, so that nobody else changes it later. What is kept is hashed anew only
// if something was done to it since.
func (m *Media) Keep(ctx context.Context, address string, sum digest.Checksum, limit int64) (string, error) {
	if sum == "" {
		return "", fmt.Errorf("fetch %s: no checksum says what is meant", shown(address))
	}
	path := m.Path(sum)
	if err := m.kept(ctx, path, sum); err == nil || !isLost(err) {
		return path, err
	}
	err := m.locked(ctx, path, func() error {
		err := m.kept(ctx, path, sum) // it may have come meanwhile
		if errors.Is(err, digest.ErrMismatch) {
			m.Fetcher.Sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("%v; fetching it again", err)})
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("remove what is damaged: %w", err)
			}
		}
		if !isLost(err) {
			return err
		}
		if err := m.Fetcher.File(ctx, address, path, sum, limit); err != nil {
			return err
		}
		m.vouch(path)
		return nil
	})
	return path, err
}

// Kept returns the path of what was kept, without fetching anything. The error wraps
// fs.ErrNotExist if it is not there.
func (m *Media) Kept(ctx context.Context, sum digest.Checksum) (string, error) {
	if sum == "" {
		return "", errors.New("no checksum says what is meant")
	}
	path := m.Path(sum)
	return path, m.kept(ctx, path, sum)
}

// Made returns the path of a file that was made of a kept one: that with a suffix, if
// it is there as it was made. Otherwise make makes it somewhere in the directory and
// returns its path, or that of the kept file if there is nothing to make.
func (m *Media) Made(ctx context.Context, kept, suffix string, make func() (string, error)) (string, error) {
	path := kept + suffix
	if m.vouched(path) {
		return path, nil
	}
	err := m.locked(ctx, path, func() error {
		if m.vouched(path) { // it may have come meanwhile
			return nil
		}
		made, err := make()
		if err != nil || made == kept {
			path = made
			return err
		}
		return m.take(made, path)
	})
	return path, err
}

// Unlisted returns the path of what no checksum names but which check approves of,
// once. The identity is all that can tell it from another file.
func (m *Media) Unlisted(ctx context.Context, address, identity string, limit int64, check func(io.Reader) error) (string, error) {
	path := filepath.Join(m.Dir, "unlisted-"+string(digest.Of([]byte(identity))))
	if m.vouched(path) {
		return path, nil
	}
	err := m.locked(ctx, path, func() (err error) {
		if m.vouched(path) {
			return nil
		}
		part, err := os.Create(path + ".part")
		if err != nil {
			return fmt.Errorf("fetch %s: %w", shown(address), err)
		}
		err = m.Fetcher.untrusted(ctx, address, part, limit)
		if err == nil {
			_, err = part.Seek(0, io.SeekStart)
		}
		if err == nil {
			err = check(patient{ctx, part})
		}
		if err = errors.Join(err, part.Close()); err != nil {
			return errors.Join(err, os.Remove(part.Name()))
		}
		return m.take(part.Name(), path)
	})
	return path, err
}

// take gives a whole file its name.
func (m *Media) take(made, path string) error {
	file, err := os.Open(made)
	if err == nil {
		err = errors.Join(file.Sync(), file.Close())
	}
	if err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep %s: %w", filepath.Base(path), err), os.Remove(made))
	}
	m.vouch(path)
	return syncDir(m.Dir)
}

// Path is where what has a checksum is kept, if it is.
func (m *Media) Path(sum digest.Checksum) string { return filepath.Join(m.Dir, sum.FileName()) }

// locked calls fn while no other process makes the file at path.
func (m *Media) locked(ctx context.Context, path string, fn func() error) error {
	if err := os.MkdirAll(m.Dir, 0o755); err != nil {
		return fmt.Errorf("keep what is fetched: %w", err)
	}
	lock := flock.New(path + ".lock")
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return fmt.Errorf("wait for another herdbook that fetches %s: %w", filepath.Base(path), err)
	}
	return errors.Join(fn(), lock.Unlock())
}

// isLost tells the error of a kept file that must be fetched again.
func isLost(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, digest.ErrMismatch)
}

// kept makes sure of a file that was kept, and notes that it was used.
func (m *Media) kept(ctx context.Context, path string, sum digest.Checksum) error {
	if m.vouched(path) {
		return nil
	}
	before, err := state(path)
	if err != nil {
		return err
	}
	if err := verifyFile(ctx, path, sum); err != nil {
		return err
	}
	if after, err := state(path); err == nil && after == before {
		m.vouch(path)
	}
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
