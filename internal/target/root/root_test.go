package root

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"herdbook/internal/artefact"
	"herdbook/internal/artefact/artefacttest"
	"herdbook/internal/inspection"
	"herdbook/internal/peer"
	"herdbook/internal/target"
)

// laid makes the files of a small system.
func laid(t *testing.T) string {
	t.Helper()
	peer.NeedRoot(t, "owners and devices of other accounts")
	peer.NeedTool(t, "mke2fs", "tar")
	dir := t.TempDir()
	program := peer.Busybox(t)
	for name, content := range map[string]string{
		"bin/sh": string(program), "sbin/init": "init", "usr/lib/systemd/systemd": "systemd", "etc/passwd": "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n",
		"etc/os-release": "ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"Debian 12\"\n", "etc/hosts": "", "etc/fstab": "# nothing\n", "boot/vmlinuz-6.1": "kernel",
		"usr/lib/modules/6.1/modules.dep": "", "home/me/file": "mine", "srv/one": "hard", "tmp/x": "x",
	} {
		path := filepath.Join(dir, name)
		peer.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		peer.Must(t, os.WriteFile(path, []byte(content), 0o755))
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	peer.Must(t, errors.Join(
		os.Chown(in("home/me/file"), 1000, 1000), os.Link(in("srv/one"), in("srv/two")), os.Symlink("one", in("srv/link")), os.Chmod(in("tmp"), 0o777|os.ModeSticky),
		os.Mkdir(in("dev"), 0o755), unix.Mknod(in("dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), unix.Setxattr(in("srv/one"), "user.note", []byte("moo"), 0),
	))
	return dir
}

// imageOf makes an image of a tree, on a disk without partitions.
func imageOf(t *testing.T, tree string) *artefact.Image {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", "-d", tree, path, "64M")
	return artefacttest.Image(t, path)
}

// exporters are all of this package, with the defaults of a definition.
func exporters() map[string]struct {
	to target.Target
	e  artefact.Exporter
} {
	gz, zst, none := &Tar{target.Tar{Compression: "gzip"}}, &Tar{target.Tar{Compression: "zstd"}}, &Tar{target.Tar{Compression: "none"}}
	wsl, incus := &WSL{target.WSL{Name: "small", User: "me", Systemd: true}}, &Incus{target.Incus{Type: "container"}}
	return map[string]struct {
		to target.Target
		e  artefact.Exporter
	}{"tar.gz": {&gz.Tar, gz}, "tar.zst": {&zst.Tar, zst}, "tar": {&none.Tar, none}, "wsl": {&wsl.WSL, wsl}, "incus.tar.gz": {&incus.Incus, incus}}
}

func TestSuite(t *testing.T) {
	image := imageOf(t, laid(t))
	for name, x := range exporters() {
		t.Run(name, func(t *testing.T) { artefacttest.Suite(t, image, x.to, x.e) })
	}
}

// list lists what the real tar unpacks, with its owners, modes, links and attributes.
func list(t *testing.T, dir string) []string {
	t.Helper()
	out := peer.Run(t, "find", dir, "-type", "d", "-printf", `%P %M %U:%G\n`, "-o", "-printf", `%P %M %U:%G %s %n %l\n`)
	lines := slices.Sorted(strings.Lines(out))
	value := make([]byte, 10)
	if n, err := unix.Lgetxattr(filepath.Join(dir, "srv/one"), "user.note", value); err == nil {
		lines = append(lines, string(value[:n]))
	}
	return lines
}

// The real tar unpacks the tree; what a container has not is not in it.
func TestTarUnpacksIt(t *testing.T) {
	tree := laid(t)
	image := imageOf(t, tree)
	want := list(t, tree)
	inContainer := slices.DeleteFunc(slices.Clone(want), func(line string) bool {
		for _, gone := range []string{"boot/", "usr/lib/modules", "etc/fstab", "dev/", "tmp/"} {
			if strings.HasPrefix(line, gone) {
				return true
			}
		}
		return false
	})
	for name, x := range exporters() {
		order := artefacttest.Order(t, image, x.to, x.e)
		m, err := order.Make(t.Context(), image, nil)
		peer.Must(t, err)
		if m.Main != "small."+name {
			t.Errorf("%s: the main file is %s", name, m.Main)
		}
		dir := t.TempDir()
		peer.Run(t, "tar", "--extract", "--preserve-permissions", "--same-owner", "--xattrs", "--xattrs-include=*", "--file", filepath.Join(order.Dir, m.Main), "--directory", dir)
		want := want
		switch name {
		case "incus.tar.gz":
			readsMetadata(t, dir)
			dir, want = filepath.Join(dir, "rootfs"), inContainer
		case "wsl":
			want = inContainer
		}
		got := slices.DeleteFunc(list(t, dir), func(line string) bool { return strings.HasPrefix(line, "lost+found ") })
		// The root of a file system has its own mode, and that of the test another.
		got, want = without(got), without(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

// without leaves out the line of the directory itself.
func without(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.HasPrefix(line, " ") })
}

// readsMetadata has another reader of YAML read what an image for Incus says of itself.
func readsMetadata(t *testing.T, dir string) {
	t.Helper()
	peer.NeedTool(t, "python3")
	text := peer.Run(t, "/usr/bin/python3", "-c", "import json,sys,yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))", filepath.Join(dir, "metadata.yaml"))
	var m struct {
		Architecture string
		CreationDate int64 `json:"creation_date"`
		Properties   map[string]string
		Templates    map[string]struct {
			When     []string
			Template string
		}
	}
	peer.Must(t, json.Unmarshal([]byte(text), &m))
	if m.Architecture != "x86_64" || m.CreationDate != artefacttest.Created.Unix() || m.Properties["release"] != "12" || m.Properties["description"] != "Debian 12 (small)" {
		t.Errorf("%+v", m)
	}
	for path, rule := range m.Templates {
		text, err := os.ReadFile(filepath.Join(dir, "templates", rule.Template))
		if err != nil || !strings.Contains(string(text), "{{ instance.name }}") || !slices.Equal(rule.When, []string{"create", "copy"}) {
			t.Errorf("%s: %+v, %s, %v", path, rule, text, err)
		}
	}
	if len(m.Templates) != 2 {
		t.Errorf("%+v", m.Templates)
	}
}

// A virtual machine for Incus is a disk that QEMU reads, and metadata beside it.
func TestAVirtualMachineForIncus(t *testing.T) {
	image, e := imageOf(t, laid(t)), &Incus{target.Incus{Type: "virtual-machine"}}
	system := inspection.System{Architecture: "amd64", Kernels: []inspection.Kernel{{Version: "6.1"}}, Mounts: []inspection.Mount{{Dir: "/", Type: "ext4"}}}
	if err := e.Fits(&system); err == nil || !strings.Contains(err.Error(), "EFI system partition") {
		t.Errorf("without an ESP: %v", err)
	}
	system.Mounts = append(system.Mounts, inspection.Mount{Dir: "/boot/efi", Type: "vfat"})
	peer.Must(t, e.Fits(&system))
	dir := t.TempDir()
	made, err := e.Write(t.Context(), image, dir, nil)
	peer.Must(t, err)
	peer.Run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", filepath.Join(dir, made.Main), image.Path())
	out := t.TempDir()
	peer.Run(t, "tar", "--extract", "--file", filepath.Join(dir, "small.incus-metadata.tar.gz"), "--directory", out)
	text, err := os.ReadFile(filepath.Join(out, "metadata.yaml"))
	if err != nil || !strings.Contains(string(text), "architecture: x86_64\n") || strings.Contains(string(text), "templates") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestWhatDoesNotFit(t *testing.T) {
	tree := laid(t)
	for _, name := range []string{"usr/lib/systemd/systemd", "sbin/init", "usr/lib/modules"} {
		peer.Must(t, os.RemoveAll(filepath.Join(tree, name)))
	}
	system := imageOf(t, tree).System
	for want, e := range map[string]artefact.Exporter{
		"no systemd; install it, or say systemd = false": &WSL{target.WSL{Systemd: true}},
		`no account "nobody-here"; make it by a step`:    &WSL{target.WSL{User: "nobody-here"}},
		"no /sbin/init":  &Incus{target.Incus{Type: "container"}},
		"needs a kernel": &Incus{target.Incus{Type: "virtual-machine"}},
	} {
		if err := e.Fits(system); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for _, e := range []artefact.Exporter{&WSL{}, &WSL{target.WSL{User: "me"}}, &Tar{}} {
		if err := e.Fits(system); err != nil {
			t.Errorf("%T: %v", e, err)
		}
	}
}

// LXD imports both kinds. It starts the container by its init, and gives it its name.
func TestVMTargetIncus(t *testing.T) {
	tree := laid(t)
	in := func(name string) string { return filepath.Join(tree, name) }
	for _, name := range []string{"bin/cat", "bin/true", "bin/poweroff"} {
		peer.Must(t, os.Symlink("sh", in(name)))
	}
	peer.Must(t, errors.Join(os.Remove(in("sbin/init")), os.Symlink("../bin/sh", in("sbin/init")), os.MkdirAll(in("proc"), 0o755), os.MkdirAll(in("sys"), 0o755), os.MkdirAll(in("run"), 0o755)))
	peer.Must(t, os.WriteFile(in("etc/inittab"), []byte("::sysinit:/bin/true\n::shutdown:/bin/true\n"), 0o644))
	image, e := imageOf(t, tree), &Incus{target.Incus{Type: "container"}}
	order := artefacttest.Order(t, image, &e.Incus, e)
	m, err := order.Make(t.Context(), image, nil)
	peer.Must(t, err)
	lxc := peer.LXD(t)
	lxc("image", "import", filepath.Join(order.Dir, m.Main), "--alias", "small")
	if list := lxc("image", "list", "--format", "csv"); !strings.Contains(list, "Debian 12 (small),x86_64,CONTAINER") {
		t.Errorf("%s", list)
	}
	machine := t.TempDir()
	_, err = (&Incus{target.Incus{Type: "virtual-machine"}}).Write(t.Context(), image, machine, nil)
	peer.Must(t, err)
	lxc("image", "import", filepath.Join(machine, "small.incus-metadata.tar.gz"), filepath.Join(machine, "small.incus.qcow2"), "--alias", "machine")
	if list := lxc("image", "list", "machine", "--format", "csv"); !strings.Contains(list, "Debian 12 (small),x86_64,VIRTUAL-MACHINE") {
		t.Errorf("%s", list)
	}
	lxc("launch", "small", "cattle-7")
	defer lxc("delete", "--force", "cattle-7")
	if got, want := lxc("exec", "cattle-7", "--", "/bin/cat", "/etc/hostname", "/srv/two"), "cattle-7\nhard"; !strings.HasPrefix(got, want) {
		t.Errorf("%q", got)
	}
}
