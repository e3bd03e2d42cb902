package growth

import (
	"io"

	"herdbook/internal/disk"
)

// grown is a disk as it would be: larger, and with some bytes that are others.
type grown struct {
	r             io.ReaderAt
	before, after int64
	writes        []disk.Write
}

// ReadAt implements io.ReaderAt.
func (g grown) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= g.after {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), g.after-off))
	clear(p[:n])
	if old := min(int64(n), g.before-off); old > 0 {
		if m, err := g.r.ReadAt(p[:old], off); int64(m) < old {
			return m, err
		}
	}
	for _, w := range g.writes {
		from, to := max(off, w.Offset), min(off+int64(n), w.Offset+int64(len(w.Bytes)))
		if from < to {
			copy(p[from-off:to-off], w.Bytes[from-w.Offset:])
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
