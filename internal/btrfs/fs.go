package btrfs

import (
	"errors"
	"io"

	"herdbook/internal/filesystem"
)

// driver is a subvolume as package filesystem wants it.
type driver struct {
	v    *volume
	root uint64
}

func (d driver) About() filesystem.About {
	return filesystem.About{Kind: "btrfs", UUID: d.v.uuid(), Label: d.v.label, Size: d.v.total, Used: d.v.used}
}

func (d driver) Root() uint64 { return d.root }

// IdleRanges implements filesystem.Idler: all subvolumes share what is free.
func (d driver) IdleRanges(fn func(start, length int64) error) error {
	f := &FS{v: d.v}
	return filesystem.Between(d.v.total, f.UsedRanges, fn)
}

func (d driver) Inode(number uint64) (filesystem.Inode, error) {
	n, err := d.v.inode(number)
	if err != nil {
		return nil, err
	}
	return handle{n}, nil
}

// handle is an inode as package filesystem wants it.
type handle struct{ n *inode }

func (h handle) Stat() *filesystem.Stat { return &h.n.Stat }

func (h handle) Names() ([]filesystem.Name, error) { return h.n.names() }

func (h handle) Lookup(name string) (uint64, error) { return h.n.lookup(name) }

func (h handle) Xattrs() (map[string][]byte, error) { return h.n.xattrs() }

func (h handle) Content() (filesystem.Content, error) {
	c, err := h.n.content()
	if err != nil {
		return nil, err // and no nil pointer in an interface
	}
	return c, nil
}

// Link reads a link's target, which is the content of its inode.
func (h handle) Link() (string, error) {
	switch {
	case h.n.kind() != filesystem.ModeSymlink:
		return "", errors.New("not a symbolic link")
	case h.n.Size == 0 || h.n.Size > 4096:
		return "", corrupt("a symbolic link of %d bytes", h.n.Size)
	}
	c, err := h.n.content()
	if err != nil {
		return "", err
	}
	p := make([]byte, h.n.Size)
	if _, err := c.ReadAt(p, 0); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(p), nil
}
