package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"herdbook/internal/digest"
	"herdbook/internal/disk"
	"herdbook/internal/signed"
	"herdbook/internal/source"
	"herdbook/internal/unpack"
)

// maxFile bounds the file of an image whose size nobody vouches for, in bytes.
const maxFile = 64 << 30

// Disk is a disk image on this machine: one file, verified, that names no other.
type Disk struct {
	Path   string // not the caller's to change; it stays until it is collected
	Format disk.Format
	Size   int64 // bytes that the guest sees
}

// Disk fetches and unpacks the disk of an offer, or finds it where it is kept.
func (c *Client) Disk(ctx context.Context, o Offer) (Disk, error) {
	f, err := o.File()
	if err != nil {
		return Disk{}, err
	}
	return c.Fetch(ctx, f)
}

// Fetch fetches and unpacks a file, or finds its disk where it is kept. What is kept
// was verified and is as it was then.
func (c *Client) Fetch(ctx context.Context, f File) (Disk, error) {
	m := c.Media
	m.Now, m.Fetcher = c.Now, *c.fetcher(f.From)
	packed, err := c.file(ctx, &m, f)
	if err != nil {
		return Disk{}, fmt.Errorf("get image %s: %w", f.URL, err)
	}
	path, err := m.Made(ctx, packed, ".disk", func() (string, error) { return c.unpack(ctx, packed, f) })
	var d Disk
	if err == nil {
		d, err = f.prove(path)
	}
	if err != nil {
		return Disk{}, fmt.Errorf("get image %s: %w", f.URL, err)
	}
	return d, nil
}

// unpack makes a file of the disk that is packed in another, or returns that one if it
// is the disk.
func (c *Client) unpack(ctx context.Context, packed string, f File) (string, error) {
	image, err := unpack.Disk(ctx, packed, c.Media.Dir, unpack.Options{Limit: f.most(), Sink: c.Sink})
	if errors.Is(err, unpack.ErrTooLarge) && f.Virtual > 0 {
		return "", fmt.Errorf("%w: the index tells that its disk has %d bytes", err, f.Virtual)
	}
	if err != nil || image.Path == packed {
		return packed, err
	}
	if _, err := f.prove(image.Path); err != nil {
		return "", errors.Join(err, os.Remove(image.Path))
	}
	return image.Path, nil
}

// most is the size that a disk may have when it is unpacked: what is not raw has tables
// beside it.
func (f File) most() int64 {
	if f.Virtual == 0 || f.Format == disk.Raw {
		return min(f.Virtual, unpack.DefaultLimit)
	}
	return min(f.Virtual+f.Virtual/64+1<<20, unpack.DefaultLimit)
}

// file returns the path of a file as it was served, and verified.
func (c *Client) file(ctx context.Context, m *source.Media, f File) (string, error) {
	if f.Checksum == "" {
		return c.unlisted(ctx, m, f)
	}
	path, err := m.Kept(ctx, f.Checksum)
	switch {
	case err == nil:
		return path, nil
	case c.Offline:
		return "", errOffline
	}
	limit := f.Size
	if limit == 0 {
		limit = maxFile
	}
	path, err = m.Keep(ctx, f.URL, f.Checksum, limit)
	if errors.Is(err, digest.ErrMismatch) {
		err = fmt.Errorf("%w; what is served there is not what the index vouches for", err)
	}
	return path, err
}

// unlisted is file for what has no checksum: it has a signature of its own, or nobody
// wants one.
func (c *Client) unlisted(ctx context.Context, m *source.Media, f File) (string, error) {
	switch {
	case f.Signature == "" && !f.From.Unsigned:
		return "", ErrUnvouched
	case c.Offline:
		return "", errOffline
	}
	identity := fmt.Sprintf("%s\n%d\n", f.URL, f.Revision)
	check := func(io.Reader) error { return nil }
	if f.Signature != "" {
		keys, err := c.keys(ctx, f.From)
		if err != nil {
			return "", err
		}
		text, err := m.Fetcher.Get(ctx, f.Signature, maxKey)
		if err != nil {
			return "", err
		}
		identity += string(text)
		check = func(r io.Reader) error {
			if keys == nil {
				return nil
			}
			if err := signed.VerifyBeside(r, text, keys, c.Now); err != nil {
				return fmt.Errorf("verify by %s: %w", f.Signature, err)
			}
			return nil
		}
	}
	return m.Unlisted(ctx, f.URL, identity, maxFile, check)
}

// prove opens a disk by the format that it is told to have, or proves to have.
func (f File) prove(path string) (d Disk, err error) {
	file, err := os.Open(path)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	stat, err := file.Stat()
	if err != nil {
		return d, err
	}
	d.Path = path
	if d.Format, err = disk.Prove(file, stat.Size(), f.Format); err != nil {
		return d, err
	}
	image, err := disk.Open(path, d.Format)
	if err != nil {
		return d, err
	}
	if d.Size = image.Size(); f.Virtual > 0 && d.Size > f.Virtual {
		err = fmt.Errorf("its disk has %d bytes, more than the %d that the index tells", d.Size, f.Virtual)
	}
	return d, errors.Join(err, image.Close())
}
