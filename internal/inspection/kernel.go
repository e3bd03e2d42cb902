package inspection

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Names of kernels and their initrds in /boot: Debian's, the RH family's, SUSE's,
// Arch's.
var (
	kernelPrefixes = []string{"vmlinuz-", "vmlinux-", "Image-"}
	initrdNames    = []string{"initrd.img-*", "initramfs-*.img", "initrd-*", "initramfs-*"}
)

// kernels lists the kernels that have modules, the newest first.
func kernels(tree fs.FS) ([]Kernel, error) {
	versions, err := names(tree, "lib/modules")
	if err != nil {
		return nil, err
	}
	inBoot, err := names(tree, "boot")
	if err != nil {
		return nil, err
	}
	var list []Kernel
	for _, version := range versions {
		k := Kernel{Version: version}
		for _, prefix := range kernelPrefixes {
			if k.Image == "" && slices.Contains(inBoot, prefix+version) {
				k.Image = path.Join("boot", prefix+version)
			}
		}
		// Where /boot is filled at installation only, as in images of Fedora's.
		inside := path.Join("lib/modules", version, "vmlinuz")
		if _, err := fs.Stat(tree, inside); k.Image == "" && err == nil {
			k.Image = inside
		}
		if k.Image == "" {
			continue
		}
		for _, name := range initrdNames {
			if name = strings.Replace(name, "*", version, 1); k.Initrd == "" && slices.Contains(inBoot, name) {
				k.Initrd = path.Join("boot", name)
			}
		}
		list = append(list, k)
	}
	slices.SortStableFunc(list, func(a, b Kernel) int { return compareVersions(b.Version, a.Version) })
	return list, nil
}

// names lists a directory; one that is not there has none.
func names(tree fs.FS, dir string) ([]string, error) {
	entries, err := fs.ReadDir(tree, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list, nil
}

// compareVersions orders versions by their numbers and, between them, by text.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a = cutWhile(a, false)
		y, b = cutWhile(b, false)
		if x != y {
			return strings.Compare(x, y)
		}
		x, a = cutWhile(a, true)
		y, b = cutWhile(b, true)
		x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		if len(x) != len(y) {
			return len(x) - len(y)
		}
		if x != y {
			return strings.Compare(x, y)
		}
	}
	return 0
}

// cutWhile cuts the leading run of digits, or of what is none, off s.
func cutWhile(s string, digits bool) (run, rest string) {
	i := strings.IndexFunc(s, func(r rune) bool { return (r >= '0' && r <= '9') != digits })
	if i < 0 {
		i = len(s)
	}
	return s[:i], s[i:]
}

// ErrNoKernel says that a system has no kernel that it could be started with.
var ErrNoKernel = errors.New("it has no kernel with modules in /boot and /lib/modules")

// Newest is the newest kernel.
func (s *System) Newest() (Kernel, error) {
	if len(s.Kernels) == 0 {
		return Kernel{}, ErrNoKernel
	}
	return s.Kernels[0], nil
}
