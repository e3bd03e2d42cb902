package fat

import (
	"encoding/binary"
	"fmt"
	"io"
	"sort"

	"herdbook/internal/filesystem"
)

// run is a piece of a file that lies in one place.
type run struct{ logical, at, length int64 }

// tableReader reads entries of one FAT, a page at a time.
type tableReader struct {
	f     *FS
	table int64 // where it lies
	page  []byte
	start int64 // of the page in the FAT
}

const pageSize = 4096

func (f *FS) tableReader(table int64) *tableReader {
	return &tableReader{f: f, table: table, start: -1}
}

// bytes returns n bytes of the table, which may lie across pages.
func (t *tableReader) bytes(at int64, n int) ([]byte, error) {
	if t.start < 0 || at < t.start || at+int64(n) > t.start+int64(len(t.page)) {
		// Pages overlap by what an entry of twelve bits can reach.
		start := at / pageSize * pageSize
		t.page = make([]byte, min(pageSize+4, t.f.tableLen-start))
		if err := t.f.readAt(t.page, t.table+start); err != nil {
			return nil, fmt.Errorf("read FAT: %w", err)
		}
		t.start = start
	}
	return t.page[at-t.start:][:n], nil
}

// entry is what the FAT says of a cluster: 0 if it is free, or that which
// follows it, or one above all clusters.
func (t *tableReader) entry(cluster uint32) (uint32, error) {
	le := binary.LittleEndian
	switch t.f.bits {
	case 12:
		p, err := t.bytes(int64(cluster)*3/2, 2)
		if err != nil {
			return 0, err
		}
		return uint32(le.Uint16(p)) >> (cluster % 2 * 4) & 0xfff, nil
	case 16:
		p, err := t.bytes(int64(cluster)*2, 2)
		if err != nil {
			return 0, err
		}
		return uint32(le.Uint16(p)), nil
	}
	p, err := t.bytes(int64(cluster)*4, 4)
	if err != nil {
		return 0, err
	}
	return le.Uint32(p) & 0x0FFFFFFF, nil // the upper four bits mean nothing
}

// end is the lowest entry that ends a chain.
func (f *FS) end() uint32 { return 1<<min(f.bits, 28) - 8 }

// next finds the cluster behind one; false at the end of the chain. What one FAT
// cannot mean is looked up in its copy.
func (f *FS) next(readers []*tableReader, cluster uint32) (uint32, bool, error) {
	var last error
	for _, t := range readers {
		next, err := t.entry(cluster)
		switch {
		case err != nil:
			last = err
		case next >= f.end():
			return 0, false, nil
		case f.valid(next):
			return next, true, nil
		default:
			last = corrupt("cluster %d is followed by %d", cluster, next)
		}
	}
	return 0, false, last
}

// chain follows the clusters from first to the end and calls fn for each.
func (f *FS) chain(first uint32, fn func(cluster uint32) error) error {
	if !f.valid(first) {
		return corrupt("a chain begins at cluster %d of %d", first, f.clusters)
	}
	var readers []*tableReader
	for _, table := range f.tables {
		readers = append(readers, f.tableReader(table))
	}
	// A mark is left behind after 1, 2, 4, 8 … clusters: a circle comes by it.
	mark, steps, limit := uint32(0), 0, 1
	for cluster, more := first, true; more; {
		if cluster == mark {
			return corrupt("the chain of cluster %d runs in a circle", first)
		}
		if steps++; steps == limit {
			mark, steps, limit = cluster, 0, 2*limit
		}
		if err := fn(cluster); err != nil {
			return err
		}
		var err error
		if cluster, more, err = f.next(readers, cluster); err != nil {
			return err
		}
	}
	return nil
}

// runs finds where a file of size bytes lies.
func (f *FS) runs(first uint32, size int64) ([]run, error) {
	if size == 0 {
		return nil, nil
	}
	var list []run
	logical := int64(0)
	err := f.chain(first, func(cluster uint32) error {
		at, n := f.clusterAt(cluster), min(f.cluster, size-logical)
		if n <= 0 { // reserved behind its end
			return nil
		}
		if k := len(list) - 1; k >= 0 && list[k].at+list[k].length == at {
			list[k].length += n
		} else {
			list = append(list, run{logical, at, n})
		}
		logical += n
		return nil
	})
	if err == nil && logical < size {
		err = corrupt("a file of %d bytes has clusters for %d", size, logical)
	}
	return list, err
}

// content is what a regular file holds. FAT knows no holes.
type content struct {
	f    *FS
	runs []run
	size int64
}

// ReadAt implements io.ReaderAt.
func (c *content) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= c.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), c.size-off))
	for done := 0; done < n; {
		at := off + int64(done)
		r := c.runs[sort.Search(len(c.runs), func(i int) bool { return c.runs[i].logical > at })-1]
		skip := at - r.logical
		piece := p[done:n]
		piece = piece[:min(int64(len(piece)), r.length-skip)]
		if err := c.f.readAt(piece, r.at+skip); err != nil {
			return done, err
		}
		done += len(piece)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Data calls fn for the whole file.
func (c *content) Data(fn func(start, length int64) error) error {
	if c.size == 0 {
		return nil
	}
	return fn(0, c.size)
}

func (f *FS) readAt(p []byte, at int64) error {
	n, err := f.r.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// UsedRanges calls fn for every run of bytes that the file system has in use, in
// order and without overlap: what lies before the clusters, and the clusters that
// one of the FATs does not call free.
func (f *FS) UsedRanges(fn func(start, length int64) error) error {
	var readers []*tableReader
	for _, table := range f.tables {
		readers = append(readers, f.tableReader(table))
	}
	start, end := int64(0), f.data
	for i := range f.clusters {
		cluster, used := firstCluster+i, false
		for _, t := range readers {
			entry, err := t.entry(cluster)
			if err != nil {
				return err
			}
			used = used || entry != 0
		}
		if !used {
			continue
		}
		at := f.clusterAt(cluster)
		if at != end {
			if err := fn(start, end-start); err != nil {
				return err
			}
			start = at
		}
		end = at + f.cluster
	}
	return fn(start, end-start)
}

// IdleRanges implements filesystem.Idler: the free clusters.
func (f *FS) IdleRanges(fn func(start, length int64) error) error {
	return filesystem.Between(f.Size, f.UsedRanges, fn)
}
