// Package pack makes the files in which an image is handed on, out of a layer's disk
// or a system's tree: a compressed qcow2, an xz for old clients and archives, a box for
// Vagrant, a kernel and its initrd. Each appears whole or not at all, with its size and
// checksums. Unpacking is package unpack's; where the files go is left to others.
package pack

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"herdbook/internal/event"
	"herdbook/internal/filesystem"
	"herdbook/internal/program"
)

// File is a file that was made.
type File struct {
	Path   string
	Size   int64  // bytes
	SHA256 string // lower-case hexadecimal
	SHA512 string // lower-case hexadecimal
}

// sums are the checksums of what is written.
type sums struct {
	sha256, sha512 hash.Hash
	size           int64
}

func newSums() *sums { return &sums{sha256: sha256.New(), sha512: sha512.New()} }

// Write implements io.Writer.
func (s *sums) Write(p []byte) (int, error) {
	s.sha256.Write(p)
	s.sha512.Write(p)
	s.size += int64(len(p))
	return len(p), nil
}

func (s *sums) file(path string) File {
	return File{path, s.size, hex.EncodeToString(s.sha256.Sum(nil)), hex.EncodeToString(s.sha512.Sum(nil))}
}

// write makes the file at dst of what fill writes.
func write(ctx context.Context, dst string, fill func(io.Writer) error) (_ File, err error) {
	out, err := renameio.NewPendingFile(dst, renameio.WithTempDir(filepath.Dir(dst)), renameio.WithPermissions(0o644))
	if err != nil {
		return File{}, explain(ctx, dst, err)
	}
	defer func() { err = errors.Join(err, out.Cleanup()) }()
	s := newSums()
	if err := fill(io.MultiWriter(out, s)); err != nil {
		return File{}, explain(ctx, dst, err)
	}
	if err := ctx.Err(); err != nil {
		return File{}, context.Cause(ctx)
	}
	if err := out.CloseAtomicallyReplace(); err != nil {
		return File{}, explain(ctx, dst, err)
	}
	return s.file(dst), nil
}

// explain says what a reader of the error cannot know. Programs tell a full disk in
// their own words.
func explain(ctx context.Context, dst string, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case program.Full(err):
		return fmt.Errorf("no space is left in %s; free some there: %w", filepath.Dir(dst), err)
	}
	return err
}

// progress reports bytes that are done, not more often than it shows.
type progress struct {
	sink        event.Sink
	total, done int64
	told        int64 // percent
}

// add counts n more bytes.
func (p *progress) add(n int64) {
	p.done += n
	if percent := p.done * 100 / max(1, p.total); percent != p.told {
		p.told = percent
		p.sink.Emit(event.Event{Kind: event.Progress, Done: p.done, Total: p.total})
	}
}

// passing is a reader that ends with ctx and reports what it passes on.
type passing struct {
	ctx context.Context
	r   io.Reader
	progress
}

// Read implements io.Reader.
func (p *passing) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, context.Cause(p.ctx)
	}
	n, err := p.r.Read(b)
	p.add(int64(n))
	return n, err
}

// FromTree copies a file of a system, such as its kernel, to dst.
func FromTree(ctx context.Context, tree *filesystem.FS, name, dst string, sink event.Sink) (File, error) {
	sink.Emit(event.Event{Kind: event.Phase, Text: "copy " + name})
	f, err := write(ctx, dst, func(w io.Writer) (err error) {
		in, err := tree.OpenFile(name)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, in.Close()) }()
		stat, err := in.Stat()
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(w, &passing{ctx, in, progress{sink: sink, total: stat.Size()}}, make([]byte, 1<<20))
		return err
	})
	if err != nil {
		return File{}, fmt.Errorf("copy %s: %w", name, err)
	}
	return f, nil
}

// Look reads a file that is there already for its checksums.
func Look(ctx context.Context, path string, sink event.Sink) (_ File, err error) {
	in, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	stat, err := in.Stat()
	if err != nil {
		return File{}, err
	}
	s := newSums()
	if _, err := io.CopyBuffer(s, &passing{ctx, in, progress{sink: sink, total: stat.Size()}}, make([]byte, 1<<20)); err != nil {
		return File{}, err
	}
	return s.file(path), nil
}

// Bytes writes what is in memory, such as a manifest, to dst.
func Bytes(ctx context.Context, content []byte, dst string) (File, error) {
	f, err := write(ctx, dst, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
	if err != nil {
		return File{}, fmt.Errorf("write %s: %w", dst, err)
	}
	return f, nil
}
