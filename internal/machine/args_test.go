package machine

import (
	"strings"
	"testing"

	"herdbook/internal/disk"
	"herdbook/internal/gateway"
	"herdbook/internal/peer"
)

// specs are machines as herdbook makes them, and some that are hard to write.
func specs() map[string]Spec {
	return map[string]Spec{
		"workshop": {
			Memory: 1024, CPUs: 2, Kernel: "/scratch/vmlinuz", Initrd: "/scratch/initrd", CommandLine: "console=ttyS0 quiet",
			Disks: []Disk{
				{Path: "/store/disk.qcow2", Format: disk.QCOW2, Serial: "root", Discard: true},
				{Path: "/scratch/files.tar", Format: disk.Raw, Serial: "files", ReadOnly: true},
			},
			NoFlush: true, Port: "org.herdbook.0",
		},
		"installer": {
			Memory: 1024, CPUs: 2, Kernel: "/media/linux", Initrd: "/media/initrd.gz", Overlay: []byte("0707"), CommandLine: "console=ttyS0",
			Disks: []Disk{
				{Path: "/work/disk.qcow2", Format: disk.QCOW2, Discard: true},
				{Path: "/media/netinst.iso", Format: disk.Raw, ReadOnly: true, CDROM: true},
			},
			NoFlush: true, Log: SerialLog, Screen: true, Network: &gateway.Rules{},
		},
		"installer-uefi": {
			Kernel: "/media/linux", Initrd: "/media/initrd.gz", Overlay: []byte("0707"), Firmware: UEFI, FirmwareCode: "/CODE.fd", FirmwareVars: "/scratch/vars.fd",
			Log: "org.fedoraproject.anaconda.log.0",
		},
		"bios":    {Accelerator: KVM, Firmware: BIOS, Disks: []Disk{{Path: "/a.qcow2", Format: disk.QCOW2}}},
		"uefi":    {Firmware: UEFI, FirmwareCode: "/usr/share/OVMF/CODE.fd", Disks: []Disk{{Path: "/a.raw", Format: disk.Raw}}},
		"vars":    {Firmware: UEFI, FirmwareCode: "/CODE.fd", FirmwareVars: "/my vars.fd"},
		"network": {Network: &gateway.Rules{}},
		"clone":   {Network: &gateway.Rules{Alone: true}, MAC: "52:54:00:68:62:01", UUID: "68657264-626f-4f6b-8000-000000000001"},
		"booted":  {Port: "org.herdbook.0", Terminal: "org.herdbook.terminal", Screen: true, incoming: true},
		"nothing": {},
		"paths": {
			Kernel: "kernel,with=commas", CommandLine: `a="b c" d,e`, Disks: []Disk{
				{Path: "nbd:localhost:10809", Format: disk.Raw}, {Path: "/with,comma and space/\xff\xfe", Format: disk.QCOW2, ReadOnly: true, Discard: true},
			},
		},
	}
}

func TestArgs(t *testing.T) {
	for name, s := range specs() {
		peer.Golden(t, "args/"+name, []byte(strings.Join(Args(s), "\n")+"\n"))
	}
}

// What must never be missing, whatever the machine.
func TestArgsAlwaysHold(t *testing.T) {
	for name, s := range specs() {
		text := " " + strings.Join(Args(s), " ") + " "
		for _, want := range []string{" -nodefaults ", " -no-user-config ", " -sandbox on,", "spawn=deny", " -no-reboot ", " -display none ", " -nic none "} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q", name, want)
			}
		}
		if strings.Contains(text, "-netdev") != (s.Network != nil) {
			t.Errorf("%s: the network does not follow the spec", name)
		}
		if strings.Contains(text, "-drive") || strings.Contains(text, "-hda") {
			t.Errorf("%s: a disk whose format QEMU would guess", name)
		}
	}
}

func TestCheck(t *testing.T) {
	good := Disk{Path: "/d", Format: disk.QCOW2}
	for name, c := range map[string]struct {
		spec Spec
		want string // part of the error; "" for none
	}{
		"nothing":                {Spec{}, ""},
		"a serial of 20 bytes":   {Spec{Disks: []Disk{{Path: "/d", Format: disk.Raw, Serial: strings.Repeat("s", 20)}}}, ""},
		"MAC address":            {Spec{MAC: "52:54:00:68:62:01,id=x"}, "no MAC address"},
		"UUID":                   {Spec{UUID: "1"}, "no UUID"},
		"architecture":           {Spec{Arch: "vax"}, `"vax"`},
		"accelerator":            {Spec{Accelerator: "xen"}, `"xen"`},
		"firmware":               {Spec{Firmware: "coreboot"}, `"coreboot"`},
		"memory":                 {Spec{Memory: -1}, "-1 MiB"},
		"processors":             {Spec{CPUs: 256}, "256 processors"},
		"initrd alone":           {Spec{Initrd: "/i"}, "needs a kernel"},
		"overlay alone":          {Spec{Kernel: "/k", Overlay: []byte{}}, "needs an initrd"},
		"overlay and variables":  {Spec{Kernel: "/k", Initrd: "/i", Overlay: []byte{}, Firmware: UEFI}, "name a file for them"},
		"two ports":              {Spec{Port: "p", Log: SerialLog}, "either a port or a log"},
		"a disc to write on":     {Spec{Disks: []Disk{{Path: "/d", Format: disk.Raw, CDROM: true}}}, "read-only"},
		"too many disks":         {Spec{Disks: []Disk{good, good, good, good, good, good, good, good, good, good, good, good, good, good, good, good, good}}, "17 disks"},
		"a disk without a path":  {Spec{Disks: []Disk{{Format: disk.Raw}}}, "no path"},
		"a format to be guessed": {Spec{Disks: []Disk{{Path: "/d"}}}, `format ""`},
		"a long serial":          {Spec{Disks: []Disk{{Path: "/d", Format: disk.Raw, Serial: strings.Repeat("s", 21)}}}, "longer than 20"},
		"a serial with a comma":  {Spec{Disks: []Disk{{Path: "/d", Format: disk.Raw, Serial: "a,b"}}}, "cannot name"},
	} {
		err := c.spec.check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
