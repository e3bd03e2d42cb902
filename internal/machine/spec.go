package machine

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"herdbook/internal/disk"
	"herdbook/internal/gateway"
)

// Accelerator is how QEMU runs the guest's instructions.
type Accelerator string

// The accelerators.
const (
	KVM Accelerator = "kvm" // the processor itself
	TCG Accelerator = "tcg" // software emulation: works everywhere, several times slower
)

// Firmware is what a machine without a kernel of its own starts from.
type Firmware string

// The firmwares.
const (
	BIOS Firmware = "bios"
	UEFI Firmware = "uefi"
)

// Spec is a machine. The zero value of a field means that it has none of it,
// or what its comment says.
type Spec struct {
	Arch        string      // "x86_64", which is also the default: no other is built yet
	Accelerator Accelerator // default TCG
	Memory      int         // MiB, default 1024
	CPUs        int         // default 1

	// A kernel to start directly: a bzImage, or, much faster under TCG, the
	// ELF file that lies packed inside it (started through its PVH entry).
	// Without one the machine starts from its first disk by Firmware.
	Kernel, Initrd, CommandLine string
	// Laid behind the initrd, in memory only: a cpio archive (newc), which the
	// kernel unpacks over what the initrd holds.
	Overlay []byte

	Firmware     Firmware // default BIOS
	FirmwareCode string   // path, for UEFI; Start looks for Debian's if there is none
	FirmwareVars string   // path of the variables, written to; none: a copy in memory, gone with the machine

	Disks   []Disk
	NoFlush bool   // the guest's flushes are not passed to the host: for disks that the caller syncs, or throws away
	Port    string // name of the virtio-serial port that Machine.Port is the other end of
	Log     string // where a log of the guest arrives, each line an event: SerialLog, or a virtio-serial port's name; not with Port
	Screen  bool   // a graphics card, so that there is something to see for Screenshot

	Network *gateway.Rules // what it may reach over its network device (virtio); nil: it has none
	MAC     string         // of the network device; "": QEMU's, the same for all
	UUID    string         // of the machine, which firmware tells the guest; "": none

	Tunnel   string // name of another such port, of Machine.Tunnel; only with Port
	Terminal string // name of a second port, for a person's terminal, that Machine.Terminal is the other end of; only with Port

	incoming bool // it waits for the state of one that was saved
}

// SerialLog is the second serial line of a machine, in the guest /dev/ttyS1.
const SerialLog = "ttyS1"

// Disk is one virtio disk, or a disc in a drive.
type Disk struct {
	Path     string
	Format   disk.Format
	ReadOnly bool
	CDROM    bool   // a CD-ROM drive (/dev/sr0) with the image, raw and read-only, as its disc
	Serial   string // what the guest knows it by (/dev/disk/by-id/virtio-SERIAL); at most 20 characters
	Discard  bool   // what the guest trims, or overwrites with zeros, is freed in the image
}

// The bounds of a Spec. A virtio disk tells 20 bytes of its serial number.
const (
	defaultMemory = 1024
	maxSerial     = 20
	maxDisks      = 16
	maxCPUs       = 255

	maxCommandLine = 2047 // COMMAND_LINE_SIZE of x86, less its end
)

var (
	macAddress = regexp.MustCompile(`^[0-9a-f]{2}(:[0-9a-f]{2}){5}$`)
	uuid       = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
)

// check refuses what QEMU would misunderstand or refuse less plainly.
func (s Spec) check() error {
	switch {
	case s.Arch != "" && s.Arch != "x86_64":
		return fmt.Errorf("architecture %q cannot be started yet: only x86_64", s.Arch)
	case s.Accelerator != "" && s.Accelerator != KVM && s.Accelerator != TCG:
		return fmt.Errorf("accelerator %q is none of kvm, tcg", s.Accelerator)
	case s.Firmware != "" && s.Firmware != BIOS && s.Firmware != UEFI:
		return fmt.Errorf("firmware %q is none of bios, uefi", s.Firmware)
	case s.Memory < 0 || s.CPUs < 0 || s.CPUs > maxCPUs:
		return fmt.Errorf("%d MiB of memory and %d processors make no machine", s.Memory, s.CPUs)
	case s.Kernel == "" && (s.Initrd != "" || s.CommandLine != ""):
		return errors.New("an initrd or a kernel command line needs a kernel")
	case len(s.CommandLine) > maxCommandLine:
		return fmt.Errorf("the kernel's command line has %d bytes, of which Linux reads %d: give it fewer arguments", len(s.CommandLine), maxCommandLine)
	case s.Initrd == "" && s.Overlay != nil:
		return errors.New("an overlay needs an initrd")
	case s.Overlay != nil && s.Firmware == UEFI && s.FirmwareVars == "":
		return errors.New("an overlay leaves no room in memory for the firmware's variables: name a file for them")
	case s.Port != "" && s.Log != "":
		return errors.New("a machine has either a port or a log")
	case s.Tunnel != "" && (s.Port == "" || s.Tunnel == s.Port):
		return errors.New("a tunnel stands beside a port, under a name of its own")
	case s.Terminal != "" && s.Port == "":
		return errors.New("a machine has a terminal only beside a port")
	case s.MAC != "" && !macAddress.MatchString(s.MAC):
		return fmt.Errorf("%q is no MAC address such as 52:54:00:12:34:56", s.MAC)
	case s.UUID != "" && !uuid.MatchString(s.UUID):
		return fmt.Errorf("%q is no UUID", s.UUID)
	case len(s.Disks) > maxDisks:
		return fmt.Errorf("%d disks are more than %d", len(s.Disks), maxDisks)
	}
	for _, d := range s.Disks {
		if err := d.check(); err != nil {
			return fmt.Errorf("disk %q: %w", d.Path, err)
		}
	}
	return nil
}

func (d Disk) check() error {
	switch {
	case d.Path == "":
		return errors.New("it has no path")
	case d.Format != disk.Raw && d.Format != disk.QCOW2:
		return fmt.Errorf("format %q is none of raw, qcow2", d.Format)
	case d.CDROM && (!d.ReadOnly || d.Format != disk.Raw):
		return errors.New("a disc is raw and read-only")
	case len(d.Serial) > maxSerial:
		return fmt.Errorf("serial %q is longer than %d bytes", d.Serial, maxSerial)
	case strings.ContainsFunc(d.Serial, func(r rune) bool { return r <= ' ' || r == ',' || r == '/' || r > '~' }):
		return fmt.Errorf("serial %q has characters that a guest cannot name", d.Serial)
	}
	return nil
}
