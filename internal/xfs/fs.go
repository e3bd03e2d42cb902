package xfs

import "herdbook/internal/filesystem"

// driver is the file system as package filesystem wants it.
type driver struct{ f *FS }

func (d driver) About() filesystem.About {
	return filesystem.About{
		Kind: "xfs", UUID: d.f.uuidText(), Label: d.f.label,
		Size: int64(d.f.blocks) * d.f.block, Used: int64(d.f.blocks-min(d.f.blocks, d.f.free)) * d.f.block,
	}
}

func (d driver) Root() uint64 { return d.f.root }

func (d driver) IdleRanges(fn func(start, length int64) error) error { return d.f.IdleRanges(fn) }

func (d driver) Inode(number uint64) (filesystem.Inode, error) {
	n, err := d.f.readInode(number)
	if err != nil {
		return nil, err
	}
	return node{n}, nil
}

// node is an inode as package filesystem wants it.
type node struct{ n *inode }

func (n node) Stat() *filesystem.Stat { return &n.n.Stat }

func (n node) Names() ([]filesystem.Name, error) { return n.n.f.names(n.n) }

func (n node) Lookup(name string) (uint64, error) { return n.n.f.lookup(n.n, name) }

func (n node) Link() (string, error) { return n.n.f.readLink(n.n) }

func (n node) Content() (filesystem.Content, error) {
	c, err := n.n.f.content(n.n)
	if err != nil {
		return nil, err // and no nil pointer in an interface
	}
	return c, nil
}

func (n node) Xattrs() (map[string][]byte, error) { return n.n.f.xattrs(n.n) }
