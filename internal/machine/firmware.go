package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrNoFirmware says that the firmware for UEFI is not installed, and how to
// get it.
var ErrNoFirmware = errors.New("no UEFI firmware is installed: apt-get install ovmf")

// firmwarePair is a firmware and the variables that it starts with.
type firmwarePair struct{ code, vars string }

// firmwares is where distributions keep OVMF without secure boot, newest
// layout first.
func firmwares() []firmwarePair {
	return []firmwarePair{
		{"usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.fd"},
		{"usr/share/OVMF/OVMF_CODE.fd", "usr/share/OVMF/OVMF_VARS.fd"},
		{"usr/share/edk2/ovmf/OVMF_CODE.fd", "usr/share/edk2/ovmf/OVMF_VARS.fd"},
		{"usr/share/edk2/x64/OVMF_CODE.4m.fd", "usr/share/edk2/x64/OVMF_VARS.4m.fd"},
		{"usr/share/qemu/ovmf-x86_64-code.bin", "usr/share/qemu/ovmf-x86_64-vars.bin"},
	}
}

// findFirmware returns the paths of a firmware below root and of its first
// variables.
func findFirmware(root string) (firmwarePair, error) {
	for _, p := range firmwares() {
		p = firmwarePair{filepath.Join(root, p.code), filepath.Join(root, p.vars)}
		if readable(p.code) && readable(p.vars) {
			return p, nil
		}
	}
	return firmwarePair{}, ErrNoFirmware
}

// Firmwares returns the paths of the UEFI firmware that a machine would use and
// of the variables that it starts with, or ErrNoFirmware.
func Firmwares() (code, vars string, err error) {
	p, err := findFirmware("/")
	return p.code, p.vars, err
}

func readable(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	stat, err := f.Stat()
	return errors.Join(err, f.Close()) == nil && stat.Mode().IsRegular()
}

// prepareFirmware completes s for UEFI. The returned file, if any, holds a copy
// of the variables for this machine alone.
func prepareFirmware(s *Spec) (*os.File, error) {
	if !s.uefi() || (s.FirmwareCode != "" && s.FirmwareVars != "") {
		return nil, nil
	}
	found, err := findFirmware("/")
	if err != nil {
		return nil, err
	}
	if s.FirmwareCode == "" {
		s.FirmwareCode = found.code
	}
	if s.FirmwareVars != "" {
		return nil, nil
	}
	vars, err := os.ReadFile(found.vars)
	if err != nil {
		return nil, fmt.Errorf("read the UEFI firmware's variables: %w", err)
	}
	return newMemoryFile("firmware-variables", vars)
}
