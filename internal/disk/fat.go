package disk

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// FormatFAT32 writes an empty FAT32 file system, as Microsoft's specification
// (fatgen103) has it, over size bytes of w: what an EFI system partition needs
// before a guest's own boot loader fills it. Clusters have one sector, so that
// 34 MiB are enough. The rest of w must read as zeros.
func FormatFAT32(w io.WriterAt, size int64, label string, id uint32) error {
	const reserved, fats = 32, 2
	sectors := size / sector
	if sectors < 66600 || sectors > 1<<22 {
		return fmt.Errorf("format FAT32: %d bytes: want 33 MiB to 2 GiB", size)
	}
	// Each FAT has four bytes a cluster, and two entries before the first.
	fatSectors := ((sectors-reserved+2)*4 + sector + 8 - 1) / (sector + 8)
	le := binary.LittleEndian
	boot := make([]byte, sector)
	copy(boot, "\xEB\x58\x90HERDBOOK")
	le.PutUint16(boot[11:], sector)
	boot[13] = 1 // sectors in a cluster
	le.PutUint16(boot[14:], reserved)
	boot[16] = fats
	boot[21] = 0xF8
	le.PutUint16(boot[24:], 63)
	le.PutUint16(boot[26:], 255)
	le.PutUint32(boot[32:], uint32(sectors))
	le.PutUint32(boot[36:], uint32(fatSectors))
	le.PutUint32(boot[44:], 2) // cluster of the root directory
	le.PutUint16(boot[48:], 1) // sector of FSInfo
	le.PutUint16(boot[50:], 6) // sector of the copy
	boot[64], boot[66] = 0x80, 0x29
	le.PutUint32(boot[67:], id)
	name := fmt.Sprintf("%-11.11s", strings.ToUpper(label))
	copy(boot[71:], name)
	copy(boot[82:], "FAT32   ")
	boot[510], boot[511] = 0x55, 0xAA

	clusters := sectors - reserved - fats*fatSectors
	info := make([]byte, sector)
	le.PutUint32(info, 0x41615252)
	le.PutUint32(info[484:], 0x61417272)
	le.PutUint32(info[488:], uint32(clusters-1)) // free
	le.PutUint32(info[492:], 3)                  // next free
	le.PutUint32(info[508:], 0xAA550000)

	fat := make([]byte, sector)
	le.PutUint32(fat, 0x0FFFFFF8)
	le.PutUint32(fat[4:], 0x0FFFFFFF)
	le.PutUint32(fat[8:], 0x0FFFFFFF) // the root directory ends here

	root := make([]byte, sector)
	copy(root, name)
	root[11] = 0x08 // a volume label

	for at, p := range map[int64][]byte{
		0: boot, 1: info, 6: boot, 7: info,
		reserved: fat, reserved + fatSectors: fat, reserved + fats*fatSectors: root,
	} {
		if _, err := w.WriteAt(p, at*sector); err != nil {
			return fmt.Errorf("format FAT32: %w", err)
		}
	}
	return nil
}
