package machine

import (
	"cmp"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The descriptors that QEMU inherits. Sockets and variables handed over open
// leave nothing on a disk and know no bound of 108 bytes for a path.
const (
	qmpFD = iota + 3
	portFD
	consoleFD
	memoryFD
	networkFD
	terminalFD
	tunnelFD
)

// portID is QEMU's name for the agent's port.
const portID = "port0"

// memoryPath is where QEMU finds the file in memory.
var memoryPath = "/proc/self/fd/" + strconv.Itoa(memoryFD)

// sandbox keeps a QEMU that a guest has taken over from starting programs or
// gaining rights.
const sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

// Args is the command line of a machine, without the program's name. It is a
// pure function. The descriptors 3, 4 and 5 are the sockets of QMP, of the
// agent's port and of the console; 6 is a file in memory: the initrd with its
// overlay, or the firmware's variables where s.FirmwareVars is empty; 7, 8 and 9
// are the sockets of the network, of the terminal and of the tunnel.
//
// QEMU's key=value form is used throughout, not JSON: JSON cannot carry a file
// name that is not UTF-8.
func Args(s Spec) []string {
	args := []string{
		"-nodefaults", "-no-user-config",
		"-sandbox", sandbox,
		"-name", "herdbook,process=herdbook-vm",
		"-msg", "timestamp=on",
		"-display", "none",
		"-no-reboot",
		"-machine", machineType(s),
	}
	args = append(args, accelerator(s.Accelerator)...)
	args = append(args,
		"-m", strconv.Itoa(cmp.Or(s.Memory, defaultMemory))+"M",
		"-smp", strconv.Itoa(cmp.Or(s.CPUs, 1)),
		"-chardev", socket("qmp", qmpFD), "-mon", "chardev=qmp,mode=control",
		"-chardev", socket("console", consoleFD), "-serial", "chardev:console",
		// A guest without randomness waits for it at its first key.
		"-object", "rng-builtin,id=rng0", "-device", "virtio-rng-pci,rng=rng0",
	)
	args = append(args, port(s)...)
	args = append(args, screen(s)...)
	if slices.ContainsFunc(s.Disks, func(d Disk) bool { return d.CDROM }) {
		args = append(args, "-device", "virtio-scsi-pci,id=scsi0")
	}
	args = append(args, start(s)...)
	for i, d := range s.Disks {
		args = append(args, diskArgs(i, d, s)...)
	}
	if s.UUID != "" {
		args = append(args, "-uuid", s.UUID)
	}
	if s.incoming {
		args = append(args, "-incoming", "defer")
	}
	return append(args, network(s)...)
}

// screen is a graphics card. Firmware and what it starts show something by the card's ROM
// only; a kernel that is started outright has a driver.
func screen(s Spec) []string {
	switch {
	case !s.Screen:
		return nil
	case s.Kernel == "":
		return []string{"-device", "VGA"}
	}
	return []string{"-device", "VGA,romfile="}
}

func network(s Spec) []string {
	args := []string{"-nic", "none"}
	if s.Network == nil {
		return args
	}
	// Without its ROM the firmware does not try to boot from the network.
	device := "virtio-net-pci,netdev=net0,romfile="
	if s.MAC != "" {
		device += ",mac=" + s.MAC
	}
	return append(args, "-netdev", socket("net0", networkFD), "-device", device)
}

// port is the machine's second line to the outside: the agent's port, or a log's.
func port(s Spec) []string {
	name := cmp.Or(s.Port, s.Log)
	switch name {
	case "":
		return nil
	case SerialLog:
		return []string{"-chardev", socket("port", portFD), "-serial", "chardev:port"}
	}
	args := []string{
		"-chardev", socket("port", portFD),
		"-device", "virtio-serial-pci",
		"-device", options("virtserialport", "chardev", "port", "name", name, "id", portID),
	}
	if s.Terminal != "" {
		args = append(args, "-chardev", socket("terminal", terminalFD), "-device", options("virtserialport", "chardev", "terminal", "name", s.Terminal))
	}
	if s.Tunnel != "" {
		args = append(args, "-chardev", socket("tunnel", tunnelFD), "-device", options("virtserialport", "chardev", "tunnel", "name", s.Tunnel))
	}
	return args
}

// machineType is the PC of 2009, for every boot the same, without the devices
// that nobody here looks at.
func machineType(s Spec) string {
	kind := "q35,usb=off,smbus=off,sata=off,vmport=off,hpet=off,graphics=off"
	if s.uefi() {
		kind += ",pflash0=code,pflash1=vars"
	}
	return kind
}

func (s Spec) uefi() bool { return s.Firmware == UEFI }

func accelerator(a Accelerator) []string {
	if a == KVM {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", "max"}
}

// start says where the first instruction comes from. A kernel that is given
// outright is started by the firmware, of whichever kind.
func start(s Spec) []string {
	var args []string
	if s.uefi() {
		vars := cmp.Or(s.FirmwareVars, memoryPath)
		args = append(flash("code", s.FirmwareCode, true), flash("vars", vars, false)...)
	}
	if s.Kernel == "" {
		return args
	}
	args = append(args, "-kernel", absolute(s.Kernel))
	switch {
	case s.Overlay != nil:
		args = append(args, "-initrd", memoryPath)
	case s.Initrd != "":
		args = append(args, "-initrd", absolute(s.Initrd))
	}
	return append(args, "-append", s.CommandLine)
}

func flash(name, path string, readOnly bool) []string {
	return []string{
		"-blockdev", options("file", "node-name", name+"-file", "filename", absolute(path), "read-only", onOff(readOnly)),
		"-blockdev", options("raw", "node-name", name, "file", name+"-file", "read-only", onOff(readOnly)),
	}
}

// diskArgs makes the nodes and the device of a disk, every format told. A read
// or write that fails on the host stops the machine: see qmp.
func diskArgs(i int, d Disk, s Spec) []string {
	name := "disk" + strconv.Itoa(i)
	file := []string{"node-name", name + "-file", "filename", absolute(d.Path), "read-only", onOff(d.ReadOnly)}
	node := []string{"node-name", name, "file", name + "-file", "read-only", onOff(d.ReadOnly)}
	if d.Discard {
		file = append(file, "discard", "unmap")
		node = append(node, "discard", "unmap")
		if !d.ReadOnly {
			node = append(node, "detect-zeroes", "unmap")
		}
	}
	if s.NoFlush && !d.ReadOnly {
		file = append(file, "cache.no-flush", "on")
		node = append(node, "cache.no-flush", "on")
	}
	driver := "virtio-blk-pci"
	device := []string{"drive", name, "id", "dev" + strconv.Itoa(i), "rerror", "stop"}
	if d.CDROM {
		driver = "scsi-cd"
		device = append(device, "bus", "scsi0.0")
	}
	if !d.ReadOnly {
		device = append(device, "werror", "stop")
	}
	if d.Serial != "" {
		device = append(device, "serial", d.Serial)
	}
	if i == 0 && s.Kernel == "" { // a kernel given outright has the index already
		device = append(device, "bootindex", "0")
	}
	return []string{
		"-blockdev", options("file", file...),
		"-blockdev", options(string(d.Format), node...),
		"-device", options(driver, device...),
	}
}

func socket(name string, fd int) string {
	return "socket,id=" + name + ",fd=" + strconv.Itoa(fd)
}

// options writes QEMU's "driver,key=value" form, in which a comma is doubled
// and no other byte has a meaning.
func options(driver string, pairs ...string) string {
	var b strings.Builder
	b.WriteString(driver)
	for i := 0; i+1 < len(pairs); i += 2 {
		b.WriteString("," + pairs[i] + "=" + strings.ReplaceAll(pairs[i+1], ",", ",,"))
	}
	return b.String()
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// absolute keeps a relative path from looking like a protocol ("nbd:x") or an
// option.
func absolute(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return "./" + path
}
