package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrRefused is wrapped by the errors of Prove and Import that say that an image
// is of a kind that is not taken in: it names other files, is encrypted, or its
// format cannot be proved.
var ErrRefused = errors.New("disk image is refused")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// The least and the largest disk that is imported, in bytes.
const (
	MinImport = 1 << 20
	MaxImport = 64 << 40
)

// importable is every format that Prove can return.
var importable = []Format{Raw, QCOW2, VMDK, VHDX, VDI}

// Prove finds out, without QEMU, what format an untrusted image of size bytes
// has, and that it is whole in itself: it names no other file, and its disk has
// a size that Import takes. If told is empty the format is what the header
// proves; a raw disk, which has none, must begin with a partition table, a boot
// sector or a file system. If told is a format the image must have its magic; a
// raw one may begin with anything but the magic of something else. Nothing that
// the image says is taken for a size before it is bounded.
func Prove(r io.ReaderAt, size int64, told Format) (Format, error) {
	if !known(told) {
		return "", fmt.Errorf("format %q is none that herdbook imports: raw, qcow2, vmdk, vhdx, vdi", told)
	}
	head := make([]byte, min(size, SniffSize))
	if err := readFull(r, head, 0); err != nil {
		return "", fmt.Errorf("read the beginning of the disk image: %w", err)
	}
	format := told
	what, _ := Sniff(head)
	switch {
	case told == "" && size >= trailer && isVHD(r, size):
		return "", refuse("it looks like a VHD; convert it with qemu-img convert -f vpc -O qcow2")
	case told == "" && what == "":
		return "", refuse("nothing proves what format it has: if it is a raw disk, say that its format is raw")
	case told == "" && !known(Format(what)):
		return "", refuse("it looks like %s; herdbook imports raw, qcow2, vmdk, vhdx and vdi%s", what, orRaw(head))
	case told == "":
		format = Format(what)
	case told == Raw && foreignAt(head) != "":
		return "", refuse("it looks like %s, not like a raw disk", foreignAt(head))
	case told != Raw && what != string(told):
		return "", refuse("it is no %s image%s", told, butLooks(what))
	}
	virtual, err := virtualSize(r, size, format)
	switch {
	case err != nil:
		return "", fmt.Errorf("as %s: %w", format, err)
	case format == Raw && told == "" && size%sector != 0:
		return "", refuse("it looks like a raw disk, but its %d bytes are no whole number of sectors: is it cut short? If not, say that its format is raw", size)
	case virtual < MinImport || virtual > MaxImport:
		return "", refuse("as %s: its disk has %d bytes; at least 1 MiB and at most 64 TiB are imported", format, uint64(virtual))
	}
	return format, nil
}

func known(f Format) bool {
	for _, other := range importable {
		if f == other {
			return true
		}
	}
	return f == ""
}

// orRaw ends a message for what may be a raw disk nonetheless.
func orRaw(head []byte) string {
	if foreignAt(head) != "" {
		return ""
	}
	return ` (if it is a raw disk in spite of that, say that its format is raw)`
}

func butLooks(what string) string {
	if what == "" {
		return ", nor anything else that is known"
	}
	return "; it looks like " + what
}

// virtualSize reads the header of a format that the magic has proved, refuses
// what names other files, and returns the size of the disk.
func virtualSize(r io.ReaderAt, size int64, format Format) (int64, error) {
	switch format {
	case QCOW2:
		return foreignQCOW2(r, size)
	case VMDK:
		h, err := foreignVMDK(r, size)
		return h.size, err
	case VHDX:
		h, err := foreignVHDX(r)
		return h.size, err
	case VDI:
		h, err := foreignVDI(r)
		return h.size, err
	default:
		return size, nil
	}
}

// foreignQCOW2 checks what QEMU's docs/interop/qcow2.txt says of the header.
// The tables behind it are left to qemu-img, which takes what lies behind the end
// of the file for zeros: so much must be there that the first table is.
func foreignQCOW2(r io.ReaderAt, fileSize int64) (int64, error) {
	h := make([]byte, 104)
	if err := readFull(r, h[:72], 0); err != nil {
		return 0, corrupt("it is too short for a header")
	}
	be := binary.BigEndian
	version, clusterBits, size := be.Uint32(h[4:]), be.Uint32(h[20:]), int64(be.Uint64(h[24:]))
	if version == 3 {
		if err := readFull(r, h, 0); err != nil {
			return 0, corrupt("it is too short for a header")
		}
		const read = incompatDirty | incompatCorrupt | incompatExternal | incompatCompression | incompatExtendedL2
		switch features := be.Uint64(h[72:]); {
		case features&incompatExternal != 0:
			return 0, refuse("it keeps its data in another file; qemu-img convert makes one file of the two")
		case features&incompatCorrupt != 0:
			return 0, corrupt("QEMU has marked it so; see qemu-img check")
		case features&^read != 0:
			return 0, refuse("it has features 0x%x that herdbook does not know", features)
		}
	}
	switch {
	case version != 2 && version != 3:
		return 0, refuse("version %d is none that herdbook reads: 2, 3", version)
	case be.Uint64(h[8:]) != 0:
		return 0, refuse("it stands on another file%s; qemu-img convert makes one file of the two", backingName(r, int64(be.Uint64(h[8:])), be.Uint32(h[16:])))
	case be.Uint32(h[32:]) != 0:
		return 0, refuse("it is encrypted; decrypt it with qemu-img convert")
	case clusterBits < 9 || clusterBits > 21:
		return 0, corrupt("clusters of 2^%d bytes", clusterBits)
	}
	entries, table := int64(be.Uint32(h[36:])), int64(be.Uint64(h[40:]))
	if table < 0 || table > fileSize-8*entries {
		return 0, corrupt("its first-level table ends at %d of %d bytes: is it cut short?", uint64(table+8*entries), fileSize)
	}
	return size, nil
}

// backingName reads the name of a backing file for a message, if it can.
func backingName(r io.ReaderAt, at int64, length uint32) string {
	name := make([]byte, min(length, 1023))
	if at < 0 || at > 1<<21 || len(name) == 0 || readFull(r, name, at) != nil {
		return ""
	}
	return fmt.Sprintf(", %q", name)
}
