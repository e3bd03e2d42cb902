package btrfs

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"

	"golang.org/x/crypto/blake2b"
)

// checksum sums up a block of metadata. What it returns is the start of the 32
// bytes that are kept for it.
type checksum func(p []byte) []byte

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksumOf(kind uint16) (checksum, error) {
	switch kind {
	case 0:
		return func(p []byte) []byte { return binary.LittleEndian.AppendUint32(nil, crc32.Checksum(p, castagnoli)) }, nil
	case 1:
		return func(p []byte) []byte { return binary.LittleEndian.AppendUint64(nil, xxhash64(p)) }, nil
	case 2:
		return func(p []byte) []byte { sum := sha256.Sum256(p); return sum[:] }, nil
	case 3:
		return func(p []byte) []byte { sum := blake2b.Sum256(p); return sum[:] }, nil
	}
	return nil, fmt.Errorf("this reader does not know its checksums, of type %d", kind)
}

// nameHash is the raw CRC-32C by which names are filed: without inversions, from ~1.
func nameHash(name string) uint64 {
	return uint64(^crc32.Update(1, castagnoli, []byte(name)))
}

// The primes of xxHash.
const (
	prime1 = 11400714785074694791
	prime2 = 14029467366897019727
	prime3 = 1609587929392839161
	prime4 = 9650029242287828579
	prime5 = 2870177450012600261
)

func xxround(acc, lane uint64) uint64 {
	return bits.RotateLeft64(acc+lane*prime2, 31) * prime1
}

// xxhash64 is XXH64 with the seed 0.
func xxhash64(p []byte) uint64 {
	le := binary.LittleEndian
	sum, length := uint64(prime5), uint64(len(p))
	if len(p) >= 32 {
		first := uint64(prime1)
		lanes := [4]uint64{first + prime2, prime2, 0, -first}
		for ; len(p) >= 32; p = p[32:] {
			for i := range lanes {
				lanes[i] = xxround(lanes[i], le.Uint64(p[8*i:]))
			}
		}
		sum = 0
		for i, by := range []int{1, 7, 12, 18} {
			sum += bits.RotateLeft64(lanes[i], by)
		}
		for _, lane := range lanes {
			sum = (sum^xxround(0, lane))*prime1 + prime4
		}
	}
	sum += length
	for ; len(p) >= 8; p = p[8:] {
		sum = bits.RotateLeft64(sum^xxround(0, le.Uint64(p)), 27)*prime1 + prime4
	}
	if len(p) >= 4 {
		sum = bits.RotateLeft64(sum^uint64(le.Uint32(p))*prime1, 23)*prime2 + prime3
		p = p[4:]
	}
	for _, c := range p {
		sum = bits.RotateLeft64(sum^uint64(c)*prime5, 11) * prime1
	}
	sum = (sum ^ sum>>33) * prime2
	sum = (sum ^ sum>>29) * prime3
	return sum ^ sum>>32
}
