package pkgdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The hash format of Berkeley DB 4 and 5 (its dbinc/db_page.h, in the byte order of
// the machine that made it): a page that describes the file, pages with the entries
// of one bucket each, which may go on in further ones, and chains of pages that hold
// what is too large for those.
const (
	bdbMeta       = 512 // bytes of the first page that matter
	bdbPageHead   = 26
	bdbMagic      = 0x061561
	bdbMinVersion = 8
	bdbMaxVersion = 10
)

// Types of pages and of what lies on them.
const (
	bdbUnsorted = 2 // a bucket's entries
	bdbOverflow = 7
	bdbMetaPage = 8 // of the hash
	bdbSorted   = 13
	bdbInline   = 1 // an item on the page
	bdbOffPage  = 3 // an item in overflow pages
)

// bdb is an open hash.
type bdb struct {
	*file
	order   binary.ByteOrder
	page    int      // bytes
	last    uint32   // number of the last page
	buckets uint32   // number of the last bucket
	spares  []uint32 // pages before the buckets of each doubling
	left    int      // pages that may still be read: each once
}

// bdbPackages adds the packages of a Packages of Berkeley DB.
func bdbPackages(f *file, add adder) error {
	db, err := openBDB(f)
	if err != nil {
		return err
	}
	for bucket := range uint64(db.buckets) + 1 {
		for n := db.bucket(uint32(bucket)); n != 0; {
			page, err := db.read(n)
			if err != nil {
				return err
			}
			if err := db.entries(page, add); err != nil {
				return fmt.Errorf("page %d: %w", n, err)
			}
			n = db.order.Uint32(page[16:])
		}
	}
	return nil
}

// openBDB reads the page that describes the file.
func openBDB(f *file) (*bdb, error) {
	meta, err := f.at(0, bdbMeta)
	if err != nil {
		return nil, err
	}
	db := &bdb{file: f, order: binary.LittleEndian}
	if binary.BigEndian.Uint32(meta[12:]) == bdbMagic {
		db.order = binary.BigEndian
	}
	u32 := func(at int) uint32 { return db.order.Uint32(meta[at:]) }
	magic, version, size, encryption, flags := u32(12), u32(16), u32(20), meta[24], meta[26]
	switch {
	case magic != bdbMagic || version < bdbMinVersion || version > bdbMaxVersion:
		return nil, fmt.Errorf("it is no hash of Berkeley DB 4 or 5: magic %#x, version %d", magic, version)
	case size < bdbMeta || size > 64<<10 || size&(size-1) != 0:
		return nil, fmt.Errorf("it has pages of %d bytes", size)
	case encryption != 0 || flags&1 != 0:
		return nil, errors.New("it is encrypted or has checksums, which rpm does not use")
	}
	db.page, db.last, db.buckets = int(size), u32(32), u32(72)
	if pages := f.size / int64(size); int64(db.last) >= pages || db.buckets > db.last {
		return nil, fmt.Errorf("it has %d pages; the last should be %d, with %d buckets", pages, db.last, db.buckets)
	}
	db.left = int(db.last)
	for i := range 32 {
		db.spares = append(db.spares, u32(96+4*i))
	}
	return db, nil
}

// bucket is the first page of a bucket.
func (db *bdb) bucket(n uint32) uint32 {
	doubling := 0
	for b := n; b > 0; b >>= 1 {
		doubling++
	}
	if doubling == len(db.spares) {
		return 0
	}
	return n + db.spares[doubling]
}

// read reads a page that was not read before.
func (db *bdb) read(n uint32) ([]byte, error) {
	if n == 0 || n > db.last {
		return nil, fmt.Errorf("page %d is not among the %d that it has", n, db.last)
	}
	if db.left--; db.left < 0 {
		return nil, errors.New("its pages are a cycle")
	}
	page, err := db.at(int64(n)*int64(db.page), db.page)
	if err == nil && db.order.Uint32(page[8:]) != n {
		err = fmt.Errorf("page %d says that it is page %d", n, db.order.Uint32(page[8:]))
	}
	return page, err
}

// entries adds the packages of a bucket's page: keys and values by turns, from the
// page's end to its front.
func (db *bdb) entries(page []byte, add adder) error {
	if kind := page[25]; kind != bdbUnsorted && kind != bdbSorted && kind != bdbMetaPage {
		return fmt.Errorf("it has type %d, not that of a hash", kind)
	}
	count := int(db.order.Uint16(page[20:]))
	if bdbPageHead+2*count > db.page {
		return fmt.Errorf("it has %d items in %d bytes", count, db.page)
	}
	end := db.page
	for i := range count {
		start := int(db.order.Uint16(page[bdbPageHead+2*i:]))
		if start < bdbPageHead+2*count || start >= end {
			return fmt.Errorf("item %d is at bytes %d to %d", i, start, end)
		}
		item := page[start:end]
		end = start
		if i%2 == 0 {
			continue // a key: the number of the package
		}
		if err := db.item(item, add); err != nil {
			return err
		}
	}
	return nil
}

// item adds the package of a value.
func (db *bdb) item(item []byte, add adder) error {
	var blob io.Reader
	switch {
	case item[0] == bdbInline && len(item) == 5:
		return nil // the value of key 0: the highest number so far
	case item[0] == bdbInline:
		blob = bytes.NewReader(item[1:])
	case item[0] == bdbOffPage && len(item) == 12:
		blob = &bdbChain{db: db, next: db.order.Uint32(item[4:]), left: int64(db.order.Uint32(item[8:]))}
	default:
		return fmt.Errorf("a value has type %d in %d bytes", item[0], len(item))
	}
	p, err := readHeader(blob)
	if err != nil {
		return err
	}
	return add(p)
}

// bdbChain reads what lies in overflow pages.
type bdbChain struct {
	db   *bdb
	next uint32
	left int64 // bytes
	page []byte
}

// Read implements io.Reader.
func (c *bdbChain) Read(p []byte) (int, error) {
	for len(c.page) == 0 {
		if c.left == 0 {
			return 0, io.EOF
		}
		page, err := c.db.read(c.next)
		if err != nil {
			return 0, err
		}
		length := int(c.db.order.Uint16(page[22:]))
		if page[25] != bdbOverflow || bdbPageHead+length > len(page) || int64(length) > c.left {
			return 0, fmt.Errorf("page %d is none of a chain of which %d bytes are left: type %d with %d bytes", c.next, c.left, page[25], length)
		}
		c.next, c.left, c.page = c.db.order.Uint32(page[16:]), c.left-int64(length), page[bdbPageHead:][:length]
	}
	n := copy(p, c.page)
	c.page = c.page[n:]
	return n, nil
}
