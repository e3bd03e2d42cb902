package ext4

import (
	"errors"
	"io"

	"herdbook/internal/filesystem"
)

// driver is the file system as package filesystem wants it.
type driver struct{ f *FS }

func (d driver) About() filesystem.About {
	return filesystem.About{Kind: "ext4", UUID: d.f.uuidText(), Label: d.f.label, Size: int64(d.f.blocks) * d.f.block, Used: d.f.usedBytes()}
}

func (d driver) Root() uint64 { return rootInode }

func (d driver) IdleRanges(fn func(start, length int64) error) error { return d.f.IdleRanges(fn) }

func (d driver) Inode(number uint64) (filesystem.Inode, error) {
	if number > 1<<32-1 {
		return nil, corrupt("inode %d", number)
	}
	n, err := d.f.inode(uint32(number))
	if err != nil {
		return nil, err
	}
	return node{n}, nil
}

// node is an inode as package filesystem wants it.
type node struct{ n *inode }

func (n node) Stat() *filesystem.Stat { return &n.n.Stat }

func (n node) Names() ([]filesystem.Name, error) { return n.n.f.names(n.n) }

func (n node) Lookup(name string) (uint64, error) {
	ino, err := n.n.f.lookup(n.n, name)
	return uint64(ino), err
}

func (n node) Link() (string, error) { return n.n.f.readLink(n.n) }

func (n node) Content() (filesystem.Content, error) {
	c, err := n.n.f.content(n.n)
	if err != nil {
		return nil, err // and no nil pointer in an interface
	}
	return c, nil
}

func (n node) Xattrs() (map[string][]byte, error) { return n.n.f.xattrs(n.n) }

// readLink reads a link's target, which short ones keep in the inode.
func (f *FS) readLink(n *inode) (string, error) {
	switch {
	case n.kind() != filesystem.ModeSymlink:
		return "", errors.New("not a symbolic link")
	case n.flags&flagEncrypt != 0:
		return "", errors.New("the link is encrypted")
	case n.Size == 0 || n.Size >= f.block && n.Size > 4096:
		return "", corrupt("a symbolic link of %d bytes", n.Size)
	case n.Size < 60 && n.flags&(flagExtents|flagInline) == 0:
		return string(n.block[:n.Size]), nil
	}
	file, err := f.content(n)
	if err != nil {
		return "", err
	}
	p := make([]byte, n.Size)
	if _, err := file.ReadAt(p, 0); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(p), nil
}
