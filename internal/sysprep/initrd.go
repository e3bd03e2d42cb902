package sysprep

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"herdbook/internal/guest"
	"herdbook/internal/uuid"
)

// initrds are where distributions and systemd's kernel-install put them.
var initrds = []string{"/boot/{initrd,initramfs}*", "/{boot,boot/efi,efi}/[0-9a-f]*/*/initrd*"}

const maxInitrd = 2 << 30 // bytes, unpacked

// initrdsAreStale tells whether an initrd says an old identifier. One that cannot be looked
// into may say it.
func initrdsAreStale(root *guest.Root, list []uuid.Change) (bool, error) {
	s := &scanner{words: initrdWords(list), buffer: make([]byte, overlap+1<<20)}
	if len(s.words) == 0 {
		return false, nil
	}
	for _, pattern := range initrds {
		names, err := root.Glob(pattern)
		if err != nil {
			return false, err
		}
		for _, name := range names {
			if !root.IsFile(name) {
				continue
			}
			f, err := root.Open(name)
			if err != nil {
				return false, err
			}
			says, err := s.initrd(f)
			if err := f.Close(); err != nil {
				return false, err
			}
			if says || err != nil {
				return true, nil
			}
		}
	}
	return false, nil
}

// initrdWords are the old identifiers as an initrd may say them: also as systemd writes
// them in the names of its units.
func initrdWords(list []uuid.Change) [][]byte {
	var words [][]byte
	for _, id := range list {
		if id.Type.OfLVM() {
			continue // no initrd says these
		}
		for _, word := range []string{id.Old, strings.ToLower(id.Old), strings.ToUpper(id.Old)} {
			words = append(words, []byte(word), []byte(strings.ReplaceAll(word, "-", `\x2d`)))
		}
	}
	return words
}

// scanner looks for words.
type scanner struct {
	words  [][]byte
	buffer []byte
}

// overlap is longer than a word, in bytes.
const overlap = 128

// initrd tells whether an initrd says a word. It is a row of archives in the format
// newc of cpio, with zeros between them, of which the last is compressed mostly: the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst.
func (s *scanner) initrd(r io.Reader) (bool, error) {
	in := bufio.NewReaderSize(r, 1<<16)
	for {
		magic, err := in.Peek(6)
		if len(magic) > 0 && magic[0] == 0 {
			if _, err := in.Discard(1); err != nil {
				return false, err
			}
			continue
		}
		if len(magic) < 6 {
			if errors.Is(err, io.EOF) && len(magic) == 0 {
				err = nil
			}
			return false, err
		}
		if string(magic) == "070701" {
			says, err := s.entry(in)
			if says || err != nil {
				return says, err
			}
			continue
		}
		// Behind what is compressed nothing follows that this could find.
		unpacked, err := decompress(in, magic)
		if err != nil {
			return false, err
		}
		return s.stream(unpacked)
	}
}

func decompress(in io.Reader, magic []byte) (io.Reader, error) {
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(in)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		return xz.NewReader(in)
	}
	return nil, fmt.Errorf("an initrd that begins with % x", magic)
}

// entry looks at one entry of an archive: a header of hexadecimal numbers, the
// name and the content, both filled up to four bytes.
func (s *scanner) entry(in *bufio.Reader) (bool, error) {
	const header = 110
	h := make([]byte, header)
	if _, err := io.ReadFull(in, h); err != nil {
		return false, err
	}
	size, err := strconv.ParseUint(string(h[54:62]), 16, 32)
	if err != nil {
		return false, err
	}
	name, err := strconv.ParseUint(string(h[94:102]), 16, 32)
	if err != nil {
		return false, err
	}
	length := int64((header+name+3)&^3 - header + (size+3)&^3)
	return s.stream(io.LimitReader(in, length))
}

// stream reads all of a stream, up to the first word.
func (s *scanner) stream(r io.Reader) (bool, error) {
	for kept, total := 0, 0; total < maxInitrd; {
		have := kept
		var err error
		for have < len(s.buffer) && err == nil {
			var n int
			n, err = r.Read(s.buffer[have:])
			have += n
		}
		for _, word := range s.words {
			if bytes.Contains(s.buffer[:have], word) {
				return true, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		total += have - kept
		kept = copy(s.buffer, s.buffer[have-overlap:have])
	}
	return false, fmt.Errorf("an initrd of more than %d bytes", maxInitrd)
}
