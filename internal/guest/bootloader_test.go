package guest

import (
	"testing"

	"herdbook/internal/op"
)

func TestBootloaderInstallsGRUBForBIOSAndUEFI(t *testing.T) {
	g := newGuest(t)
	g.Device = "/dev/vda"
	g.commands(t, "grub", &op.Bootloader{})
}

func TestBootloaderNamesWhatFailed(t *testing.T) {
	g := newGuest(t, node{path: "/etc/default/grub.d/50-herdbook.cfg", content: grubDefaults})
	g.Runner = &recorder{failing: "update-grub", fail: 2}
	g.refuse(t, &op.Bootloader{}, "install the boot loader: update-grub ended with status 2")
}
