package bootstrap

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"herdbook/internal/disk"
)

const (
	mib     = 1 << 20
	espSize = 64 * mib
	minSize = 1024 * mib
)

// Partition types, from the UEFI specification, GRUB's manual and the
// Discoverable Partitions Specification.
const (
	typeBIOSBoot = "21686148-6449-6E6F-744E-656564454649"
	typeESP      = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	typeRoot     = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709" // Linux root, x86-64
)

// partitions is the layout of a bootstrapped disk: GRUB's core for BIOS, the
// EFI system partition, and the root, which is last so that it can grow.
type partitions struct {
	diskID          string
	bios, esp, root disk.Partition
	rootID          string // UUID of the file system
	espID           uint32 // volume serial number
}

func layout(s Spec) (partitions, error) {
	if s.Size < minSize || s.Size%mib != 0 {
		return partitions{}, fmt.Errorf("bootstrap: a disk of %d bytes: want whole MiB, and at least 1 GiB", s.Size)
	}
	p := partitions{
		diskID: identifier(s.Seed, "disk"),
		bios:   disk.Partition{Number: 1, Start: mib, Size: mib, Type: typeBIOSBoot, ID: identifier(s.Seed, "bios"), Name: "bios"},
		esp:    disk.Partition{Number: 2, Start: 2 * mib, Size: espSize, Type: typeESP, ID: identifier(s.Seed, "esp"), Name: "esp"},
		root:   disk.Partition{Number: 3, Start: 2*mib + espSize, Type: typeRoot, ID: identifier(s.Seed, "root"), Name: "root"},
		rootID: identifier(s.Seed, "root file system"),
	}
	p.root.Size = s.Size - p.root.Start - mib // the last MiB holds the backup table
	sum := sha256.Sum256([]byte(s.Seed + "\x00esp file system"))
	p.espID = binary.BigEndian.Uint32(sum[:])
	return p, nil
}

// write makes a sparse raw disk with the partition table and an empty ESP.
func (p partitions) write(path string, size int64) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("create disk: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("create disk of %d bytes: %w", size, err)
	}
	if err := disk.WriteGPT(f, size, p.diskID, []disk.Partition{p.bios, p.esp, p.root}); err != nil {
		return err
	}
	esp := &section{f, p.esp.Start}
	return disk.FormatFAT32(esp, p.esp.Size, "ESP", p.espID)
}

// section writes at an offset of a file.
type section struct {
	f     *os.File
	start int64
}

func (s *section) WriteAt(p []byte, off int64) (int, error) { return s.f.WriteAt(p, s.start+off) }

// writeConfiguration puts the files into scratch that a fresh tree lacks.
func writeConfiguration(p partitions, scratch string) error {
	files := map[string]string{
		"fstab": fmt.Sprintf("UUID=%s / ext4 errors=remount-ro 0 1\nUUID=%04X-%04X /boot/efi vfat umask=0077 0 2\n",
			p.rootID, p.espID>>16, p.espID&0xffff),
		"hosts":    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
		"hostname": "localhost\n",
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(scratch, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("write the guest's %s: %w", name, err)
		}
	}
	return nil
}

// identifier derives a UUID (version 8: of our own making, RFC 9562) from a seed.
func identifier(seed, what string) string {
	b := sha256.Sum256([]byte(seed + "\x00" + what))
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
