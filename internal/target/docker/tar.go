package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"herdbook/internal/archive"
	"herdbook/internal/filesystem"
)

// emptied are directories whose content is the host's or the moment's: they
// stay, empty.
var emptied = []string{"boot", "dev", "proc", "run", "sys", "tmp"}

// leftOut are files and trees that only a machine needs.
var leftOut = []string{
	"lost+found", "vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old",
	"lib/modules", "usr/lib/modules", "lib/firmware", "usr/lib/firmware",
	"usr/lib/grub", "etc/default/grub", "etc/default/grub.d", "etc/grub.d",
	"etc/fstab", "etc/machine-id", "var/lib/dbus/machine-id", "swapfile",
}

// writeTar writes a system's tree as a container's root.
func writeTar(ctx context.Context, w io.Writer, root *filesystem.FS) error {
	out := archive.NewWriter(w, ofContainer)
	err := root.Walk(func(name string, e *filesystem.Entry) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		// Device nodes are the container's own.
		if name == "." || e.Type()&fs.ModeDevice != 0 {
			return nil
		}
		if slices.Contains(leftOut, name) {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err := out.Add(name, e); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if slices.Contains(emptied, name) && e.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	return errors.Join(err, out.Close())
}

// ofContainer leaves out the labels of the host's security modules, which are the
// container runtime's to give.
func ofContainer(attribute string) bool {
	switch attribute {
	case "security.selinux", "security.ima", "security.evm":
		return false
	}
	return !strings.HasPrefix(attribute, "trusted.")
}
