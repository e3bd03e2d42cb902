package ext4

import (
	"errors"
	"fmt"
	"io"
	"sort"

	"herdbook/internal/filesystem"
)

// content is what an inode holds: a file's bytes, a directory's blocks, a long
// link's target.
type content struct {
	f       *FS
	n       *inode
	extents []extent
	inline  []byte // all of it, if the inode holds it
}

func (f *FS) content(n *inode) (*content, error) {
	if n.flags&flagEncrypt != 0 {
		return nil, errors.New("the file is encrypted")
	}
	c := &content{f: f, n: n}
	var err error
	if n.flags&flagInline != 0 {
		c.inline, err = f.inlineData(n)
	} else {
		c.extents, err = f.extents(n)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// ReadAt implements io.ReaderAt.
func (o *content) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("offset %d is before the start", off)
	}
	if off >= o.n.Size {
		return 0, io.EOF
	}
	end := io.EOF
	if int64(len(p)) <= o.n.Size-off {
		end = nil
	} else {
		p = p[:o.n.Size-off]
	}
	if o.inline != nil {
		n := 0
		if off < int64(len(o.inline)) {
			n = copy(p, o.inline[off:])
		}
		clear(p[n:])
		return len(p), end
	}
	if n, err := o.read(p, off); err != nil {
		return n, err
	}
	return len(p), end
}

// read fills p, which lies wholly within the file.
func (o *content) read(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		e, start, ok := o.extentAt(off)
		if !ok { // a hole up to start
			n := min(int64(len(p)-done), start-off)
			clear(p[done:][:n])
			done, off = done+int(n), off+n
			continue
		}
		n := min(int64(len(p)-done), start-off)
		at := int64(e.physical)*o.f.block + off - int64(e.logical)*o.f.block
		if err := o.f.readBytes(p[done:][:n], at); err != nil {
			return done, err
		}
		done, off = done+int(n), off+n
	}
	return done, nil
}

// extentAt finds the extent that holds the byte off, and where it ends. If off
// lies in a hole, ok is false and the second result is where the hole ends.
func (o *content) extentAt(off int64) (e extent, end int64, ok bool) {
	block := uint64(off / o.f.block)
	i := sort.Search(len(o.extents), func(i int) bool { return o.extents[i].logical+o.extents[i].count > block })
	if i == len(o.extents) {
		return extent{}, 1<<63 - 1, false
	}
	e = o.extents[i]
	if e.logical > block {
		return extent{}, int64(e.logical) * o.f.block, false
	}
	return e, int64(e.logical+e.count) * o.f.block, true
}

// readBytes reads bytes of the file system at any offset.
func (f *FS) readBytes(p []byte, at int64) error {
	if len(f.replayed) == 0 {
		return filesystem.ReadFull(f.r, p, at)
	}
	for len(p) > 0 {
		number, skip := uint64(at/f.block), at%f.block
		n := min(int64(len(p)), f.block-skip)
		if over, ok := f.replayed[number]; ok {
			copy(p[:n], over[skip:])
		} else if err := filesystem.ReadFull(f.r, p[:n], at); err != nil {
			return err
		}
		p, at = p[n:], at+n
	}
	return nil
}

// Data calls fn for every run of bytes of the file that is not a hole.
func (o *content) Data(fn func(start, length int64) error) error {
	if o.inline != nil {
		if o.n.Size == 0 {
			return nil
		}
		return fn(0, o.n.Size)
	}
	for _, e := range o.extents {
		start := int64(e.logical) * o.f.block
		length := min(int64(e.count)*o.f.block, o.n.Size-start)
		if length <= 0 {
			return nil
		}
		if err := fn(start, length); err != nil {
			return err
		}
	}
	return nil
}
