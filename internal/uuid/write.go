package uuid

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"herdbook/internal/lvm"
)

// Volume is what an identifier is written to.
type Volume interface {
	io.ReaderAt
	io.WriterAt
}

// ErrNotHere says that the identifier's own program has to change it.
var ErrNotHere = errors.New("an identifier that only its own program can change")

// Write changes the identifier on a volume of size bytes: the serial number of a FAT, the
// UUID of swap, and those of a physical volume's metadata, for which all identities of the
// disk are needed. The rest is ErrNotHere.
func Write(v Volume, size int64, id Change, all []Change) error {
	switch id.Type {
	case FAT:
		return writeFAT(v, id)
	case Swap:
		return writeSwap(v, id)
	case PhysicalVolume:
		changes := map[string]string{}
		for _, other := range all {
			if other.Type.OfLVM() {
				changes[other.Old] = other.New
			}
		}
		return lvm.Rename(v, size, changes)
	}
	return ErrNotHere
}

// writeFAT writes the serial number into the boot sector and FAT32's copy of it: at byte
// 39, or 67 of FAT32 (fatgen103).
func writeFAT(v Volume, id Change) error {
	serial, err := hex.DecodeString(strings.ReplaceAll(id.New, "-", ""))
	if err != nil || len(serial) != 4 {
		return fmt.Errorf("%q is no serial number of a FAT", id.New)
	}
	boot := make([]byte, 512)
	if _, err := v.ReadAt(boot, 0); err != nil {
		return fmt.Errorf("read boot sector: %w", err)
	}
	le := binary.LittleEndian
	if boot[510] != 0x55 || boot[511] != 0xAA {
		return errors.New("there is no boot sector of a FAT")
	}
	places := []int64{39}
	if le.Uint16(boot[22:]) == 0 { // FAT32
		places[0] = 67
		backup, sector := int64(le.Uint16(boot[50:])), int64(le.Uint16(boot[11:]))
		if backup != 0 && backup != 0xFFFF && backup < int64(le.Uint16(boot[14:])) {
			places = append(places, backup*sector+67)
		}
	}
	var number [4]byte
	le.PutUint32(number[:], binary.BigEndian.Uint32(serial))
	for _, at := range places {
		if _, err := v.WriteAt(number[:], at); err != nil {
			return fmt.Errorf("write serial number: %w", err)
		}
	}
	return nil
}

// Places of a swap area, whose header has no checksum: union swap_header of linux/swap.h.
const (
	swapMagic = 4086
	swapUUID  = 1036
)

func writeSwap(v Volume, id Change) error {
	uuid, err := hex.DecodeString(strings.ReplaceAll(id.New, "-", ""))
	if err != nil || len(uuid) != 16 {
		return fmt.Errorf("%q is no UUID", id.New)
	}
	if ReadSwap(v) == "" {
		return errors.New("there is no swap area")
	}
	if _, err := v.WriteAt(uuid, swapUUID); err != nil {
		return fmt.Errorf("write UUID of swap: %w", err)
	}
	return nil
}

// ReadSwap returns the UUID of a swap area with pages of 4096 bytes; "" if it is none.
func ReadSwap(r io.ReaderAt) string {
	magic, uuid := make([]byte, 10), make([]byte, 16)
	if _, err := r.ReadAt(magic, swapMagic); err != nil || string(magic) != "SWAPSPACE2" {
		return ""
	}
	if _, err := r.ReadAt(uuid, swapUUID); err != nil {
		return ""
	}
	s := hex.EncodeToString(uuid)
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}
