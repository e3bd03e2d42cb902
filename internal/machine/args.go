package machine

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
)

// Args is the command line of a machine. QMP, the agent's port and the console
// are the inherited descriptors 3, 4 and 5.
func Args(s Spec) []string {
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-name", "herdbook,process=herdbook-vm",
		"-msg", "timestamp=on",
		"-machine", "q35,usb=off,smbus=off,vmport=off,hpet=off,graphics=off",
	}
	args = append(args, accelerator(s.Accelerator)...)
	args = append(args,
		"-m", strconv.Itoa(s.Memory)+"M",
		"-smp", strconv.Itoa(s.CPUs),
		"-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control",
		"-chardev", "socket,id=console,fd=5", "-serial", "chardev:console",
		"-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0",
	)
	if s.Port != "" {
		args = append(args,
			"-chardev", "socket,id=agent,fd=4",
			"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name="+s.Port)
	}
	if s.Kernel != "" {
		args = append(args, "-kernel", s.Kernel, "-initrd", s.Initrd, "-append", s.CommandLine)
	} else if s.Firmware == UEFI {
		args = append(args, firmware("code", s.FirmwareCode, true)...)
		args = append(args, firmware("vars", s.FirmwareVars, false)...)
		args = append(args, "-machine", "pflash0=code,pflash1=vars")
	}
	for i, d := range s.Disks {
		args = append(args, diskArgs(i, d, s.Kernel == "" && i == 0)...)
	}
	if s.Network {
		args = append(args, "-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile=")
	} else {
		args = append(args, "-nic", "none")
	}
	return args
}

func accelerator(a Accelerator) []string {
	if a == KVM {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", "max"}
}

// diskArgs makes the nodes of a disk, with every format told. Its flushes are
// not waited for: a layer is synced once, when it is finished, and a machine
// that dies leaves a disk that is thrown away.
func diskArgs(i int, d Disk, boot bool) []string {
	name := "disk" + strconv.Itoa(i)
	cache := map[string]any{"direct": false, "no-flush": true}
	file := map[string]any{
		"driver": "file", "node-name": name + "-file", "filename": absolute(d.Path),
		"discard": "unmap", "cache": cache, "read-only": d.ReadOnly,
	}
	node := map[string]any{
		"driver": d.Format, "node-name": name, "file": name + "-file",
		"discard": "unmap", "detect-zeroes": "unmap", "cache": cache, "read-only": d.ReadOnly,
	}
	if d.ReadOnly {
		delete(node, "detect-zeroes")
	}
	device := map[string]any{"driver": "virtio-blk-pci", "id": "dev" + strconv.Itoa(i), "drive": name, "serial": d.Serial}
	if boot {
		device["bootindex"] = 0
	}
	return []string{"-blockdev", text(file), "-blockdev", text(node), "-device", text(device)}
}

func firmware(name, path string, readOnly bool) []string {
	return []string{"-blockdev", text(map[string]any{
		"driver": "raw", "node-name": name, "read-only": readOnly,
		"file": map[string]any{"driver": "file", "filename": absolute(path), "read-only": readOnly},
	})}
}

// text writes JSON, in which no character of a path has a meaning for QEMU.
func text(v map[string]any) string {
	p, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode a map of strings: %v", err))
	}
	return string(p)
}

// absolute keeps a path from looking like a protocol ("nbd:x").
func absolute(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return "./" + path
}
