package target

import (
	"herdbook/internal/op"
)

// ISO is a medium, disc or stick, that a machine is booted from into its memory.
type ISO struct {
	Compression string   `hcl:"compression,optional" json:"compression"` // of the root: zstd or xz
	MaxMemory   string   `hcl:"max_memory,optional" json:"max_memory"`   // of the machines that it is for
	Arguments   []string `hcl:"arguments,optional" json:"arguments"`     // of the kernel
}

// NewISO is one with its defaults, those of a ramdisk.
func NewISO() *ISO {
	r := NewRAMDisk()
	return &ISO{Compression: r.Compression, Arguments: r.Arguments}
}

// RAMDisk is what lies on the medium.
func (i *ISO) RAMDisk() *RAMDisk {
	r := NewRAMDisk()
	r.Compression, r.MaxMemory, r.Arguments = i.Compression, i.MaxMemory, i.Arguments
	return r
}

// Kind implements Target.
func (*ISO) Kind() string { return "iso" }

// Version implements Target.
func (*ISO) Version() int { return 2 }

// Variant implements Target.
func (*ISO) Variant() string { return "" }

// Check implements Target.
func (i *ISO) Check() []op.Problem { return i.RAMDisk().Check() }

// Adjustments implements Target: the boot loaders of a medium are those of the image's
// distribution, signed for Secure Boot where the firmware is UEFI.
func (*ISO) Adjustments() []Adjustment {
	return []Adjustment{
		{Name: "boot-loaders", Network: true, Operation: &op.Packages{
			Missing: true, Install: []string{"isolinux", "syslinux-common", "grub-efi-amd64-signed", "shim-signed"},
		}},
		{Name: "generalise", Operation: &op.Sysprep{Enable: []string{"apt-lists", "package-manager-cache", "logfiles"}}},
	}
}
