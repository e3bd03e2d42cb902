package pkgdb

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// What rpm keeps of a package, whatever the database: its header (rpm's
// docs/manual/format_header.md). Two numbers, an index of tags, and their values;
// all numbers are big endian.

const (
	indexEntry  = 16      // bytes: tag, type, offset, count
	maxTags     = 1 << 16 // of rpm
	maxTagBytes = 1 << 28 // of rpm
)

// Tags of a header.
const (
	tagName     = 1000
	tagVersion  = 1001
	tagRelease  = 1002
	tagEpoch    = 1003
	tagSummary  = 1004
	tagSize     = 1009
	tagArch     = 1022
	tagLongSize = 5009 // instead of size, from 4 GiB on
)

// Types of values.
const (
	typeInt32  = 4
	typeInt64  = 5
	typeString = 6
	typeI18N   = 9 // strings in several languages, the first in none
)

// tag is an entry of the index.
type tag struct {
	tag, kind uint32
	offset    int64
}

// readHeader reads a header up to the last value that is needed.
func readHeader(blob io.Reader) (Package, error) {
	r := bufio.NewReader(blob)
	var intro [8]byte
	if _, err := io.ReadFull(r, intro[:]); err != nil {
		return Package{}, fmt.Errorf("read a header: %w", unexpected(err))
	}
	count, length := binary.BigEndian.Uint32(intro[:]), binary.BigEndian.Uint32(intro[4:])
	if count > maxTags || length > maxTagBytes {
		return Package{}, fmt.Errorf("a header has %d tags in %d bytes", count, length)
	}
	tags, err := readIndex(r, int(count), int64(length))
	if err != nil {
		return Package{}, fmt.Errorf("read a header: %w", err)
	}
	var p Package
	var epoch, release string
	at := int64(0)
	for _, t := range tags {
		value, n, err := readValue(r, t, at, int64(length))
		if err != nil {
			return Package{}, fmt.Errorf("read tag %d of a header: %w", t.tag, err)
		}
		at = n
		switch t.tag {
		case tagName:
			p.Name = value.text
		case tagVersion:
			p.Version = value.text
		case tagRelease:
			release = "-" + value.text
		case tagEpoch:
			epoch = fmt.Sprintf("%d:", value.number)
		case tagArch:
			p.Architecture = value.text
		case tagSummary:
			p.Summary, _, _ = strings.Cut(value.text, "\n")
		case tagSize, tagLongSize:
			p.Size = int64(min(value.number, math.MaxInt64))
		}
	}
	p.Version = epoch + p.Version + release
	return p, nil
}

// wanted are the tags that are read, and the types that they have.
var wanted = map[uint32]uint32{
	tagName: typeString, tagVersion: typeString, tagRelease: typeString, tagEpoch: typeInt32, tagSummary: typeI18N,
	tagSize: typeInt32, tagArch: typeString, tagLongSize: typeInt64,
}

// readIndex returns the wanted tags in the order of their values. A header that was
// changed in the database can have a tag twice; the first is the package's.
func readIndex(r io.Reader, count int, length int64) ([]tag, error) {
	var tags []tag
	entry := make([]byte, indexEntry)
	for range count {
		if _, err := io.ReadFull(r, entry); err != nil {
			return nil, unexpected(err)
		}
		be := binary.BigEndian
		t := tag{be.Uint32(entry), be.Uint32(entry[4:]), int64(be.Uint32(entry[8:]))}
		kind, ok := wanted[t.tag]
		if !ok || slices.ContainsFunc(tags, func(o tag) bool { return o.tag == t.tag }) {
			continue
		}
		if t.tag == tagSummary && t.kind == typeString {
			kind = typeString
		}
		if t.kind != kind || t.offset >= length {
			return nil, fmt.Errorf("tag %d has type %d at byte %d of %d", t.tag, t.kind, t.offset, length)
		}
		tags = append(tags, t)
	}
	slices.SortFunc(tags, func(a, b tag) int { return cmp.Compare(a.offset, b.offset) })
	return tags, nil
}

// value is that of a tag, one or the other.
type value struct {
	text   string
	number uint64
}

// readValue reads a value of which r stands at byte at, and returns where r stands
// then.
func readValue(r io.Reader, t tag, at, length int64) (value, int64, error) {
	if t.offset < at {
		return value{}, at, errors.New("values overlap")
	}
	if _, err := io.CopyN(io.Discard, r, t.offset-at); err != nil {
		return value{}, at, unexpected(err)
	}
	at = t.offset
	switch t.kind {
	case typeInt32, typeInt64:
		p := make([]byte, 4)
		if t.kind == typeInt64 {
			p = make([]byte, 8)
		}
		if _, err := io.ReadFull(io.LimitReader(r, length-at), p); err != nil {
			return value{}, at, unexpected(err)
		}
		if t.kind == typeInt64 {
			return value{number: binary.BigEndian.Uint64(p)}, at + 8, nil
		}
		return value{number: uint64(binary.BigEndian.Uint32(p))}, at + 4, nil
	}
	text, n, err := readString(io.LimitReader(r, length-at))
	return value{text: text}, at + n, err
}

// readString reads up to a zero byte and says how far that was. Of a long text the
// first part is all that matters.
func readString(r io.Reader) (string, int64, error) {
	var text bytes.Buffer
	p := make([]byte, 1)
	for n := int64(1); ; n++ {
		if _, err := io.ReadFull(r, p); err != nil {
			return "", n, unexpected(err)
		}
		if p[0] == 0 {
			return text.String(), n, nil
		}
		if text.Len() <= maxSummary {
			text.WriteByte(p[0])
		}
	}
}

// unexpected is an error of reading what must be there.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
