// Package workshop boots an image's own kernel with herdbook's agent as its
// init, to work on the image's quiet disk, and boots images whole to test them.
// It is what libguestfs's appliance is, without its weight: a kernel, a handful of
// modules and one static program, all but the last read out of the image itself.
package workshop

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"

	"herdbook/internal/filesystem"
	"herdbook/internal/inspection"
	"herdbook/internal/kmod"
	"herdbook/internal/mapper"
)

//go:embed all:embedded
var embedded embed.FS

// ErrNoAgent says that the program was built without its agent.
var ErrNoAgent = errors.New("this herdbook was built without its agent: build it with make build")

// Agent returns the embedded agent, a static program for amd64.
func Agent() ([]byte, error) {
	agent, err := embedded.ReadFile("embedded/herdbook-agent")
	if err != nil {
		return nil, ErrNoAgent
	}
	return agent, nil
}

const (
	maxKernel = 256 << 20
	// An image that lists modules without end would fill the host's memory.
	maxModulesTotal = 256 << 20 // bytes
)

// required are the modules without which the workshop cannot work; those that
// are built into the kernel are not loaded.
var required = []string{"virtio_pci", "virtio_blk", "virtio_console"}

// optional are modules that some kernels need for the same: ext4 asks for its
// checksum by name, which is in no list of dependencies.
var optional = []string{"crc32c_generic", "crc32c-intel", "virtio_rng"}

// checksums are the modules of what btrfs sums up with, for which it asks by name, too.
var checksums = []string{"xxhash_generic", "sha256_generic", "blake2b_generic"}

// Parts are what the workshop boots.
type Parts struct {
	Kernel    []byte
	Initramfs []byte
	Version   string // of the kernel
}

// Build takes the newest kernel of a system, and the modules that the job's
// machine needs, and makes an initramfs of them and the agent.
func Build(s *inspection.System, agent []byte, network bool) (Parts, error) {
	if len(s.Kernels) == 0 {
		return Parts{}, errors.New("the image has no kernel with modules in /boot and /lib/modules; add one to its packages, such as linux-image-amd64")
	}
	kernel := s.Kernels[0]
	image, err := filesystem.ReadFile(s.Tree(), kernel.Image, maxKernel)
	if err != nil {
		return Parts{}, fmt.Errorf("read the image's kernel: %w", err)
	}
	needed, useful := slices.Clone(required), append(slices.Clone(optional), "nls_cp437", "nls_ascii", "nls_iso8859-1", "nls_utf8")
	for _, m := range s.Mounts { // a file system's module has its name
		needed = append(needed, m.Type)
		if m.Type == "btrfs" {
			useful = append(useful, checksums...)
		}
	}
	if network {
		needed = append(needed, "virtio_net")
	}
	layers, ciphers := layerModules(s.Devices)
	needed, useful = append(needed, layers...), append(useful, ciphers...)
	m, err := kmod.Read(s.Tree(), path.Join("lib/modules", kernel.Version))
	if err != nil {
		return Parts{}, fmt.Errorf("read the modules of kernel %s: %w", kernel.Version, err)
	}
	files, err := m.Order(needed, useful)
	if err != nil {
		return Parts{}, fmt.Errorf("find the modules of kernel %s: %w", kernel.Version, err)
	}
	initramfs, err := pack(m, files, agent)
	if err != nil {
		return Parts{}, fmt.Errorf("make the workshop's initramfs: %w", err)
	}
	return Parts{image, initramfs, kernel.Version}, nil
}

// layerModules are the modules that devices of the image need, and those that they
// may need besides: the kernel asks for ciphers by name, and each has several,
// in modules that were split and joined over time.
func layerModules(devices []mapper.Device) (required, optional []string) {
	for _, d := range devices {
		required = append(required, "dm_mod")
		for _, t := range d.Table {
			switch t.Type {
			case mapper.Mirror:
				required = append(required, "dm_mirror")
			case mapper.Crypted:
				required = append(required, "dm_crypt")
				optional = append(optional, "aes_generic", "aesni_intel", "sha256_generic", "sha256_ssse3", "sha256", "ecb", "cbc", "xts", "essiv")
			}
		}
	}
	return required, optional
}

// pack makes the initramfs: the agent as /init, the modules, and the list of
// the order in which they are loaded. Equal inputs give equal bytes.
func pack(m *kmod.Modules, files []string, agent []byte) ([]byte, error) {
	records := []cpio.Record{
		cpio.Directory("dev", 0o755), cpio.CharDev("dev/console", 0o600, 5, 1), cpio.Directory("sysroot", 0o755),
		cpio.StaticFile("init", string(agent), 0o755),
		cpio.Directory("etc", 0o755), cpio.Directory("etc/herdbook", 0o755), cpio.Directory("modules", 0o755),
	}
	var list strings.Builder
	total := 0
	for _, file := range files {
		p, err := m.Content(file)
		if err != nil {
			return nil, err
		}
		if total += len(p); total > maxModulesTotal {
			return nil, fmt.Errorf("the modules have more than %d bytes", maxModulesTotal)
		}
		name := "modules/" + kmod.Name(file) + ".ko"
		records = append(records, cpio.StaticFile(name, string(p), 0o644))
		list.WriteString("/" + name + "\n")
	}
	records = append(records, cpio.StaticFile("etc/herdbook/modules", list.String(), 0o644))
	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	for _, r := range records {
		if err := w.WriteRecord(cpio.MakeReproducible(r)); err != nil {
			return nil, err
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
