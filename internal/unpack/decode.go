package unpack

import (
	"archive/tar"
	"bufio"
	"compress/bzip2"
	"context"
	"fmt"
	"io"

	"herdbook/internal/event"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow is the memory that a zstd file may ask for, that of zstd -d.
const maxWindow = 128 << 20

// packing tells by its magic what a file is packed in; "" is nothing.
func packing(head []byte) string {
	at := func(offset int, magic string) bool {
		return len(head) >= offset+len(magic) && string(head[offset:][:len(magic)]) == magic
	}
	switch {
	case at(0, "\x1f\x8b\x08"):
		return "gzip"
	case at(0, "\xfd7zXZ\x00"):
		return "xz"
	case at(0, "\x28\xb5\x2f\xfd"), at(1, "\x2a\x4d\x18") && head[0]&0xf0 == 0x50: // a frame, one to skip
		return "zstd"
	case at(0, "BZh") && (at(4, "1AY&SY") || at(4, "\x17\x72\x45\x38\x50\x90")): // a block, the end
		return "bzip2"
	case at(257, "ustar"):
		return "tar"
	}
	return ""
}

// decoder unpacks one stream. Its Close ends what it has started, before which r
// is not free.
func (u *unpacking) decoder(ctx context.Context, r *bufio.Reader, kind string) (io.ReadCloser, error) {
	switch kind {
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		return &gunzip{z: z, r: r, sink: u.Sink}, nil
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case "bzip2":
		return io.NopCloser(bzip2.NewReader(r)), nil
	default:
		return newXZ(ctx, r)
	}
}

// gunzip reads one member after the other and, as gzip does, ignores what follows
// that is none: some distributions write a description there.
type gunzip struct {
	z    *gzip.Reader
	r    *bufio.Reader
	sink event.Sink
	done bool
}

func (g *gunzip) Read(p []byte) (int, error) {
	for !g.done {
		n, err := g.z.Read(p)
		if n > 0 || err != io.EOF {
			if err == io.EOF {
				err = nil
			}
			return n, err
		}
		if err := g.next(); err != nil {
			return 0, err
		}
	}
	return 0, io.EOF
}

func (g *gunzip) next() error {
	head, err := g.r.Peek(3)
	if err != nil && err != io.EOF {
		return err
	}
	if packing(head) == "gzip" {
		if err := g.z.Reset(g.r); err != nil {
			return err
		}
		g.z.Multistream(false)
		return nil
	}
	g.done = true
	rest, err := io.Copy(io.Discard, g.r)
	if rest > 0 {
		g.sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("%d bytes that follow the gzip file are ignored", rest)})
	}
	return err
}

// Close implements io.Closer.
func (g *gunzip) Close() error { return g.z.Close() }

// archive looks into every regular file of a tar archive.
func (u *unpacking) archive(ctx context.Context, r io.Reader, packed []string) error {
	t := tar.NewReader(r)
	for count := 0; ; count++ {
		header, err := t.Next()
		switch {
		case err == io.EOF:
			_, err = io.Copy(io.Discard, r)
			return err
		case err != nil:
			return fmt.Errorf("tar: %w", err)
		case count >= maxMembers:
			return fmt.Errorf("%w: the archive has more than %d members, which is not how a disk is packed", ErrNotOne, maxMembers)
		case header.Typeflag != tar.TypeReg && header.Typeflag != tar.TypeGNUSparse:
			continue // it has no content, and nothing that it names is made
		case header.Size > u.Limit:
			return fmt.Errorf("%w: %.*q has %d bytes, the limit is %d", ErrTooLarge, maxName, header.Name, header.Size, u.Limit)
		}
		if err := u.open(ctx, t, header.Name, packed); err != nil {
			return err
		}
	}
}

// limited is a stream that fails beyond its limit, and when the work is ended.
type limited struct {
	alive func() error
	r     io.Reader
	left  int64
	what  string // it is, for errors
}

func (l *limited) Read(p []byte) (int, error) {
	if err := l.alive(); err != nil {
		return 0, err
	}
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, fmt.Errorf("%s: %w of what may be unpacked", l.what, ErrTooLarge)
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%s: %w", l.what, err)
	}
	return n, err
}

// counted reads the packed file and reports how far it is.
type counted struct {
	alive             func() error
	r                 io.Reader
	sink              event.Sink
	done, said, total int64
}

func (c *counted) Read(p []byte) (int, error) {
	if err := c.alive(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.done += int64(n)
	if c.done-c.said >= max(c.total/200, 1<<20) || err == io.EOF && c.said < c.done {
		c.said = c.done
		c.sink.Emit(event.Event{Kind: event.Progress, Done: c.done, Total: c.total})
	}
	return n, err
}
