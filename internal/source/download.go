package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"herdbook/internal/digest"
	"herdbook/internal/event"
)

// File fetches address, at most limit bytes, to path and verifies it while it comes.
// What an interrupted fetch left in path + ".part" is gone on with where the server
// knows ranges. The file appears whole and verified, or not at all; a download that
// does not match want is removed, so that the next one starts afresh.
func (f *Fetcher) File(ctx context.Context, address, path string, want digest.Checksum, limit int64) (err error) {
	part := path + ".part"
	sum, err := want.Sum()
	if err != nil {
		return fmt.Errorf("fetch %s: %w", shown(address), err)
	}
	out, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", shown(address), err)
	}
	defer func() {
		_ = out.Close()
		if errors.Is(err, digest.ErrMismatch) || errors.Is(err, errTooLarge) {
			err = errors.Join(err, os.Remove(part))
		}
	}()
	have, err := io.Copy(sum, patient{ctx, out})
	if err != nil {
		return fmt.Errorf("read back %s: %w", part, err)
	}
	if whole := have > 0 && have <= limit && sum.Verify() == nil; !whole {
		if err := f.resume(ctx, address, &summed{out, sum}, limit); err != nil {
			return err
		}
		if err := sum.Verify(); err != nil {
			return fmt.Errorf("fetch %s: %w", shown(address), err)
		}
	}
	if err := out.Sync(); err != nil {
		return fmt.Errorf("fetch %s: %w", shown(address), err)
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("fetch %s: %w", shown(address), err)
	}
	return syncDir(filepath.Dir(path))
}

// summed is a file that is written from its start to its end, and the sum of that.
type summed struct {
	*os.File
	sum *digest.Sum
}

// Write implements io.Writer.
func (s *summed) Write(p []byte) (int, error) {
	n, err := s.File.Write(p)
	_, _ = s.sum.Write(p[:n]) // which never fails
	return n, err
}

// restart forgets all that was written.
func (s *summed) restart() error {
	s.sum.Reset()
	_, err := s.Seek(0, io.SeekStart)
	return errors.Join(err, s.Truncate(0))
}

// resume appends to out what it does not hold yet of address, or begins again if the
// server cannot go on from there.
func (f *Fetcher) resume(ctx context.Context, address string, out *summed, limit int64) error {
	have, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", shown(address), err)
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
		err := out.restart()
		if err == nil && start > 0 { // a file that is shorter than what is there
			body.Close()
			body, start, err = f.open(ctx, address, 0, limit)
		}
		if err != nil {
			return fmt.Errorf("fetch %s: %w", shown(address), err)
		}
		defer body.Close()
	}
	total := int64(0)
	if body.length >= 0 {
		total = start + body.length
	}
	w := &progress{w: out, done: start, total: total, sink: f.Sink}
	_, err = io.Copy(w, patient{ctx, body})
	switch {
	case errors.Is(err, errTooLarge):
		return fmt.Errorf("fetch %s: %w", shown(address), err)
	case err != nil:
		return fmt.Errorf("fetch %s: after %d bytes: %w; run the command again to go on from there", shown(address), w.done, err)
	}
	return nil
}

// untrusted fetches address, at most limit bytes, to a file. Nothing is verified.
func (f *Fetcher) untrusted(ctx context.Context, address string, out io.Writer, limit int64) error {
	body, _, err := f.open(ctx, address, 0, limit)
	if err != nil {
		return err
	}
	defer body.Close()
	w := &progress{w: out, total: max(body.length, 0), sink: f.Sink}
	if _, err := io.Copy(w, patient{ctx, body}); err != nil {
		return fmt.Errorf("fetch %s: after %d bytes: %w", shown(address), w.done, err)
	}
	return nil
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
