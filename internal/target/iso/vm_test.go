package iso

import (
	"strings"
	"testing"

	"herdbook/internal/peer"
	"herdbook/internal/target"
	"herdbook/internal/target/ramdisk/ramdisktest"
)

// TestVMTargetISO boots the medium as a disc and as a disk, under BIOS, UEFI and Secure Boot.
// Nothing of one boot is there at the next.
func TestVMTargetISO(t *testing.T) {
	e := &Exporter{ISO: *target.NewISO()}
	e.Arguments = []string{"panic=1", "console=ttyS0"}
	_, path, err := export(t, newImage(t), e)
	peer.Must(t, err)
	disc := []string{"-drive", "if=none,id=d,media=cdrom,format=raw,readonly=on,file=" + path, "-device", "ide-cd,drive=d,bootindex=1"}
	stick := []string{"-drive", "if=none,id=d,format=raw,readonly=on,file=" + path, "-device", "qemu-xhci", "-device", "usb-storage,drive=d,bootindex=1"}
	for name, args := range map[string][]string{
		"BIOS disc":        disc,
		"BIOS stick":       stick,
		"UEFI disc":        append(ramdisktest.Firmware(t, false), disc...),
		"UEFI stick":       append(ramdisktest.Firmware(t, false), stick...),
		"Secure Boot disc": append(ramdisktest.Firmware(t, true), disc...),
	} {
		t.Run(name, func(t *testing.T) {
			out := ramdisktest.Boot(t, args...)
			ramdisktest.IsUp(t, out, "overlay / overlay rw")
			if secure := strings.Contains(out, "locked down from EFI Secure Boot"); secure != strings.HasPrefix(name, "Secure") {
				t.Errorf("Secure Boot: %v\n%s", secure, out)
			}
		})
	}
}
