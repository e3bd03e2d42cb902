// Package luks reads disks that LUKS1 or LUKS2 encrypted: their headers, the
// volume key that a passphrase unlocks, and what lies behind the header in
// clear. It changes nothing, and starts nothing.
//
// The formats are those of the LUKS1 On-Disk Format Specification 1.2.3 and the
// LUKS2 On-Disk Format Specification 1.1. What a header asks for in memory and
// time is bounded: it comes out of an image.
package luks

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrNotLUKS says that there is no header.
var ErrNotLUKS = errors.New("not a LUKS volume")

// ErrCorrupt is wrapped by every error that says that a header contradicts itself
// or the format.
var ErrCorrupt = errors.New("LUKS header is corrupt")

// ErrWrongKey says that a passphrase unlocks none of the key slots.
var ErrWrongKey = errors.New("the key fits none of its key slots")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

const (
	sector    = 512
	magic     = "LUKS\xba\xbe"
	maxKey    = 512     // bytes of a volume key
	maxArea   = 4 << 20 // bytes of a key slot's material
	maxSlots  = 32
	maxStripe = 8192
)

// Header is what a LUKS header says.
type Header struct {
	Version    int
	UUID       string
	Label      string // LUKS2 only
	Offset     int64  // where the data begin, in bytes
	Size       int64  // bytes of data
	Cipher     string // as the kernel's dm-crypt takes it: aes-xts-plain64
	SectorSize int    // bytes that are encrypted at once
	IVOffset   int64  // what is added to a sector's number
	KeySize    int    // bytes of the volume key

	slots  []slot
	digest digest
}

// slot is one place in which the volume key lies, locked by a passphrase.
type slot struct {
	kdf     kdf
	cipher  string // of the material
	keySize int    // bytes of the key to the material
	hash    string // of the anti-forensic splitter
	stripes int
	offset  int64 // bytes
}

// digest proves a volume key.
type digest struct {
	kdf   kdf
	value []byte
}

// Open reads the header of a disk of size bytes.
func Open(r io.ReaderAt, size int64) (*Header, error) {
	head := make([]byte, 4096)
	n, err := r.ReadAt(head[:min(size, int64(len(head)))], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read LUKS header: %w", err)
	}
	if string(head[:6]) == magic && binary.BigEndian.Uint16(head[6:]) == 1 && n >= headerSize1 {
		return open1(head, size)
	}
	h, err := open2(r, size)
	if errors.Is(err, ErrNotLUKS) && string(head[:6]) == magic {
		err = corrupt("version %d", binary.BigEndian.Uint16(head[6:]))
	}
	return h, err
}

// check bounds what both versions have.
func (h *Header) check(size int64) error {
	switch {
	case h.Offset <= 0 || h.Offset%sector != 0 || h.Size < 0 || h.Offset > size || h.Size > size-h.Offset:
		return corrupt("%d bytes of data at byte %d of %d", h.Size, h.Offset, size)
	case h.KeySize < 16 || h.KeySize > maxKey:
		return corrupt("a volume key of %d bytes", h.KeySize)
	case h.SectorSize < sector || h.SectorSize > 4096 || h.SectorSize&(h.SectorSize-1) != 0:
		return corrupt("sectors of %d bytes", h.SectorSize)
	case h.IVOffset < 0:
		return corrupt("sectors numbered from %d", h.IVOffset)
	case len(h.slots) > maxSlots:
		return corrupt("%d key slots", len(h.slots))
	case len(h.digest.value) < 16 || len(h.digest.value) > maxKey:
		return corrupt("a digest of %d bytes", len(h.digest.value))
	}
	for i, s := range h.slots {
		material := int64(s.stripes) * int64(h.KeySize)
		if s.stripes < 1 || s.stripes > maxStripe || material > maxArea || s.keySize < 16 || s.keySize > maxKey ||
			s.offset < headerSize1 || s.offset > h.Offset-material {
			return corrupt("key slot %d of %d has %d stripes at byte %d", i, len(h.slots), s.stripes, s.offset)
		}
	}
	h.Size -= h.Size % int64(h.SectorSize)
	return nil
}

// Unlock finds the volume key that a passphrase opens. It takes seconds, and as
// much memory as the header asks for, up to 2 GiB. What no slot can be tried with
// is an error of its own.
func (h *Header) Unlock(r io.ReaderAt, passphrase []byte) ([]byte, error) {
	if err := knownCipher(h.Cipher); err != nil {
		return nil, err
	}
	var failed error
	for i, s := range h.slots {
		key, err := h.try(r, s, passphrase)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("key slot %d: %w", i, err))
			continue
		}
		proof, err := h.digest.kdf.derive(key, len(h.digest.value))
		if err != nil {
			return nil, fmt.Errorf("prove the volume key: %w", err)
		}
		if subtle.ConstantTimeCompare(proof, h.digest.value) == 1 {
			return key, nil
		}
	}
	return nil, errors.Join(ErrWrongKey, failed)
}

// try unlocks one slot; with the wrong passphrase, to a key that proves false.
func (h *Header) try(r io.ReaderAt, s slot, passphrase []byte) ([]byte, error) {
	key, err := s.kdf.derive(passphrase, s.keySize)
	if err != nil {
		return nil, err
	}
	material := make([]byte, (s.stripes*h.KeySize+sector-1)/sector*sector)
	plain, err := NewReader(r, Mapping{Cipher: s.cipher, Key: key, SectorSize: sector, Offset: s.offset, Size: int64(len(material))})
	if err != nil {
		return nil, err
	}
	if _, err := plain.ReadAt(material, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return merge(material, h.KeySize, s.stripes, s.hash)
}

// Mapping is how the data are encrypted, once the key is known.
func (h *Header) Mapping(key []byte) Mapping {
	return Mapping{h.Cipher, key, h.SectorSize, h.IVOffset, h.Offset, h.Size}
}

// headerSize1 is the size of LUKS1's header, in bytes.
const headerSize1 = 592

// open1 reads a header of LUKS1, whose numbers are big-endian.
func open1(p []byte, size int64) (*Header, error) {
	be := binary.BigEndian
	text := func(at, length int) string { s, _, _ := strings.Cut(string(p[at:at+length]), "\x00"); return s }
	hash := text(72, 32)
	h := &Header{
		Version: 1, UUID: text(168, 40), Cipher: text(8, 32) + "-" + text(40, 32), SectorSize: sector,
		Offset: int64(be.Uint32(p[104:])) * sector, KeySize: int(be.Uint32(p[108:])),
		digest: digest{kdf{kind: "pbkdf2", hash: hash, salt: p[132:164], time: int64(be.Uint32(p[164:]))}, p[112:132]},
	}
	if h.Size = size - h.Offset; h.KeySize > maxKey {
		return nil, corrupt("a volume key of %d bytes", h.KeySize)
	}
	for i := range 8 {
		k := p[208+48*i:][:48]
		const enabled, disabled = 0x00AC71F3, 0x0000DEAD
		switch be.Uint32(k) {
		case enabled:
		case disabled:
			continue
		default:
			return nil, corrupt("key slot %d is neither on nor off", i)
		}
		h.slots = append(h.slots, slot{
			kdf:    kdf{kind: "pbkdf2", hash: hash, salt: k[8:40], time: int64(be.Uint32(k[4:]))},
			cipher: h.Cipher, keySize: h.KeySize, hash: hash, stripes: int(min(be.Uint32(k[44:]), maxStripe+1)), offset: int64(be.Uint32(k[40:])) * sector,
		})
	}
	return h, h.check(size)
}
