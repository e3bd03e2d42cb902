package guest

import (
	"context"
	"fmt"
)

// grubDefaults give the boot menu and the kernel a serial console beside the
// screen, so that a machine can be watched wherever it runs.
const grubDefaults = `# Written by herdbook.
GRUB_TIMEOUT=1
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200"
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
GRUB_DISABLE_OS_PROBER=true
`

// linkRoot names the root's device by its UUID, as udev would: update-grub writes the UUID
// on the kernel line only if it finds it so, and else a name such as /dev/vda3, which the
// root has on no other bus.
const linkRoot = `mkdir -p /dev/disk/by-uuid && ln -sf "$(grub-probe --target=device /)" "/dev/disk/by-uuid/$(grub-probe --target=fs_uuid /)"`

// bootloader installs GRUB for BIOS and for UEFI. The UEFI loader goes to the
// removable path, which every firmware tries, as a clone has an NVRAM of its own.
func (g *Guest) bootloader(ctx context.Context) error {
	if err := g.Root.MkdirAll("/etc/default/grub.d", 0o755); err != nil {
		return fmt.Errorf("configure GRUB: %w", err)
	}
	if err := g.Root.WriteFile("/etc/default/grub.d/50-herdbook.cfg", []byte(grubDefaults), owned(0o644), false); err != nil {
		return fmt.Errorf("configure GRUB: %w", err)
	}
	for _, args := range [][]string{
		{"grub-install", "--target=i386-pc", "--no-floppy", g.Device},
		{"grub-install", "--target=x86_64-efi", "--efi-directory=/boot/efi", "--removable", "--no-nvram", "--no-floppy"},
		{"/bin/sh", "-c", linkRoot},
		{"update-grub"},
	} {
		if err := g.must(ctx, args...); err != nil {
			return fmt.Errorf("install the boot loader: %w", err)
		}
	}
	return nil
}
