package pkgdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
)

// The format of SQLite 3 (sqlite.org/fileformat2.html), as far as the rows of one
// table are concerned: a tree of pages with the rows at its leaves, and chains of
// pages for what is too long for those. All numbers are big endian.
const (
	sqliteMagic    = "SQLite format 3\x00"
	sqliteHead     = 100 // bytes, before the tree of page 1
	sqliteInterior = 5   // types of pages
	sqliteLeaf     = 13
	maxDepth       = 20      // pages from a root to a leaf
	maxRecordHead  = 1 << 10 // bytes; a table of rpm's has three columns
)

// sqlite is an open database.
type sqlite struct {
	*file
	log    *wal // what is newer than the file; nil: nothing
	page   int  // bytes
	usable int  // of them
	pages  int64
	left   int64 // pages that a walk may still read: each once
}

// readSQLite reads an rpmdb.sqlite with the log beside it.
func readSQLite(tree fs.FS, path string, add adder) (err error) {
	f, err := openFile(tree, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	log, err := openFile(tree, path+walSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open its log: %w", err)
	}
	if log != nil {
		defer func() { err = errors.Join(err, log.Close()) }()
	}
	if f.size == 0 && (log == nil || log.size == 0) {
		return nil // made and never written
	}
	return sqlitePackages(f, log, add)
}

// sqlitePackages adds the packages of a database; log may be nil.
func sqlitePackages(f, log *file, add adder) error {
	db, err := openSQLite(f, log)
	if err != nil {
		return err
	}
	root := int64(0)
	if err := db.rows(1, func(columns []column, body io.Reader) error {
		name, page, err := schemaRow(columns, body)
		if name == "Packages" {
			root = page
		}
		return err
	}); err != nil {
		return fmt.Errorf("read the schema: %w", err)
	}
	if root == 0 {
		return errors.New("it has no table Packages")
	}
	return db.rows(root, func(columns []column, body io.Reader) error {
		if len(columns) != 2 || columns[0].length != 0 || !columns[1].blob {
			return errors.New("a row of Packages is no number and a header")
		}
		p, err := readHeader(io.LimitReader(body, columns[1].length))
		if err != nil {
			return err
		}
		return add(p)
	})
}

// openSQLite reads the head of a database, out of the log if that has it.
func openSQLite(f, log *file) (*sqlite, error) {
	db := &sqlite{file: f}
	if log != nil {
		w, err := openWAL(log)
		if err != nil {
			return nil, fmt.Errorf("read its log: %w", err)
		}
		db.log = w
	}
	head, err := db.head()
	if err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(head[16:]))
	if size == 1 {
		size = 64 << 10
	}
	db.page, db.usable = size, size-int(head[20])
	switch {
	case string(head[:len(sqliteMagic)]) != sqliteMagic:
		return nil, fmt.Errorf("it is no SQLite database: magic %q", head[:len(sqliteMagic)])
	case size < 512 || size&(size-1) != 0 || db.usable < 480:
		return nil, fmt.Errorf("it has pages of %d bytes, %d of them usable", size, db.usable)
	case binary.BigEndian.Uint32(head[56:]) != 1:
		return nil, fmt.Errorf("its text has encoding %d, not UTF-8", binary.BigEndian.Uint32(head[56:]))
	}
	db.pages = f.size / int64(size)
	if db.log != nil {
		if db.log.page != size {
			return nil, fmt.Errorf("it has pages of %d bytes, its log of %d", size, db.log.page)
		}
		db.pages = db.log.pages
	}
	return db, nil
}

// head is the first bytes of page 1.
func (db *sqlite) head() ([]byte, error) {
	if db.log != nil {
		if at, ok := db.log.frames[1]; ok {
			return db.log.at(at, sqliteHead)
		}
	}
	return db.at(0, sqliteHead)
}

// read reads a page that this walk did not read before.
func (db *sqlite) read(n int64) ([]byte, error) {
	if n < 1 || n > db.pages {
		return nil, fmt.Errorf("page %d is not among the %d that it has", n, db.pages)
	}
	if db.left--; db.left < 0 {
		return nil, errors.New("its pages are a cycle")
	}
	if db.log != nil {
		if at, ok := db.log.frames[uint32(n)]; ok {
			return db.log.at(at, db.page)
		}
	}
	return db.at((n-1)*int64(db.page), db.page)
}

// rowFunc takes a row: its columns, and a reader of their values one after another.
type rowFunc func(columns []column, body io.Reader) error

// rows calls fn for every row of the table whose root is a page.
func (db *sqlite) rows(root int64, fn rowFunc) error {
	db.left = db.pages
	if db.log != nil { // which may promise more than there is
		db.left = min(db.left, db.size/int64(db.page)+int64(len(db.log.frames)))
	}
	return db.walk(root, 0, fn)
}

func (db *sqlite) walk(n int64, depth int, fn rowFunc) error {
	if depth == maxDepth {
		return fmt.Errorf("a table is %d pages deep", depth)
	}
	page, err := db.read(n)
	if err != nil {
		return err
	}
	head := page
	if n == 1 {
		head = page[sqliteHead:]
	}
	kind, count := head[0], int(binary.BigEndian.Uint16(head[3:]))
	cells := head[8:]
	if kind == sqliteInterior {
		cells = head[12:]
	}
	if (kind != sqliteInterior && kind != sqliteLeaf) || 2*count > len(cells) {
		return fmt.Errorf("page %d is none of a table: type %d with %d cells", n, kind, count)
	}
	for i := range count {
		start := int(binary.BigEndian.Uint16(cells[2*i:]))
		if start > db.usable-4 {
			return fmt.Errorf("page %d has a cell at byte %d", n, start)
		}
		cell := page[start:db.usable]
		if kind == sqliteInterior {
			err = db.walk(int64(binary.BigEndian.Uint32(cell)), depth+1, fn)
		} else {
			err = db.row(cell, fn)
		}
		if err != nil {
			return err
		}
	}
	if kind == sqliteLeaf {
		return nil
	}
	return db.walk(int64(binary.BigEndian.Uint32(head[8:])), depth+1, fn)
}

// row calls fn for the row in a cell of a leaf.
func (db *sqlite) row(cell []byte, fn rowFunc) error {
	size, n := varint(cell)
	_, m := varint(cell[n:]) // the row's number
	if n == 0 || m == 0 || size > math.MaxInt32 {
		return fmt.Errorf("a row has %d bytes", size)
	}
	cell = cell[n+m:]
	local := int(size)
	if limit := db.usable - 35; local > limit {
		least := (db.usable-12)*32/255 - 23
		local = least + (int(size)-least)%(db.usable-4)
		if local > limit {
			local = least
		}
		if local+4 > len(cell) {
			return fmt.Errorf("%d bytes of a row are not on its page", local)
		}
		r := &sqliteChain{db: db, page: cell[:local], next: binary.BigEndian.Uint32(cell[local:]), left: int64(size) - int64(local)}
		return record(r, fn)
	}
	if local > len(cell) {
		return fmt.Errorf("%d bytes of a row are not on its page", local)
	}
	return record(bytes.NewReader(cell[:local]), fn)
}

// sqliteChain reads a row that goes on in overflow pages.
type sqliteChain struct {
	db   *sqlite
	page []byte
	next uint32
	left int64 // bytes on the pages to come
}

// Read implements io.Reader.
func (c *sqliteChain) Read(p []byte) (int, error) {
	if len(c.page) == 0 {
		if c.left == 0 {
			return 0, io.EOF
		}
		page, err := c.db.read(int64(c.next))
		if err != nil {
			return 0, err
		}
		length := min(c.left, int64(c.db.usable-4))
		c.next, c.left, c.page = binary.BigEndian.Uint32(page), c.left-length, page[4:][:length]
	}
	n := copy(p, c.page)
	c.page = c.page[n:]
	return n, nil
}
