package inspection

import (
	"fmt"
	"path"
	"strings"

	"herdbook/internal/kmod"
)

// Drives returns nil if the newest kernel has modules, or their like built in, for the
// hardware of a machine; otherwise it says which it lacks, and which package to use
// instead.
func (s *System) Drives(machine string, modules ...string) error {
	kernel, err := s.Newest()
	if err != nil {
		return err
	}
	has, err := kmod.Read(s.tree, path.Join("lib/modules", kernel.Version))
	if err != nil {
		return fmt.Errorf("read the modules of the kernel %s: %w", kernel.Version, err)
	}
	var lacks []string
	for _, name := range modules {
		if !has.Has(name) {
			lacks = append(lacks, name)
		}
	}
	if lacks == nil {
		return nil
	}
	return fmt.Errorf("the kernel %s cannot drive %s: it lacks %s; %s", kernel.Version, machine, strings.Join(lacks, ", "), s.otherKernel(kernel.Version))
}

// otherKernel says in which package there is a kernel for every machine.
func (s *System) otherKernel(version string) string {
	switch {
	case strings.Contains(version, "-cloud-"):
		return fmt.Sprintf("install linux-image-%[1]s instead of linux-image-cloud-%[1]s", s.Architecture)
	case s.Release.ID == "debian":
		return "install linux-image-" + s.Architecture
	case s.Release.ID == "ubuntu":
		return "install linux-image-generic"
	case s.Release.ID == "alpine":
		return "install linux-lts instead of linux-virt"
	}
	return "install a kernel that has them, or the package with all its modules, such as kernel-modules"
}
