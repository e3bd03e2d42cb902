package luks

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"

	"golang.org/x/crypto/argon2"
)

// hashes are those that cryptsetup can be asked for and that are in use.
var hashes = map[string]func() hash.Hash{
	"sha1": sha1.New, "sha224": sha256.New224, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New,
}

// What a header may ask for. Cryptsetup measures a key slot to take two seconds,
// and takes up to 1 GiB for it; these are some ten times as much.
const (
	maxIterations = 1 << 25 // of PBKDF2
	maxMemory     = 2 << 20 // KiB of Argon2
	maxWork       = 1 << 25 // KiB of Argon2's memory times its passes
	maxLanes      = 64
	maxSalt       = 1024 // bytes
)

// kdf is a function that makes a key of a passphrase.
type kdf struct {
	kind   string // pbkdf2, argon2i or argon2id
	hash   string // of PBKDF2
	salt   []byte
	time   int64 // iterations, or passes of Argon2
	memory int64 // KiB
	lanes  int
}

func (k kdf) derive(secret []byte, length int) ([]byte, error) {
	if k.kind != "pbkdf2" && k.kind != "argon2i" && k.kind != "argon2id" {
		return nil, fmt.Errorf("its key is made by %q, which herdbook does not know", k.kind)
	}
	if len(k.salt) < 8 || len(k.salt) > maxSalt || k.time < 1 {
		return nil, corrupt("a key is made with %d bytes of salt in %d rounds", len(k.salt), k.time)
	}
	if k.kind == "pbkdf2" {
		h, ok := hashes[k.hash]
		if !ok {
			return nil, fmt.Errorf("its key is made with hash %q, which herdbook does not know", k.hash)
		}
		if k.time > maxIterations {
			return nil, fmt.Errorf("its key takes %d iterations, more than %d", k.time, maxIterations)
		}
		return pbkdf2.Key(h, string(secret), k.salt, int(k.time), length)
	}
	if k.memory < 8 || k.memory > maxMemory || k.lanes < 1 || k.lanes > maxLanes || k.time > maxWork || k.time*k.memory > maxWork {
		return nil, fmt.Errorf("its key takes %d passes over %d KiB in %d lanes, more than herdbook grants; make a lighter one with cryptsetup luksConvertKey",
			k.time, k.memory, k.lanes)
	}
	derive := argon2.IDKey
	if k.kind == "argon2i" {
		derive = argon2.Key
	}
	return derive(secret, k.salt, uint32(k.time), uint32(k.memory), uint8(k.lanes), uint32(length)), nil
}

// merge undoes the anti-forensic splitter: the key is what all stripes together
// say, so that a lost one of them destroys it.
func merge(material []byte, size, stripes int, name string) ([]byte, error) {
	h, ok := hashes[name]
	if !ok {
		return nil, fmt.Errorf("its key is spread with hash %q, which herdbook does not know", name)
	}
	key := make([]byte, size)
	for i := range stripes {
		for j, b := range material[i*size:][:size] {
			key[j] ^= b
		}
		if i < stripes-1 {
			diffuse(key, h())
		}
	}
	return key, nil
}

// diffuse hashes a key in pieces, each with its number.
func diffuse(key []byte, h hash.Hash) {
	for i := uint32(0); len(key) > 0; i++ {
		piece := key[:min(h.Size(), len(key))]
		h.Reset()
		h.Write(binary.BigEndian.AppendUint32(nil, i))
		h.Write(piece)
		copy(piece, h.Sum(nil))
		key = key[len(piece):]
	}
}
