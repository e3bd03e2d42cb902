package btrfs

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// How an extent is packed.
const (
	packNone = 0
	packZlib = 1
	packLZO  = 2
	packZstd = 3

	maxUnpacked = 128 << 10 // bytes of a compressed extent, packed and unpacked
)

// packed is where the bytes of an extent are, and what they are.
type packed struct {
	at     uint64 // logical
	length int64  // on the disk
	ram    int64  // unpacked
	how    uint8
}

// unpack returns the whole of a compressed extent. It is kept, as most reads take
// a part of it, and must not be changed.
func (c *content) unpack(e *extent) ([]byte, error) {
	v := c.v
	if e.inline != nil {
		return v.decompress(e.stored, e.inline)
	}
	if p, ok := v.unpacked.Get(e.stored); ok {
		return p, nil
	}
	raw := make([]byte, e.stored.length)
	if err := v.readData(raw, e.stored.at, c.summed); err != nil {
		return nil, err
	}
	p, err := v.decompress(e.stored, raw)
	if err == nil {
		v.unpacked.Put(e.stored, p)
	}
	return p, err
}

// decompress unpacks an extent. What it lacks at its end is zeros.
func (v *volume) decompress(e packed, raw []byte) ([]byte, error) {
	out := make([]byte, e.ram)
	var err error
	switch e.how {
	case packZlib:
		err = inflate(out, raw)
	case packLZO:
		err = v.unpackLZO(out, raw)
	case packZstd:
		err = unpackZstd(out, raw)
	default:
		return nil, fmt.Errorf("this reader does not know compression %d", e.how)
	}
	if err != nil {
		return nil, fmt.Errorf("decompress extent at %d: %w: %w", e.at, corrupt("it cannot be unpacked"), err)
	}
	return out, nil
}

// fill reads out full, or less if r ends before.
func fill(out []byte, r io.Reader) error {
	_, err := io.ReadFull(r, out)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func inflate(out, raw []byte) error {
	r, err := zlib.NewReader(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	return errors.Join(fill(out, r), r.Close())
}

// decoders are kept, since they are large.
var decoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(1<<20), zstd.WithDecoderMaxMemory(1<<20))
	if err != nil {
		return err
	}
	return d
}}

func unpackZstd(out, raw []byte) error {
	d, ok := decoders.Get().(*zstd.Decoder)
	if !ok {
		return errors.New("no decoder could be made")
	}
	defer decoders.Put(d)
	if err := d.Reset(bytes.NewReader(raw)); err != nil {
		return err
	}
	err := fill(out, d)
	if errors.Is(err, zstd.ErrMagicMismatch) && len(raw) >= 4 && binary.LittleEndian.Uint32(raw) == 0xFD2FB528 {
		return nil // what pads the one frame to a sector
	}
	return err
}

// unpackLZO unpacks pieces of a sector each, with their lengths before them. A
// length does not cross the end of a sector.
func (v *volume) unpackLZO(out, raw []byte) error {
	le := binary.LittleEndian
	if len(raw) < 4 || int64(le.Uint32(raw)) > int64(len(raw)) {
		return errors.New("its length is wrong")
	}
	raw = raw[:max(4, le.Uint32(raw))]
	for at := 4; len(out) > 0 && at < len(raw); {
		if left := int(v.sector) - at%int(v.sector); left < 4 {
			at += left
		}
		if at+4 > len(raw) {
			return nil
		}
		length := int64(le.Uint32(raw[at:]))
		at += 4
		if length > int64(len(raw)-at) {
			return errors.New("a piece is longer than the whole")
		}
		n, err := lzo(out[:min(int64(len(out)), v.sector)], raw[at:][:length])
		if err != nil {
			return err
		}
		at, out = at+int(length), out[n:]
	}
	return nil
}
