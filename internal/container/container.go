// Package container knows what of a system's tree a container has: all but what boots a
// machine, and what is the host's or the moment's. Kernels, firmware, the boot loader,
// fstab, machine-id and device nodes stay behind.
package container

import (
	"context"
	"fmt"
	"io/fs"
	"path"
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

// Has tells whether a container has a file of a tree. What is below a directory that it
// has not, it has not either. Device nodes are the container's own, and sockets are
// nothing without who listens.
func Has(name string, s *filesystem.Stat) bool {
	return s.FileMode().Type()&(fs.ModeDevice|fs.ModeSocket|fs.ModeIrregular) == 0 && !slices.Contains(leftOut, name)
}

// Empties tells whether a container has a directory without what is in it.
func Empties(name string) bool { return slices.Contains(emptied, name) }

// Attribute tells whether a file keeps an extended attribute. The labels of the host's
// security modules are the container runtime's to give.
func Attribute(name string) bool {
	switch name {
	case "security.selinux", "security.ima", "security.evm":
		return false
	}
	return !strings.HasPrefix(name, "trusted.")
}

// Write writes what a container has of a tree, the root too, its names behind a prefix.
func Write(ctx context.Context, out *archive.Writer, prefix string, tree *filesystem.FS) error {
	return tree.Walk(func(name string, e *filesystem.Entry) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		stat, err := e.Stat()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if !Has(name, stat) {
			return skip(stat)
		}
		if err := out.Add(path.Join(prefix, name), e); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if Empties(name) {
			return skip(stat)
		}
		return nil
	})
}

// skip leaves out what is below a file, if it is a directory.
func skip(s *filesystem.Stat) error {
	if s.FileMode().IsDir() {
		return fs.SkipDir
	}
	return nil
}
