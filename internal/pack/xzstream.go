package pack

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// The format is that of "The .xz File Format", version 1.2.1: a header, blocks, an
// index of them and a footer. Numbers in it are those of encoding/binary's uvarint.
const (
	xzHeader     = 12
	xzMagic      = "\xfd7zXZ\x00"
	xzEnd        = "YZ"
	xzCheck      = 8 // bytes of a CRC64, at the end of a block
	xzPackedSize = 0x40
	xzSize       = 0x80
)

// xzRecord is what an index says of a block.
type xzRecord struct {
	unpadded int64 // bytes of the block, without those that align it
	size     int64 // bytes of what is packed in it
}

// xzPacked is a block with its record.
type xzPacked struct {
	bytes  []byte
	record xzRecord
}

// xzReader reads the blocks that xz prints, without unpacking them.
type xzReader struct {
	r      *bufio.Reader
	header []byte // of the stream
}

func newXZReader(r io.Reader) (*xzReader, error) {
	x := &xzReader{bufio.NewReaderSize(r, 1<<16), make([]byte, xzHeader)}
	if _, err := io.ReadFull(x.r, x.header); err != nil {
		return nil, noEOF(err)
	}
	if string(x.header[:6]) != xzMagic || x.header[6] != 0 || x.header[7] != 4 {
		return nil, fmt.Errorf("xz printed no stream with a CRC64: % x", x.header)
	}
	return x, nil
}

// noEOF makes an end in between an unexpected one.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// next tells whether another block follows, and not the index.
func (x *xzReader) next() (bool, error) {
	first, err := x.r.Peek(1)
	if err != nil {
		return false, noEOF(err)
	}
	return first[0] != 0, nil
}

// copy writes the next block to w.
func (x *xzReader) copy(w io.Writer) (r xzRecord, err error) {
	first, err := x.r.Peek(1)
	if err != nil {
		return r, noEOF(err)
	}
	header := make([]byte, (int(first[0])+1)*4)
	if _, err := io.ReadFull(x.r, header); err != nil {
		return r, noEOF(err)
	}
	if header[1]&xzPackedSize == 0 || header[1]&xzSize == 0 {
		return r, errors.New("xz does not say how long a block is, since it has one thread only: it needs more memory")
	}
	packed, n := binary.Uvarint(header[2:])
	size, m := binary.Uvarint(header[2+max(0, n):])
	if n <= 0 || m <= 0 || packed > 2*xzBlock || size > xzBlock {
		return r, fmt.Errorf("xz printed a block of %d bytes for %d", packed, size)
	}
	if _, err := w.Write(header); err != nil {
		return r, err
	}
	if _, err := io.CopyN(w, x.r, int64(packed+3)&^3+xzCheck); err != nil {
		return r, noEOF(err)
	}
	return xzRecord{int64(len(header)) + int64(packed) + xzCheck, int64(size)}, nil
}

// xzWriter writes a stream of blocks that are packed.
type xzWriter struct {
	w     io.Writer
	flags []byte
	index []xzRecord
	known map[int64]xzPacked // blocks of zeros, by the size of what is packed
}

// begin writes a header.
func (x *xzWriter) begin(header []byte) error {
	x.flags = header[6:8]
	_, err := x.w.Write(header)
	return err
}

// end writes the index and the footer.
func (x *xzWriter) end() error {
	index := binary.AppendUvarint([]byte{0}, uint64(len(x.index)))
	for _, r := range x.index {
		index = binary.AppendUvarint(binary.AppendUvarint(index, uint64(r.unpadded)), uint64(r.size))
	}
	for len(index)%4 != 0 {
		index = append(index, 0)
	}
	le := binary.LittleEndian
	index = le.AppendUint32(index, crc32.ChecksumIEEE(index))
	back := append(le.AppendUint32(nil, uint32(len(index)/4-1)), x.flags...)
	footer := append(append(le.AppendUint32(nil, crc32.ChecksumIEEE(back)), back...), xzEnd...)
	_, err := x.w.Write(append(index, footer...))
	return err
}
