package volume

import (
	"errors"
	"fmt"
	"io"

	"herdbook/internal/luks"
	"herdbook/internal/mapper"
)

const sector = 512

// piece is one target of a device, ready to be read.
type piece struct {
	start, length int64 // bytes
	io.ReaderAt         // counts from the target's own beginning
}

// table reads what the kernel would show of a device. Its pieces follow one another
// without a gap.
type table []piece

// newTable makes a reader of a device; open gives those of its sources.
func newTable(d mapper.Device, open func(mapper.Source) io.ReaderAt) (table, error) {
	var t table
	for _, target := range d.Table {
		p := piece{start: target.Start * sector, length: target.Length * sector}
		var areas []io.ReaderAt
		for _, a := range target.Areas {
			areas = append(areas, shifted{open(a.Source), a.Offset * sector})
		}
		switch target.Type {
		case mapper.Linear, mapper.Mirror: // a mirror's areas are the same
			p.ReaderAt = areas[0]
		case mapper.Striped:
			p.ReaderAt = stripes{areas, target.Chunk * sector}
		case mapper.Crypted:
			c := target.Crypt
			r, err := luks.NewReader(areas[0], luks.Mapping{Cipher: c.Cipher, Key: c.Key, SectorSize: c.SectorSize, IVOffset: c.IVOffset, Size: p.length})
			if err != nil {
				return nil, err
			}
			p.ReaderAt = r
		default:
			return nil, fmt.Errorf("a target %q", target.Type)
		}
		t = append(t, p)
	}
	return t, nil
}

// ReadAt implements io.ReaderAt.
func (t table) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read a volume: negative offset")
	}
	done := 0
	for _, piece := range t {
		at := off + int64(done) - piece.start
		if at < 0 || at >= piece.length {
			continue
		}
		part := p[done:]
		if int64(len(part)) > piece.length-at {
			part = part[:piece.length-at]
		}
		if n, err := piece.ReadAt(part, at); n < len(part) {
			return done + n, cut(err)
		}
		if done += len(part); done == len(p) {
			return done, nil
		}
	}
	return done, io.EOF
}

// cut says that the end has come too early.
func cut(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// shifted reads from an offset.
type shifted struct {
	r      io.ReaderAt
	offset int64
}

func (s shifted) ReadAt(p []byte, off int64) (int, error) { return s.r.ReadAt(p, s.offset+off) }

// stripes reads areas that take turns.
type stripes struct {
	areas []io.ReaderAt
	chunk int64 // bytes
}

func (s stripes) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		turn, within := (off+int64(done))/s.chunk, (off+int64(done))%s.chunk
		part := p[done:min(int64(len(p)), int64(done)+s.chunk-within)]
		count := int64(len(s.areas))
		if n, err := s.areas[turn%count].ReadAt(part, turn/count*s.chunk+within); n < len(part) {
			return done + n, cut(err)
		}
		done += len(part)
	}
	return done, nil
}
