// Package digest names content: the SHA-256 of some bytes, as sixty-four
// lower-case hexadecimal digits, with a writer that computes it in passing and
// a reader that verifies it. Where content is kept is left to others.
package digest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Digest is the SHA-256 of some content in lower-case hexadecimal. The zero
// value names nothing.
type Digest string

// ErrMismatch is wrapped by every error that says that content does not have
// the digest or the size that was promised.
var ErrMismatch = errors.New("content does not match its digest")

// Of names the bytes of p.
func Of(p []byte) Digest {
	sum := sha256.Sum256(p)
	return Digest(hex.EncodeToString(sum[:]))
}

// OfReader reads r to its end and names what it read; the second result is its
// length in bytes.
func OfReader(r io.Reader) (Digest, int64, error) {
	w := NewWriter(io.Discard)
	n, err := io.Copy(w, r)
	if err != nil {
		return "", n, fmt.Errorf("digest content: %w", err)
	}
	return w.Digest(), n, nil
}

// Parse checks that s is a well-formed digest.
func Parse(s string) (Digest, error) {
	if len(s) != sha256.Size*2 {
		return "", fmt.Errorf("parse digest %q: want 64 hexadecimal digits, have %d characters", s, len(s))
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", fmt.Errorf("parse digest %q: %q is not a lower-case hexadecimal digit", s, c)
		}
	}
	return Digest(s), nil
}

// Short is the first twelve digits, enough for a person.
func (d Digest) Short() string {
	return string(d[:min(12, len(d))])
}

// Writer passes bytes on and digests them.
type Writer struct {
	w    io.Writer
	hash hash.Hash
	size int64
}

// NewWriter returns a Writer that passes on to w.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: w, hash: sha256.New()}
}

// Write implements io.Writer. Only what w took is digested.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	return n, err
}

// Digest names what was written so far.
func (w *Writer) Digest() Digest {
	return Digest(hex.EncodeToString(w.hash.Sum(nil)))
}

// Size is the number of bytes written so far.
func (w *Writer) Size() int64 { return w.size }

// NewVerifier returns a reader of r that ends in io.EOF only if r held exactly
// size bytes with the digest want, and in an error wrapping ErrMismatch
// otherwise. A negative size is not checked. It never reads more than size+1
// bytes where size is known.
func NewVerifier(r io.Reader, want Digest, size int64) io.Reader {
	if size >= 0 {
		r = io.LimitReader(r, size+1)
	}
	return &verifier{r: r, want: want, size: size, sum: NewWriter(io.Discard)}
}

type verifier struct {
	r    io.Reader
	want Digest
	size int64
	sum  *Writer
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.sum.Write(p[:n])
	if v.size >= 0 && v.sum.Size() > v.size {
		return n, fmt.Errorf("%w: more than %d bytes", ErrMismatch, v.size)
	}
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if v.size >= 0 && v.sum.Size() != v.size {
		return n, fmt.Errorf("%w: %d bytes, want %d", ErrMismatch, v.sum.Size(), v.size)
	}
	if got := v.sum.Digest(); got != v.want {
		return n, fmt.Errorf("%w: SHA-256 %s, want %s", ErrMismatch, got, v.want)
	}
	return n, io.EOF
}
