package openstack

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"path"

	"go.yaml.in/yaml/v4"

	"herdbook/internal/filesystem"
	"herdbook/internal/inspection"
)

// architectures are those of Debian by the names that Nova gives them.
var architectures = map[string]string{
	"amd64": "x86_64", "arm64": "aarch64", "ppc64el": "ppc64le", "s390x": "s390x", "i386": "i686", "armhf": "armv7l", "riscv64": "riscv64",
}

// distros are distributions whose os-release has another name for them than libosinfo,
// whose names Glance takes for os_distro.
var distros = map[string]string{
	"opensuse-leap": "opensuse", "opensuse-tumbleweed": "opensuse", "alpine": "alpinelinux", "arch": "archlinux", "manjaro": "Manjaro",
	"elementary": "elementaryos", "pop": "popos", "void": "voidlinux", "sle-micro": "slem", "sl-micro": "slem", "scientific": "scientificlinux",
}

// properties are those of an image that Glance and Nova know.
func properties(s *inspection.System, agent bool) map[string]string {
	p := map[string]string{"os_type": "linux", "architecture": architectures[s.Architecture]}
	add := func(name, value string) {
		if value != "" {
			p[name] = value
		}
	}
	add("os_distro", cmp.Or(distros[s.Release.ID], s.Release.ID))
	add("os_version", s.Release.VersionID)
	add("os_admin_user", adminUser(s.Tree()))
	if agent {
		p["hw_qemu_guest_agent"] = "yes"
	}
	return p
}

// maxConfiguration bounds a file of the image that is read, in bytes.
const maxConfiguration = 1 << 20

// adminUser is the account that cloud-init makes for who owns a server; "" if that is
// not known.
func adminUser(tree fs.FS) string {
	names, err := fs.Glob(tree, "etc/cloud/cloud.cfg.d/*.cfg")
	if err != nil {
		return ""
	}
	user := ""
	for _, name := range append([]string{"etc/cloud/cloud.cfg"}, names...) { // later ones prevail
		var configuration struct {
			System struct {
				User struct {
					Name string `yaml:"name"`
				} `yaml:"default_user"`
			} `yaml:"system_info"`
		}
		f, err := tree.Open(name)
		if err != nil {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(f, maxConfiguration))
		_ = f.Close() // it was only read
		// What cloud-init could not read either says nothing.
		if err == nil && yaml.Unmarshal(text, &configuration) == nil && configuration.System.User.Name != "" {
			user = configuration.System.User.Name
		}
	}
	return user
}

// startsCloudInit tells whether the init is one that the packages of cloud-init know.
func startsCloudInit(tree *filesystem.FS) bool {
	if to, err := tree.ReadLink("sbin/init"); err == nil && path.Base(to) == "systemd" {
		return true
	}
	return exists(tree, "sbin/openrc") || exists(tree, "usr/sbin/openrc")
}

func exists(tree fs.FS, name string) bool {
	_, err := fs.Stat(tree, name)
	return err == nil
}

// growers are the programs by which cloud-init lets the root grow with the disk of a
// server, where no package of theirs comes with the target.
var growers = map[string]struct{ program, name string }{
	"xfs": {"xfs_growfs", "xfsprogs"}, "btrfs": {"btrfs", "btrfs-progs"},
}

// growable refuses a root that would stay as small as the image.
func growable(s *inspection.System) error {
	grower, ok := growers[s.Mounts[0].Type]
	if !ok {
		return nil
	}
	for _, dir := range []string{"sbin", "usr/sbin", "bin", "usr/bin"} {
		if exists(s.Tree(), path.Join(dir, grower.program)) {
			return nil
		}
	}
	return fmt.Errorf("its root is %s, which grows by %s: install %s in a step of the image", s.Mounts[0].Type, grower.program, grower.name)
}
