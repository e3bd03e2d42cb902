package digest

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strings"
)

// Checksum is what a publisher says of a file: the algorithm, a colon and the
// digits in lower-case hexadecimal, as in "sha256:9f86…". SHA-256 and SHA-512 are
// known, which is what distributions publish. The zero value says nothing.
type Checksum string

// ParseChecksum reads a checksum. Without an algorithm the number of digits tells
// it; upper-case digits are taken.
func ParseChecksum(s string) (Checksum, error) {
	algorithm, digits, ok := strings.Cut(s, ":")
	if !ok {
		algorithm, digits = "", s
	}
	digits = strings.ToLower(digits)
	switch {
	case (algorithm == "" || algorithm == "sha256") && len(digits) == sha256.Size*2:
		algorithm = "sha256"
	case (algorithm == "" || algorithm == "sha512") && len(digits) == sha512.Size*2:
		algorithm = "sha512"
	default:
		return "", fmt.Errorf("parse checksum %q: want sha256:… with 64 hexadecimal digits or sha512:… with 128", s)
	}
	if _, err := hex.DecodeString(digits); err != nil {
		return "", fmt.Errorf("parse checksum %q: %w", s, err)
	}
	return Checksum(algorithm + ":" + digits), nil
}

// Checksum is the digest as one.
func (d Digest) Checksum() Checksum {
	if d == "" {
		return ""
	}
	return Checksum("sha256:" + string(d))
}

// Digest is the checksum as a digest; "" if it is none of SHA-256.
func (c Checksum) Digest() Digest {
	if digits, ok := strings.CutPrefix(string(c), "sha256:"); ok {
		return Digest(digits)
	}
	return ""
}

// FileName is a name for the content: the algorithm, a hyphen and the digits.
func (c Checksum) FileName() string { return strings.Replace(string(c), ":", "-", 1) }

// IsSHA256 tells whether it can be held against a Digest.
func (c Checksum) IsSHA256() bool { return strings.HasPrefix(string(c), "sha256:") }

// Verify reads r to its end and returns an error that wraps ErrMismatch if it
// held anything else than c says.
func (c Checksum) Verify(r io.Reader) error {
	sum, err := c.Sum()
	if err != nil {
		return fmt.Errorf("verify content: %w", err)
	}
	if _, err := io.Copy(sum, r); err != nil {
		return fmt.Errorf("verify content: %w", err)
	}
	return sum.Verify()
}

// Sum returns what verifies content in passing.
func (c Checksum) Sum() (*Sum, error) {
	algorithm, _, _ := strings.Cut(string(c), ":")
	switch algorithm {
	case "sha256":
		return &Sum{c, algorithm, sha256.New()}, nil
	case "sha512":
		return &Sum{c, algorithm, sha512.New()}, nil
	}
	return nil, fmt.Errorf("%q is no checksum", c)
}

// Sum is a writer that holds what is written against a checksum.
type Sum struct {
	want      Checksum
	algorithm string
	hash      hash.Hash
}

// Write implements io.Writer. It never fails.
func (s *Sum) Write(p []byte) (int, error) { return s.hash.Write(p) }

// Reset begins anew.
func (s *Sum) Reset() { s.hash.Reset() }

// Verify returns an error that wraps ErrMismatch if anything else was written than
// the checksum says.
func (s *Sum) Verify() error {
	if got := Checksum(s.algorithm + ":" + hex.EncodeToString(s.hash.Sum(nil))); got != s.want {
		return fmt.Errorf("%w: %s, want %s", ErrMismatch, got, s.want)
	}
	return nil
}
