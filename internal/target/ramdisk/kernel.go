package ramdisk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"herdbook/internal/filesystem"
	"herdbook/internal/inspection"
	"herdbook/internal/kmod"
)

// maxConfig bounds the kernel's configuration, in bytes.
const maxConfig = 4 << 20

// kernel is the one that is booted.
type kernel struct {
	inspection.Kernel
	modules *kmod.Modules
	config  map[string]bool // what it was built with, in it or as a module; nil if it does not say
}

// newestKernel reads what the newest kernel of a system can do.
func newestKernel(s *inspection.System) (*kernel, error) {
	newest, err := s.Newest()
	if err != nil {
		return nil, fmt.Errorf("%w: add one to its packages, such as linux-image-amd64", err)
	}
	k := &kernel{Kernel: newest}
	dir := path.Join("lib/modules", k.Version)
	if k.modules, err = kmod.Read(s.Tree(), dir); err != nil {
		return nil, fmt.Errorf("read the modules of kernel %s: %w", k.Version, err)
	}
	for _, name := range []string{"boot/config-" + k.Version, dir + "/config"} {
		text, err := filesystem.ReadFile(s.Tree(), name, maxConfig)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the configuration of kernel %s: %w", k.Version, err)
		}
		k.config = parseConfig(text)
		break
	}
	return k, nil
}

func parseConfig(text []byte) map[string]bool {
	config := map[string]bool{}
	for line := range bytes.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(string(line)), "=")
		if name, is := strings.CutPrefix(name, "CONFIG_"); ok && is && (value == "y" || value == "m") {
			config[name] = true
		}
	}
	return config
}

// builtWith tells whether the kernel has a feature; one that does not say is believed to.
func (k *kernel) builtWith(feature string) bool { return k.config == nil || k.config[feature] }

// fits tells why the kernel cannot boot a root in a layout.
func (k *kernel) fits(layout, compression string) error {
	const other = "install one of the distribution's own, such as linux-image-amd64"
	if !k.builtWith("BLK_DEV_INITRD") {
		return fmt.Errorf("kernel %s takes no initrd: %s", k.Version, other)
	}
	feature := "RD_" + strings.ToUpper(compression)
	if layout == squashfs {
		for _, name := range rootModules {
			if !k.modules.Has(name) {
				return fmt.Errorf("kernel %s has no %s, neither as a module nor built in: %s, or say layout = \"initrd\"", k.Version, name, other)
			}
		}
		feature = "SQUASHFS_" + strings.ToUpper(compression)
	}
	if !k.builtWith(feature) {
		return fmt.Errorf("kernel %s was built without CONFIG_%s: choose another compression", k.Version, feature)
	}
	return nil
}

// initrdCompression is what the kernel unpacks an initrd of modules from.
func (k *kernel) initrdCompression() string {
	if k.config["RD_ZSTD"] {
		return "zstd"
	}
	return "gzip" // every kernel can
}
