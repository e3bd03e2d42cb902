package luks

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The sizes that a header of LUKS2 may have, with its JSON, in bytes. The second
// copy follows the first.
const (
	minHeader2 = 16 << 10
	maxHeader2 = 4 << 20
	binarySize = 4096
)

// open2 reads LUKS2: the newer one of the two headers that are sound.
func open2(r io.ReaderAt, size int64) (*Header, error) {
	best, sequence, failed := []byte(nil), uint64(0), error(nil)
	try := func(at int64, magic string) {
		text, n, err := readHeader2(r, size, at, magic)
		switch {
		case errors.Is(err, ErrNotLUKS):
		case err != nil:
			failed = err
		case best == nil || n > sequence:
			best, sequence = text, n
		}
	}
	try(0, magic)
	for at := int64(minHeader2); at <= maxHeader2; at *= 2 {
		try(at, "SKUL\xba\xbe")
	}
	switch {
	case best != nil:
		return parse2(best, size)
	case failed != nil:
		return nil, failed
	}
	return nil, ErrNotLUKS
}

// readHeader2 reads one header whole, verifies it and returns it with its age.
func readHeader2(r io.ReaderAt, size, at int64, magic string) ([]byte, uint64, error) {
	p := make([]byte, binarySize)
	if at > size-binarySize {
		return nil, 0, ErrNotLUKS
	}
	if _, err := r.ReadAt(p, at); err != nil {
		return nil, 0, fmt.Errorf("read LUKS header: %w", err)
	}
	be := binary.BigEndian
	if string(p[:6]) != magic || be.Uint16(p[6:]) != 2 {
		return nil, 0, ErrNotLUKS
	}
	length := be.Uint64(p[8:])
	if length < minHeader2 || length > maxHeader2 || at > size-int64(length) || be.Uint64(p[256:]) != uint64(at) {
		return nil, 0, corrupt("a header of %d bytes at byte %d", length, at)
	}
	p = make([]byte, length)
	if _, err := r.ReadAt(p, at); err != nil {
		return nil, 0, fmt.Errorf("read LUKS header: %w", err)
	}
	name, _, _ := strings.Cut(string(p[72:104]), "\x00")
	sum, ok := hashes[name]
	if !ok {
		return nil, 0, corrupt("a checksum by %q", name)
	}
	want := bytes.Clone(p[448:512])
	clear(p[448:512])
	h := sum()
	h.Write(p)
	if got := h.Sum(nil); !bytes.Equal(got, want[:len(got)]) {
		return nil, 0, corrupt("checksum of the header at byte %d", at)
	}
	return p, be.Uint64(p[16:]), nil
}

// number is an integer that stands in quotes, since JSON's own are no 64 bits.
type number int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(p []byte) error {
	var text string
	if err := json.Unmarshal(p, &text); err != nil {
		return err
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err == nil && v < 0 {
		err = errors.New("a negative number")
	}
	*n = number(v)
	return err
}

// The JSON of a header, as far as it is needed.
type (
	json2 struct {
		Keyslots map[string]*keyslot2
		Segments map[string]*segment2
		Digests  map[string]*digest2
		Config   struct {
			Requirements struct{ Mandatory []string }
		}
	}
	keyslot2 struct {
		Type     string
		Priority *int
		KeySize  int `json:"key_size"`
		AF       struct {
			Type, Hash string
			Stripes    int
		}
		Area struct {
			Type, Encryption string
			Offset           number
			KeySize          int `json:"key_size"`
		}
		KDF kdf2
	}
	kdf2 struct {
		Type, Hash               string
		Time, Memory, Iterations int64
		CPUs                     int
		Salt                     []byte
	}
	segment2 struct {
		Type, Encryption string
		Offset           number
		Size             string
		IVTweak          number `json:"iv_tweak"`
		SectorSize       int    `json:"sector_size"`
		Integrity        json.RawMessage
		Flags            []string
	}
	digest2 struct {
		Type, Hash         string
		Keyslots, Segments []string
		Iterations         int64
		Salt, Digest       []byte
	}
)

func (k kdf2) kdf() kdf {
	if k.Type == "pbkdf2" {
		return kdf{kind: k.Type, hash: k.Hash, salt: k.Salt, time: k.Iterations}
	}
	return kdf{kind: k.Type, salt: k.Salt, time: k.Time, memory: k.Memory, lanes: k.CPUs}
}

// parse2 makes a header of one that was verified.
func parse2(p []byte, size int64) (*Header, error) {
	field := func(at, length int) string { s, _, _ := strings.Cut(string(p[at:at+length]), "\x00"); return s }
	h := &Header{Version: 2, UUID: field(168, 40), Label: field(24, 48)}
	var j json2
	text, _, _ := bytes.Cut(p[binarySize:], []byte{0})
	if err := json.Unmarshal(text, &j); err != nil {
		return nil, corrupt("its JSON: %v", err)
	}
	if needs := j.Config.Requirements.Mandatory; len(needs) > 0 {
		return nil, fmt.Errorf("LUKS volume %s needs %s, which herdbook does not know; finish a re-encryption with cryptsetup reencrypt --resume-only",
			h.UUID, strings.Join(needs, ", "))
	}
	segment, ok := j.Segments["0"]
	if !ok || segment == nil || len(j.Segments) != 1 || segment.Type != "crypt" {
		return nil, fmt.Errorf("LUKS volume %s does not have exactly one encrypted segment: herdbook cannot read it", h.UUID)
	}
	if len(segment.Integrity) > 0 {
		return nil, fmt.Errorf("LUKS volume %s has integrity tags, which herdbook cannot read", h.UUID)
	}
	h.Cipher, h.SectorSize, h.IVOffset = segment.Encryption, segment.SectorSize, int64(segment.IVTweak)
	h.Offset, h.Size = int64(segment.Offset), size-int64(segment.Offset)
	if segment.Size != "dynamic" {
		length, err := strconv.ParseInt(segment.Size, 10, 64)
		if err != nil {
			return nil, corrupt("a segment of %q bytes", segment.Size)
		}
		h.Size = length
	}
	if err := h.takeSlots(j); err != nil {
		return nil, err
	}
	return h, h.check(size)
}

// takeSlots takes the key slots of the segment, those that are preferred first.
func (h *Header) takeSlots(j json2) error {
	var of *digest2
	for _, name := range slices.Sorted(maps.Keys(j.Digests)) {
		if d := j.Digests[name]; d != nil && slices.Contains(d.Segments, "0") {
			of = d
		}
	}
	if of == nil || of.Type != "pbkdf2" {
		return corrupt("no digest of its volume key")
	}
	h.digest = digest{kdf{kind: of.Type, hash: of.Hash, salt: of.Salt, time: of.Iterations}, of.Digest}
	priority := func(k *keyslot2) int {
		if k.Priority == nil {
			return 1
		}
		return *k.Priority
	}
	names := slices.SortedFunc(maps.Keys(j.Keyslots), func(a, b string) int { return strings.Compare(a, b) })
	for _, want := range []int{2, 1} { // 0 is tried only by those who ask for it
		for _, name := range names {
			k := j.Keyslots[name]
			if k == nil || priority(k) != want || !slices.Contains(of.Keyslots, name) || k.Type != "luks2" {
				continue
			}
			if h.KeySize != 0 && h.KeySize != k.KeySize || k.AF.Type != "luks1" || k.Area.Type != "raw" {
				return corrupt("key slot %s has a key of %d bytes, in %s of %s", name, k.KeySize, k.Area.Type, k.AF.Type)
			}
			h.KeySize = k.KeySize
			h.slots = append(h.slots, slot{k.KDF.kdf(), k.Area.Encryption, k.Area.KeySize, k.AF.Hash, k.AF.Stripes, int64(k.Area.Offset)})
		}
	}
	if len(h.slots) == 0 {
		return fmt.Errorf("LUKS volume %s has no key slot that a passphrase opens", h.UUID)
	}
	return nil
}
