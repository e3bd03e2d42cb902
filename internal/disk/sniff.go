package disk

import (
	"bytes"
	"io"
)

// SniffSize is how many bytes of a file Sniff has use for.
const SniffSize = 68 << 10

// trailer is the size of the last sector, in which a VHD has its header.
const trailer = 512

// magics are the beginnings that tell what a file is. What is a Format or words
// for a message; disk tells whether it is a disk's image at all.
var magics = []struct {
	at    int
	magic string
	what  string
	disk  bool
}{
	{0, "QFI\xfb\x00\x00\x00\x01", "a qcow image of version 1", true},
	{0, "QFI\xfb", string(QCOW2), true},
	{0, vmdkMagic, string(VMDK), true},
	{0, "COWD", "an extent of a vmdk image of ESX (COWD)", true},
	{0, "# Disk DescriptorFile", "the text descriptor of a vmdk image, whose data is in other files", true},
	{0, vhdxMagic, string(VHDX), true},
	{0x40, vdiMagic, string(VDI), true},
	{0, "conectix", "a VHD", true},
	{0, "QED\x00", "a QED image", true},
	{0, "WithoutFreeSpace", "an image of Parallels", true},
	{0, "WithouFreSpacExt", "an image of Parallels", true},
	{0, "Bochs Virtual HD Image", "an image of Bochs", true},
	{0, "LUKS\xba\xbe", "a volume encrypted with LUKS", true},
	{0, "\x1f\x8b\x08", "a gzip file", false},
	{0, "\xfd7zXZ\x00", "an xz file", false},
	{0, "\x28\xb5\x2f\xfd", "a zstd file", false},
	{0, "BZh", "a bzip2 file", false},
	{0, "PK\x03\x04", "a zip archive", false},
	{0, "7z\xbc\xaf\x27\x1c", "a 7z archive", false},
	{257, "ustar", "a tar archive", false},
	{0x8001, "CD001", "the image of a CD, an installer rather than a disk", false},
}

// fileSystems are the signatures of what a raw disk may hold without partitions.
var fileSystems = []struct {
	at    int
	magic string
}{
	{512, gptSignature}, {4096, gptSignature},
	{1080, "\x53\xef"}, // ext2, ext3, ext4
	{0, "XFSB"},
	{65536 + 64, "_BHRfS_M"}, // btrfs
	{24, "LVM2 001"}, {512 + 24, "LVM2 001"}, {1024 + 24, "LVM2 001"}, {1536 + 24, "LVM2 001"},
}

// Sniff tells what the first SniffSize bytes of a file look like: one of the
// formats, or in words something else, or nothing if they are not known. disk
// tells whether that is the image of a disk, be it one that cannot be imported.
// It proves nothing: that is for Prove.
func Sniff(head []byte) (what string, disk bool) {
	for _, m := range magics {
		if hasAt(head, m.at, m.magic) {
			return m.what, m.disk
		}
	}
	if hasAt(head, 510, "\x55\xaa") {
		return string(Raw), true
	}
	for _, m := range fileSystems {
		if hasAt(head, m.at, m.magic) {
			return string(Raw), true
		}
	}
	return "", false
}

// foreignAt returns what the magic at the very beginning belongs to, if any. A
// hybrid of a disk and something else, such as an installer, has it further on.
func foreignAt(head []byte) string {
	for _, m := range magics {
		if m.at <= 0x40 && hasAt(head, m.at, m.magic) {
			return m.what
		}
	}
	return ""
}

func hasAt(head []byte, at int, magic string) bool {
	return len(head) >= at+len(magic) && string(head[at:at+len(magic)]) == magic
}

// isVHD tells whether the last sector is the header of a VHD: one of a fixed size
// begins as a raw disk does.
func isVHD(r io.ReaderAt, size int64) bool {
	last := make([]byte, trailer)
	return readFull(r, last, size-trailer) == nil && bytes.HasPrefix(last, []byte("conectix"))
}
