package pkgdb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
)

// column is how long a value of an SQLite row is and what it is.
type column struct {
	length     int64
	text, blob bool // neither: a number
}

// record reads the columns of a row.
func record(r io.Reader, fn rowFunc) error {
	first := make([]byte, 1) // enough for heads of up to 127 bytes; rpm's are shorter
	if _, err := io.ReadFull(r, first); err != nil {
		return unexpected(err)
	}
	if first[0] < 1 || first[0] > 127 {
		return errors.New("a row has more columns than a table of rpm's")
	}
	head := make([]byte, first[0]-1)
	if _, err := io.ReadFull(r, head); err != nil {
		return unexpected(err)
	}
	var columns []column
	for len(head) > 0 {
		kind, n := varint(head)
		if n == 0 || kind > math.MaxInt32 || kind == 10 || kind == 11 {
			return fmt.Errorf("a column has type %d", kind)
		}
		head = head[n:]
		columns = append(columns, columnOf(int64(kind)))
	}
	return fn(columns, r)
}

func columnOf(kind int64) column {
	if kind >= 12 {
		return column{(kind - 12) / 2, kind%2 == 1, kind%2 == 0}
	}
	return column{length: []int64{0, 1, 2, 3, 4, 6, 8, 8, 0, 0}[kind]}
}

// schemaRow reads a row of the schema: type, name, table, root page and SQL. The
// name is that of a table, or "".
func schemaRow(columns []column, body io.Reader) (name string, root int64, err error) {
	if len(columns) != 5 {
		return "", 0, fmt.Errorf("a row has %d columns", len(columns))
	}
	var values [4][]byte
	for i := range values {
		if columns[i].length > maxField {
			return "", 0, nil // nothing of rpm's
		}
		values[i] = make([]byte, columns[i].length)
		if _, err := io.ReadFull(body, values[i]); err != nil {
			return "", 0, unexpected(err)
		}
	}
	if !bytes.Equal(values[0], []byte("table")) || len(values[3]) > 4 || columns[3].text || columns[3].blob {
		return "", 0, nil
	}
	for _, b := range values[3] {
		root = root<<8 | int64(b)
	}
	return string(values[1]), root, nil
}

// varint reads one of SQLite's numbers of one to nine bytes; its length is 0 if p
// ends within it.
func varint(p []byte) (value uint64, length int) {
	for i := range min(len(p), 9) {
		if i == 8 {
			return value<<8 | uint64(p[i]), 9
		}
		value = value<<7 | uint64(p[i]&0x7f)
		if p[i] < 0x80 {
			return value, i + 1
		}
	}
	return 0, 0
}
