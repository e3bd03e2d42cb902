package iso

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"herdbook/internal/filesystem"
	"herdbook/internal/program"
)

// Where Debian and Ubuntu have their boot loaders, and how much of one is read, in bytes.
const (
	isolinux  = "usr/lib/ISOLINUX/isolinux.bin"
	bootBlock = "usr/lib/ISOLINUX/isohdpfx.bin" // for disks
	ldlinux   = "usr/lib/syslinux/modules/bios/ldlinux.c32"
	shim      = "usr/lib/shim/shimx64.efi.signed"
	grub      = "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed" // the one that looks for /boot/grub on a disc
	maxLoader = 16 << 20
)

// packages are where they come from.
var packages = map[string]string{
	isolinux: "isolinux", bootBlock: "isolinux", ldlinux: "syslinux-common", shim: "shim-signed", grub: "grub-efi-amd64-signed",
}

// file is one on the medium, and where it lies on the host.
type file struct{ name, path string }

// bootFiles are all files of the medium.
func (m *medium) bootFiles(ctx context.Context) ([]file, error) {
	for name, as := range map[string]string{isolinux: "isolinux.bin", bootBlock: "isohdpfx.bin", ldlinux: "ldlinux.c32", shim: "bootx64.efi", grub: "grubx64.efi"} {
		if err := m.take(name, as); err != nil {
			return nil, err
		}
	}
	// GRUB finds the medium by a file that no other has.
	id := ".disk/id/" + m.image.Layer.Short()
	for name, text := range map[string]string{
		"info":         m.image.Name + "\n",
		"isolinux.cfg": fmt.Sprintf("DEFAULT %[1]s\nLABEL %[1]s\n\tKERNEL /live/vmlinuz\n\tINITRD /live/initrd\n\tAPPEND %[2]s\n", m.image.Name, m.arguments),
		"grub.cfg": fmt.Sprintf("search --set=root --file /%s\nset timeout=0\nmenuentry \"%s\" {\n\tlinux /live/vmlinuz %s\n\tinitrd /live/initrd\n}\n",
			id, m.image.Name, m.arguments),
	} {
		if err := os.WriteFile(m.path(name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	if err := m.writeESP(ctx); err != nil {
		return nil, fmt.Errorf("write the image for UEFI: %w", err)
	}
	return []file{
		{"isolinux/isolinux.bin", m.path("isolinux.bin")}, {"isolinux/ldlinux.c32", m.path("ldlinux.c32")}, {"isolinux/isolinux.cfg", m.path("isolinux.cfg")},
		{"boot/efi.img", m.path("efi.img")}, {"boot/grub/grub.cfg", m.path("grub.cfg")},
		{".disk/info", m.path("info")}, {id, m.path("info")},
		{"live/vmlinuz", m.path(m.image.Name + ".vmlinuz")}, {"live/initrd", m.path(m.image.Name + ".initrd")},
	}, nil
}

// take copies a boot loader out of the image.
func (m *medium) take(name, as string) error {
	content, err := filesystem.ReadFile(m.image.System.Tree(), name, maxLoader)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the image has no /%s: add %s to its packages", name, packages[name])
	}
	if err != nil {
		return err
	}
	return os.WriteFile(m.path(as), content, 0o644)
}

// writeESP writes a FAT file system with the programs that UEFI starts from a medium
// (UEFI 2.10, 3.5.1.1), the first of which starts the second.
func (m *medium) writeESP(ctx context.Context) error {
	const slack, unit = 128 << 10, 1 << 20
	size := int64(slack)
	for _, name := range []string{"bootx64.efi", "grubx64.efi"} {
		stat, err := os.Stat(m.path(name))
		if err != nil {
			return err
		}
		size += stat.Size()
	}
	size = (size + unit - 1) / unit * unit
	image := m.path("efi.img")
	serial := strconv.FormatUint(uint64(uint32(m.image.Created.Unix())), 16)
	for _, c := range []program.Command{
		{Name: "mformat", Args: []string{"-C", "-i", image, "-T", strconv.FormatInt(size/512, 10), "-h", "2", "-s", "32", "-N", serial, "-v", "EFI", "::"}},
		{Name: "mmd", Args: []string{"-i", image, "::/EFI", "::/EFI/BOOT"}},
		{Name: "mcopy", Args: []string{"-i", image, m.path("bootx64.efi"), "::/EFI/BOOT/BOOTX64.EFI"}},
		{Name: "mcopy", Args: []string{"-i", image, m.path("grubx64.efi"), "::/EFI/BOOT/grubx64.efi"}},
	} {
		c.Environment = m.clock()
		if err := c.Run(ctx); err != nil {
			return err
		}
	}
	return nil
}
