package unpack

import (
	"bytes"
	"io"
	"os"
)

const (
	block = 4 << 10 // zeros of this size and alignment become a hole
	batch = 1 << 20 // read at once
)

var zeros [block]byte

// writeSparse writes all of r to an empty file.
func writeSparse(f *os.File, r io.Reader) error {
	buffer := make([]byte, batch)
	for at := int64(0); ; {
		n, err := fill(r, buffer)
		if failed := writeData(f, buffer[:n], at); failed != nil {
			return failed
		}
		at += int64(n)
		if err == io.EOF {
			return f.Truncate(at)
		}
		if err != nil {
			return err
		}
	}
}

// fill is io.ReadFull, but leaves the error as it is: an end that r itself calls
// unexpected is none.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var more int
		more, err = r.Read(p[n:])
		n += more
	}
	return n, err
}

// writeData writes what is not zeros of p, in as few pieces as there are runs.
func writeData(f *os.File, p []byte, at int64) error {
	for from := 0; from < len(p); {
		to := from
		for to < len(p) && !isZero(p[to:min(to+block, len(p))]) {
			to = min(to+block, len(p))
		}
		if to > from {
			if _, err := f.WriteAt(p[from:to], at+int64(from)); err != nil {
				return err
			}
		}
		from = min(to+block, len(p)) // the block at to is zeros
	}
	return nil
}

func isZero(p []byte) bool { return bytes.Equal(p, zeros[:len(p)]) }
