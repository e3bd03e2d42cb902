package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrNoUEFI says that there is no UEFI firmware for machines.
var ErrNoUEFI = errors.New("no UEFI firmware for machines is installed: apt-get install ovmf")

// uefiFiles are where Debian and Ubuntu keep it: code, and a template of variables.
var uefiFiles = [][2]string{
	{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
	{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
}

// FindUEFI finds the firmware and makes a fresh copy of its variables in scratch.
func FindUEFI(scratch string) (code, vars string, err error) {
	for _, f := range uefiFiles {
		if _, err := os.Stat(f[0]); err != nil {
			continue
		}
		template, err := os.ReadFile(f[1])
		if err != nil {
			return "", "", fmt.Errorf("copy UEFI variables: %w", err)
		}
		vars = filepath.Join(scratch, "vars.fd")
		if err := os.WriteFile(vars, template, 0o600); err != nil {
			return "", "", fmt.Errorf("copy UEFI variables: %w", err)
		}
		return f[0], vars, nil
	}
	return "", "", ErrNoUEFI
}
