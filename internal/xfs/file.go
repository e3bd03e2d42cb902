package xfs

import (
	"errors"
	"fmt"
	"io"

	"herdbook/internal/filesystem"
)

// content is what a regular file holds.
type content struct {
	mapping
	n *inode
}

func (f *FS) content(n *inode) (*content, error) {
	if n.realtime && n.Size > 0 {
		return nil, errors.New("the file is on the realtime device, which is not in the image")
	}
	extents, err := f.extents(n, &n.data)
	if err != nil {
		return nil, err
	}
	return &content{mapping{f, extents}, n}, nil
}

// ReadAt implements io.ReaderAt.
func (o *content) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("offset %d is before the start", off)
	}
	if off >= o.n.Size {
		return 0, io.EOF
	}
	if int64(len(p)) <= o.n.Size-off {
		return o.read(p, off)
	}
	n, err := o.read(p[:o.n.Size-off], off)
	if err == nil {
		err = io.EOF
	}
	return n, err
}

// Data calls fn for every run of bytes of the file that is not a hole.
func (o *content) Data(fn func(start, length int64) error) error {
	for _, e := range o.extents {
		start := o.offset(e.logical)
		length := min(o.offset(e.end()), o.n.Size) - start
		if length <= 0 { // reserved behind the end
			return nil
		}
		if err := fn(start, length); err != nil {
			return err
		}
	}
	return nil
}

const (
	maxLink   = 1024 // bytes of a symbolic link
	linkMagic = "XSLM"
)

// readLink reads a link's target, which short ones keep in the inode.
func (f *FS) readLink(n *inode) (string, error) {
	switch {
	case n.kind() != filesystem.ModeSymlink:
		return "", errors.New("not a symbolic link")
	case n.Size == 0 || n.Size > maxLink:
		return "", corrupt("a symbolic link of %d bytes", n.Size)
	case n.data.format == formatLocal:
		return string(n.data.data[:n.Size]), nil
	}
	extents, err := f.extents(n, &n.data)
	if err != nil {
		return "", err
	}
	var target []byte
	for _, e := range extents {
		part, err := f.linkPart(n, e, len(target))
		if err != nil {
			return "", fmt.Errorf("read link inode %d: %w", n.Ino, err)
		}
		target = append(target, part...)
		if int64(len(target)) >= n.Size {
			return string(target[:n.Size]), nil
		}
	}
	return "", corrupt("link inode %d has %d of its %d bytes", n.Ino, len(target), n.Size)
}

// linkPart reads the part of a link that one extent holds.
func (f *FS) linkPart(n *inode, e extent, off int) ([]byte, error) {
	if e.count > 2 { // of 512 bytes, or of 1024 with their headers
		return nil, corrupt("%d blocks for a part of it", e.count)
	}
	p := make([]byte, int64(e.count)*f.block)
	if err := filesystem.ReadFull(f.r, p, int64(e.physical)*f.block); err != nil {
		return nil, err
	}
	if f.version == 4 {
		return p, nil
	}
	return f.remotePart(n, p, linkMagic, e.physical, off)
}
