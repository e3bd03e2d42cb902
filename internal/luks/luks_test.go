package luks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/peer"
)

const passphrase = "correct horse\n\x00 battery"

// payload is what is encrypted, in bytes; cryptsetup wants as much again, twice,
// for its header and for moving the data.
const payload = 1 << 20

// encrypt has cryptsetup encrypt a disk with something on it, as its options say,
// and returns the disk before and after.
func encrypt(t testing.TB, options ...string) (plain, encrypted []byte) {
	t.Helper()
	peer.NeedTool(t, "cryptsetup")
	dir := t.TempDir()
	image, key := filepath.Join(dir, "image"), filepath.Join(dir, "key")
	plain = make([]byte, payload+16<<20)
	rand.New(rand.NewSource(1)).Read(plain[:payload])
	peer.Must(t, os.WriteFile(image, plain, 0o600))
	peer.Must(t, os.WriteFile(key, []byte(passphrase), 0o600))
	// Only LUKS2 is encrypted in place without the kernel's help; LUKS1 is made of it.
	first := len(options) > 0 && options[0] == "luks1"
	if first {
		options = options[1:]
	}
	peer.Run(t, "cryptsetup", append([]string{"reencrypt", "-q", "--encrypt", "--type", "luks2", "--reduce-device-size", "16M", "--key-file", key}, append(options, image)...)...)
	if first {
		peer.Run(t, "cryptsetup", "convert", "-q", "--type", "luks1", image)
	}
	encrypted, err := os.ReadFile(image)
	peer.Must(t, err)
	return plain[:payload], encrypted
}

var quick = []string{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"}

func with(options ...string) []string { return append(options, quick...) }

func open(t testing.TB, p []byte) *Header {
	t.Helper()
	h, err := Open(bytes.NewReader(p), int64(len(p)))
	peer.Must(t, err)
	return h
}

// TestAgainstCryptsetup reads what cryptsetup wrote.
func TestAgainstCryptsetup(t *testing.T) {
	for _, c := range []struct {
		name    string
		options []string
		cipher  string
		sector  int
	}{
		{"LUKS2", with(), "aes-xts-plain64", 512},
		{"LUKS2 of large sectors", with("--sector-size", "4096"), "aes-xts-plain64", 4096},
		{"LUKS2 with argon2id", []string{"--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "32768"}, "aes-xts-plain64", 512},
		{"LUKS2 with argon2i", []string{"--pbkdf", "argon2i", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "40000", "--pbkdf-parallel", "1"}, "aes-xts-plain64", 512},
		{"LUKS2 with AES-128", with("--key-size", "256"), "aes-xts-plain64", 512},
		{"LUKS2 with sha512", with("--hash", "sha512"), "aes-xts-plain64", 512},
		{"LUKS1", with("luks1"), "aes-xts-plain64", 512},
		{"LUKS1 with CBC", with("luks1", "--cipher", "aes-cbc-essiv:sha256"), "aes-cbc-essiv:sha256", 512},
		{"LUKS1 with sha1", with("luks1", "--hash", "sha1", "--cipher", "aes-cbc-plain64", "--key-size", "128"), "aes-cbc-plain64", 512},
	} {
		t.Run(c.name, func(t *testing.T) {
			plain, encrypted := encrypt(t, c.options...)
			r := bytes.NewReader(encrypted)
			h := open(t, encrypted)
			if want := int(c.name[4] - '0'); h.Version != want || h.Cipher != c.cipher || h.SectorSize != c.sector {
				t.Errorf("version %d, %s in sectors of %d", h.Version, h.Cipher, h.SectorSize)
			}
			if len(h.UUID) != 36 || h.Offset+h.Size != int64(len(encrypted)) {
				t.Errorf("UUID %q, %d bytes at byte %d of %d", h.UUID, h.Size, h.Offset, len(encrypted))
			}
			if _, err := h.Unlock(r, []byte("wrong")); !errors.Is(err, ErrWrongKey) {
				t.Errorf("with the wrong key: %v", err)
			}
			key, err := h.Unlock(r, []byte(passphrase))
			peer.Must(t, err)
			d, err := NewReader(r, h.Mapping(key))
			peer.Must(t, err)
			got, err := io.ReadAll(io.NewSectionReader(d, 0, payload))
			if err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("other bytes than were encrypted: %v", err)
			}
			random := rand.New(rand.NewSource(2))
			for range 100 {
				p := make([]byte, random.Intn(200000))
				off := random.Int63n(payload - int64(len(p)))
				if _, err := d.ReadAt(p, off); err != nil || !bytes.Equal(p, plain[off:][:len(p)]) {
					t.Fatalf("%d bytes from byte %d: others than were encrypted: %v", len(p), off, err)
				}
			}
			if n, err := d.ReadAt(make([]byte, 100), h.Size-50); n != 50 || err != io.EOF {
				t.Errorf("at the end: %d, %v", n, err)
			}
		})
	}
}

func TestSeveralKeys(t *testing.T) {
	plain, encrypted := encrypt(t, with()...)
	dir := t.TempDir()
	image, old, other := filepath.Join(dir, "image"), filepath.Join(dir, "old"), filepath.Join(dir, "other")
	peer.Must(t, errors.Join(os.WriteFile(image, encrypted, 0o600), os.WriteFile(old, []byte(passphrase), 0o600), os.WriteFile(other, []byte("other"), 0o600)))
	peer.Run(t, "cryptsetup", append([]string{"luksAddKey", "-q", "--key-file", old, image, other}, quick...)...)
	peer.Run(t, "cryptsetup", "config", "--key-slot", "1", "--priority", "prefer", image)
	encrypted, err := os.ReadFile(image)
	peer.Must(t, err)
	h := open(t, encrypted)
	for _, word := range []string{passphrase, "other"} {
		key, err := h.Unlock(bytes.NewReader(encrypted), []byte(word))
		peer.Must(t, err)
		d, err := NewReader(bytes.NewReader(encrypted), h.Mapping(key))
		peer.Must(t, err)
		got := make([]byte, len(plain))
		if _, err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("with %q: other bytes, %v", word, err)
		}
	}
	// The first header lost, the second is taken.
	clear(encrypted[:4096])
	if second := open(t, encrypted); second.UUID != h.UUID {
		t.Errorf("by the second header it is %s", second.UUID)
	}
	encrypted[16384+5000]++
	if _, err := Open(bytes.NewReader(encrypted), int64(len(encrypted))); !errors.Is(err, ErrCorrupt) {
		t.Errorf("with both damaged: %v", err)
	}
}

// edit changes the JSON of both headers and corrects their checksums.
func edit(p []byte, replace ...string) []byte {
	p = bytes.Clone(p)
	for _, at := range []int{0, 16384} {
		h := p[at : at+16384]
		text, _, _ := bytes.Cut(h[binarySize:], []byte{0})
		changed := strings.NewReplacer(replace...).Replace(string(text))
		clear(h[binarySize:])
		copy(h[binarySize:], changed)
		seal2(h)
	}
	return p
}

func seal2(h []byte) {
	clear(h[448:512])
	sum := sha256.Sum256(h)
	copy(h[448:], sum[:])
}

func TestWhatIsRefused(t *testing.T) {
	_, second := encrypt(t, with()...)
	_, memory := encrypt(t, "--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "32768")
	_, first := encrypt(t, with("luks1")...)
	old := func(at int, value uint32) []byte {
		p := bytes.Clone(first)
		binary.BigEndian.PutUint32(p[at:], value)
		return p
	}
	for _, c := range []struct {
		want  string
		image []byte
	}{
		{"more than 33554432", edit(second, `"iterations":1000`, `"iterations":99999999`)},
		{"more than herdbook grants", edit(memory, `"memory":32768`, `"memory":4194304`)},
		{"more than herdbook grants", edit(memory, `"time":4`, `"time":9223372036854775807`)},
		{"more than herdbook grants", edit(memory, `"cpus":`, `"cpus":1234`)},
		{"knows nothing", edit(second, "aes-xts-plain64", "serpent-xts-plain64")},
		{"does not know", edit(second, `"hash":"sha256"`, `"hash":"whirlpool"`)},
		{"does not know", edit(second, `"kdf":{"type":"pbkdf2"`, `"kdf":{"type":"scrypt"`)},
		{"stripes", edit(second, `"stripes":4000`, `"stripes":400000000`)},
		{"volume key of 1000000 bytes", edit(second, `"key_size":64`, `"key_size":1000000`)},
		{"sectors of 1000", edit(second, `"sector_size":512`, `"sector_size":1000`)},
		{"integrity", edit(second, `"sector_size":512`, `"sector_size":512,"integrity":{"type":"hmac(sha256)"}`)},
		{"reencrypt", edit(second, `"config":{`, `"config":{"requirements":{"mandatory":["online-reencrypt-v2"]},`)},
		{"bytes of data", edit(second, `"size":"dynamic"`, `"size":"999999999999"`)},
		{"exactly one", edit(second, `"type":"crypt"`, `"type":"linear"`)},
		{"negative", edit(second, `"iv_tweak":"0"`, `"iv_tweak":"-1"`)},
		{"JSON", edit(second, `{`, ``)},
		{"corrupt: version 7", old(4, 0xbabe0007)},
		{"more than 33554432", old(208+4, 0xffffffff)},
		{"stripes", old(208+44, 0xffffffff)},
		{"stripes", old(208+40, 0xffffffff)},
		{"volume key", old(108, 0xffffffff)},
		{"bytes of data", old(104, 0xffffffff)},
		{"neither on nor off", old(208+48, 7)},
	} {
		r := bytes.NewReader(c.image)
		h, err := Open(r, int64(len(c.image)))
		if err == nil {
			_, err = h.Unlock(r, []byte(passphrase))
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q: %v", c.want, err)
		}
	}
	for _, p := range [][]byte{nil, make([]byte, 100), make([]byte, 1<<20)} {
		if _, err := Open(bytes.NewReader(p), int64(len(p))); !errors.Is(err, ErrNotLUKS) {
			t.Errorf("%d zeros: %v", len(p), err)
		}
	}
	if _, err := Open(bytes.NewReader(second[:100000]), 100000); !errors.Is(err, ErrCorrupt) {
		t.Errorf("cut short: %v", err)
	}
}

// text2 is the JSON of a header as cryptsetup writes it.
const text2 = `{"keyslots":{"0":{"type":"luks2","key_size":64,"af":{"type":"luks1","stripes":4000,"hash":"sha256"},
"area":{"type":"raw","offset":"32768","size":"258048","encryption":"aes-xts-plain64","key_size":64},
"kdf":{"type":"pbkdf2","hash":"sha256","iterations":1000,"salt":"pbG8N005yLrSwA5MhITPxrmp7JRdrzWKlurxpZzNSLM="}}},"tokens":{},
"segments":{"0":{"type":"crypt","offset":"16777216","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":4096}},
"digests":{"0":{"type":"pbkdf2","keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":1000,"salt":"OnoGTI00RxQHock1ZVsfYO/OgGdcsgAPqDo6dGp8q4Q=",
"digest":"RTuP/zuYtkeKTSL/nCIHQxTarmK9BWqo9hbiEvaI0XI="}},"config":{"json_size":"12288","keyslots_size":"16744448"}}`

func FuzzOpen(f *testing.F) {
	be := binary.BigEndian
	second, first := make([]byte, 512), make([]byte, headerSize1)
	copy(second, magic+"\x00\x02")
	be.PutUint64(second[8:], minHeader2)
	copy(second[72:], "sha256")
	copy(first, magic+"\x00\x01")
	for at, text := range map[int]string{8: "aes", 40: "xts-plain64", 72: "sha256", 168: "0f8fad5b-d9cb-469f-a165-70867728950e"} {
		copy(first[at:], text)
	}
	for at, number := range map[int]uint32{104: 4096, 108: 64, 164: 1000, 208: 0x00AC71F3, 212: 1000, 248: 8, 252: 4000} {
		be.PutUint32(first[at:], number)
	}
	for slot := 1; slot < 8; slot++ {
		be.PutUint32(first[208+48*slot:], 0x0000DEAD)
	}
	f.Add(second, []byte(text2))
	f.Add(first, []byte{})
	open := func(head, text []byte) (io.ReaderAt, *Header, error) {
		image := make([]byte, 64<<10)
		copy(image, head[:min(len(head), binarySize)])
		copy(image[binarySize:], text[:min(len(text), minHeader2-binarySize)])
		if image[7] == 2 {
			seal2(image[:minHeader2])
		}
		h, err := Open(bytes.NewReader(image), 1<<30)
		return bytes.NewReader(image), h, err
	}
	for _, seed := range [][2][]byte{{second, []byte(text2)}, {first, nil}} {
		if _, h, err := open(seed[0], seed[1]); err != nil || len(h.slots) != 1 {
			f.Fatalf("the seed is none: %v", err)
		}
	}
	f.Fuzz(func(t *testing.T, head, text []byte) {
		r, h, err := open(head, text)
		if err != nil {
			return
		}
		for i := range h.slots {
			k := &h.slots[i]
			k.kdf.time, k.kdf.memory, k.stripes = min(k.kdf.time, 2), min(k.kdf.memory, 64), min(k.stripes, 16)
		}
		h.digest.kdf.time = 1
		_, _ = h.Unlock(r, []byte("x"))
	})
}
