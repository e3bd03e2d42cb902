package luks

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/crypto/xts"
)

// Mapping is what the kernel's dm-crypt is told of an encrypted disk.
type Mapping struct {
	Cipher     string // aes-xts-plain64
	Key        []byte
	SectorSize int   // bytes
	IVOffset   int64 // what is added to a sector's number, in sectors of 512 bytes
	Offset     int64 // where the data begin, in bytes
	Size       int64 // bytes
}

// ciphers are those that are read here, all of them AES.
var ciphers = []string{"aes-xts-plain64", "aes-xts-plain", "aes-cbc-essiv:sha256", "aes-cbc-plain64", "aes-cbc-plain"}

func knownCipher(name string) error {
	if !slices.Contains(ciphers, name) {
		return fmt.Errorf("it is encrypted with %s, of which herdbook knows nothing: it reads %s", name, strings.Join(ciphers, ", "))
	}
	return nil
}

// Reader reads an encrypted disk in clear. It is safe for concurrent use.
type Reader struct {
	r       io.ReaderAt
	m       Mapping
	decrypt func(p []byte, number uint64)
}

// NewReader reads r, which is encrypted as m says.
func NewReader(r io.ReaderAt, m Mapping) (*Reader, error) {
	if err := knownCipher(m.Cipher); err != nil {
		return nil, err
	}
	if m.SectorSize < sector || m.Size%int64(m.SectorSize) != 0 {
		return nil, corrupt("%d bytes in sectors of %d", m.Size, m.SectorSize)
	}
	decrypt, err := newCipher(m.Cipher, m.Key)
	if err != nil {
		return nil, fmt.Errorf("use cipher %s: %w", m.Cipher, err)
	}
	return &Reader{r, m, decrypt}, nil
}

// newCipher makes a function that decrypts one sector in place.
func newCipher(name string, key []byte) (func(p []byte, number uint64), error) {
	_, rest, _ := strings.Cut(name, "-")
	mode, iv, _ := strings.Cut(rest, "-")
	narrow := func(n uint64) uint64 {
		if iv == "plain" {
			return n & (1<<32 - 1)
		}
		return n
	}
	if mode == "xts" {
		c, err := xts.NewCipher(aes.NewCipher, key)
		if err != nil {
			return nil, err
		}
		return func(p []byte, n uint64) { c.Decrypt(p, p, narrow(n)) }, nil
	}
	c, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	var salted cipher.Block // of essiv: the number is encrypted with the key's hash
	if iv == "essiv:sha256" {
		h := hashes["sha256"]()
		h.Write(key)
		if salted, err = aes.NewCipher(h.Sum(nil)); err != nil {
			return nil, err
		}
	}
	return func(p []byte, n uint64) {
		var v [aes.BlockSize]byte
		binary.LittleEndian.PutUint64(v[:], narrow(n))
		if salted != nil {
			salted.Encrypt(v[:], v[:])
		}
		cipher.NewCBCDecrypter(c, v[:]).CryptBlocks(p, p)
	}, nil
}

// maxRead is how much is decrypted at once, in bytes.
const maxRead = 64 << 10

// ReadAt implements io.ReaderAt.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read an encrypted disk: negative offset")
	}
	done := 0
	unit := int64(r.m.SectorSize)
	for done < len(p) {
		at := off + int64(done)
		if at >= r.m.Size {
			return done, io.EOF
		}
		first := at / unit * unit
		last := min((off+int64(len(p))+unit-1)/unit*unit, first+maxRead, r.m.Size)
		buffer := make([]byte, last-first)
		if n, err := r.r.ReadAt(buffer, r.m.Offset+first); n < len(buffer) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return done, err
		}
		for i := int64(0); i < int64(len(buffer)); i += unit {
			r.decrypt(buffer[i:i+unit], uint64(first+i)/sector+uint64(r.m.IVOffset))
		}
		done += copy(p[done:], buffer[at-first:])
	}
	return done, nil
}
