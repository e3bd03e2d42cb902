package ramdisk

import (
	"bytes"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"herdbook/internal/artefact"
	"herdbook/internal/artefact/artefacttest"
	"herdbook/internal/digest"
	"herdbook/internal/kmod"
	"herdbook/internal/peer"
	"herdbook/internal/target"
	"herdbook/internal/target/ramdisk/ramdisktest"
)

// tree is the small system with the drivers that an initrd may take.
func tree(t *testing.T) string {
	t.Helper()
	return ramdisktest.Tree(t, func(m *kmod.Modules) []string {
		return slices.Concat(networkDrivers, m.Below("drivers/net/ethernet"), []string{"af_packet"})
	})
}

// needInit ends a test unless the first process is there.
func needInit(t *testing.T) {
	t.Helper()
	_, err := embedded.ReadFile("embedded/herdbook-init")
	peer.Need(t, err == nil, "the init of ramdisks is not built: make build")
}

// exporter is one of a target with other arguments than a definition makes it.
func exporter(change func(*target.RAMDisk)) *Exporter {
	r := target.NewRAMDisk()
	r.Arguments = append(r.Arguments, "no_timer_check") // an emulated timer may be late
	change(r)
	return &Exporter{RAMDisk: *r}
}

func export(t *testing.T, image *artefact.Image, e *Exporter) (artefact.Order, artefact.Manifest) {
	t.Helper()
	order := artefacttest.Order(t, image, &e.RAMDisk, e)
	m, err := order.Make(t.Context(), image, nil)
	peer.Must(t, err)
	return order, m
}

func TestSuite(t *testing.T) {
	needInit(t)
	image := ramdisktest.Image(t, tree(t))
	for name, change := range map[string]func(*target.RAMDisk){
		"squashfs in the initrd": func(*target.RAMDisk) {},
		"squashfs beside it":     func(r *target.RAMDisk) { r.URL = "http://boot.example.org/images/" },
		"initrd":                 func(r *target.RAMDisk) { r.Layout = "initrd" },
	} {
		t.Run(name, func(t *testing.T) {
			e := exporter(change)
			artefacttest.Suite(t, image, &e.RAMDisk, e)
		})
	}
}

// checkRoot looks at what is in an unpacked root, and what is not.
func checkRoot(t *testing.T, root string) {
	t.Helper()
	for name, want := range map[string]string{
		"usr/bin/su": "4755 0:33", "srv/device": "600 0:0", "etc/machine-id": "644 0:0", "dev": "755 0:0", "boot": "755 0:0", "var/spool/x": "644 0:0",
	} {
		if got := strings.TrimSpace(peer.Run(t, "stat", "-c", "%a %u:%g", filepath.Join(root, name))); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for name, want := range map[string]string{"etc/machine-id": "", "etc/fstab": "# what is mounted\ntmpfs /scratch tmpfs size=10M 0 0\nnas:/home /home nfs noauto 0 0\n", "srv/two": "hard"} {
		if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	var one, two unix.Stat_t
	peer.Must(t, errors.Join(unix.Stat(filepath.Join(root, "srv/one"), &one), unix.Stat(filepath.Join(root, "srv/two"), &two)))
	if one.Ino != two.Ino {
		t.Error("a file with two names became two")
	}
	for _, gone := range []string{"etc/crypttab", "boot/*", "run/*", "lost+found", "usr/lib/modules/1.0-other"} {
		if names, err := filepath.Glob(filepath.Join(root, gone)); err != nil || len(names) > 0 {
			t.Errorf("it is there: %v, %v", names, err)
		}
	}
	if names, err := filepath.Glob(filepath.Join(root, "usr/lib/modules/*/modules.dep")); err != nil || len(names) != 1 {
		t.Errorf("the modules of the kernel: %v, %v", names, err)
	}
}

// The real unsquashfs finds the root of the image, without what only a disk has.
func TestSquashfsIsTheRoot(t *testing.T) {
	needInit(t)
	peer.NeedTool(t, "unsquashfs")
	for _, compression := range []string{"zstd", "xz"} {
		order, m := export(t, ramdisktest.Image(t, tree(t)), exporter(func(r *target.RAMDisk) {
			r.URL, r.Compression = "http://boot.example.org/images", compression
		}))
		root := filepath.Join(t.TempDir(), "root")
		squash := filepath.Join(order.Dir, "small.squashfs")
		peer.Run(t, "unsquashfs", "-quiet", "-no-progress", "-dest", root, squash)
		checkRoot(t, root)
		value := make([]byte, 64)
		if n, err := unix.Lgetxattr(filepath.Join(root, "usr/bin/ping"), "security.capability", value); err != nil || !bytes.Equal(value[:n], ramdisktest.Capability) {
			t.Errorf("security.capability: %x, %v", value[:max(n, 0)], err)
		}
		if out := peer.Run(t, "unsquashfs", "-stat", squash); !strings.Contains(out, "Compression "+compression) {
			t.Errorf("%s", out)
		}
		if init, err := os.ReadFile(filepath.Join(root, "init")); err != nil || string(init) != "another" {
			t.Errorf("a file of the image's: %.10q, %v", init, err)
		}
		if m.Facts["root_size"] == int64(0) || m.Facts["memory_measured"] != false {
			t.Errorf("facts: %v", m.Facts)
		}
	}
}

// The real cpio finds the root in an initrd that is one.
func TestInitrdIsTheRoot(t *testing.T) {
	needInit(t)
	peer.NeedTool(t, "cpio", "zstd", "xz")
	for _, compression := range []string{"zstd", "xz"} {
		order, _ := export(t, ramdisktest.Image(t, tree(t)), exporter(func(r *target.RAMDisk) { r.Layout, r.Compression = "initrd", compression }))
		root := t.TempDir()
		peer.Run(t, "sh", "-c", `"$1" -dc <"$2" | cpio --extract --quiet --directory "$3" --no-absolute-filenames`, "sh", compression, filepath.Join(order.Dir, "small.initrd"), root)
		checkRoot(t, root)
		text, err := os.ReadFile(filepath.Join(root, "etc/herdbook-init/root.json"))
		if err != nil || !strings.Contains(string(text), `"usr/bin/ping"`) {
			t.Errorf("attributes: %s, %v", text, err)
		}
		if init, err := os.ReadFile(filepath.Join(root, "init")); err != nil || !bytes.HasPrefix(init, []byte("\x7fELF")) {
			t.Errorf("the first process: %.10q, %v", init, err)
		}
	}
}

func TestScripts(t *testing.T) {
	needInit(t)
	peer.NeedTool(t, "grub-script-check")
	image := ramdisktest.Image(t, trusting(t, nil))
	for name, c := range map[string]struct{ url, ipxe, grub, pxelinux string }{
		"beside": {"", "kernel small.vmlinuz initrd=initrd panic=30 rootfstype=ramfs console=ttyS0\ninitrd --name initrd small.initrd\n", "linux /small.vmlinuz panic=30", "KERNEL small.vmlinuz\n\tINITRD small.initrd\n"},
		"at a url": {"http://boot.example.org:8080/images/", "kernel http://boot.example.org:8080/images/small.vmlinuz initrd=initrd panic=30 console=ttyS0\n",
			"if linux (http,boot.example.org:8080)/images/small.vmlinuz panic=30 console=ttyS0; then\n\t\tinitrd (http,boot.example.org:8080)/images/small.initrd\n\telse\n\t\tlinux /small.vmlinuz",
			"KERNEL http://boot.example.org:8080/images/small.vmlinuz\n\tINITRD http:"},
		"by HTTPS": {"https://boot.example.org", "kernel https://boot.example.org/small.vmlinuz", "{\n\tlinux /small.vmlinuz panic=30 console=ttyS0\n\tinitrd /small.initrd\n", "KERNEL small.vmlinuz\n\tINITRD small.initrd\n"},
	} {
		t.Run(name, func(t *testing.T) {
			order, _ := export(t, image, exporter(func(r *target.RAMDisk) { r.URL, r.Arguments = c.url, []string{"console=ttyS0"} }))
			for file, want := range map[string]string{"small.ipxe": c.ipxe, "small.grub.cfg": c.grub, "small.pxelinux.cfg": c.pxelinux} {
				if text, err := os.ReadFile(filepath.Join(order.Dir, file)); err != nil || !strings.Contains(string(text), want) {
					t.Errorf("%s: %s, %v", file, text, err)
				}
			}
			peer.Run(t, "grub-script-check", filepath.Join(order.Dir, "small.grub.cfg"))
		})
	}
}

// What cannot be booted from memory is refused, with what to do.
func TestFits(t *testing.T) {
	whole := tree(t)
	version := "*"
	for name, c := range map[string]struct {
		spoil  string // a shell command, in the tree
		change func(*target.RAMDisk)
		want   string
	}{
		"whole":          {"true", nil, ""},
		"no kernel":      {"rm boot/vmlinuz-*", nil, "add one to its packages, such as linux-image-amd64"},
		"no modules":     {"rm -r usr/lib/modules", nil, "no kernel with modules"},
		"no overlay":     {"sed -i /overlay/d usr/lib/modules/" + version + "-cloud-amd64/modules.dep", nil, "has no overlay, neither as a module nor built in"},
		"no zstd":        {"sed -i s/CONFIG_SQUASHFS_ZSTD=y// boot/config-*", nil, "built without CONFIG_SQUASHFS_ZSTD"},
		"no config":      {"rm boot/config-*", nil, ""},
		"no initrds":     {"sed -i s/CONFIG_BLK_DEV_INITRD=y// boot/config-*", nil, "takes no initrd"},
		"initrd, no xz":  {"sed -i s/CONFIG_RD_XZ=y// boot/config-*", func(r *target.RAMDisk) { r.Layout, r.Compression = "initrd", "xz" }, "built without CONFIG_RD_XZ"},
		"no init":        {"rm sbin/init", nil, "no init that a machine could start"},
		"other hardware": {`printf '\267\0' | dd of=bin/busybox bs=1 seek=18 conv=notrunc status=none`, nil, "made for arm64"},
		"no stub":        {"true", func(r *target.RAMDisk) { r.UKI = true }, "add systemd-boot-efi"},
		"https":          {"true", func(r *target.RAMDisk) { r.URL = "https://boot.example.org" }, "add ca-certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "tree")
			peer.Run(t, "cp", "--archive", whole, dir)
			peer.Run(t, "sh", "-c", `cd "$1" && eval "$2"`, "sh", dir, c.spoil)
			if c.change == nil {
				c.change = func(*target.RAMDisk) {}
			}
			err := exporter(c.change).Fits(ramdisktest.Image(t, dir).System)
			if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// What takes more memory than the machines have is not exported.
func TestMaxMemory(t *testing.T) {
	needInit(t)
	e := exporter(func(r *target.RAMDisk) { r.MaxMemory = "64M" })
	image := ramdisktest.Image(t, tree(t))
	order := artefacttest.Order(t, image, &e.RAMDisk, e)
	if _, err := order.Make(t.Context(), image, nil); err == nil || !strings.Contains(err.Error(), "and max_memory is 64M") {
		t.Errorf("the error: %v", err)
	}
	if names, err := os.ReadDir(order.Dir); err != nil || len(names) > 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

// stub is systemd-stub as Debian has it.
func stub(t *testing.T) []byte {
	t.Helper()
	content, err := os.ReadFile("/" + stubPath)
	peer.Need(t, err == nil, "there is no systemd-stub; make packages installs what the tests need")
	return content
}

// A reader of other people finds in the program what was laid into it.
func TestSectionsOfTheProgram(t *testing.T) {
	peer.NeedTool(t, "objcopy")
	file := filepath.Join(t.TempDir(), "initrd")
	peer.Must(t, os.WriteFile(file, bytes.Repeat([]byte("initrd"), 10000), 0o644))
	initrd, err := fileSection(".initrd", file)
	peer.Must(t, err)
	var out bytes.Buffer
	peer.Must(t, addSections(&out, stub(t), []section{textSection(".cmdline", "quiet"), initrd}))
	program := filepath.Join(t.TempDir(), "program.efi")
	peer.Must(t, os.WriteFile(program, out.Bytes(), 0o644))
	before, err := pe.NewFile(bytes.NewReader(stub(t)))
	peer.Must(t, err)
	after, err := pe.NewFile(bytes.NewReader(out.Bytes()))
	peer.Must(t, err)
	if len(after.Sections) != len(before.Sections)+2 {
		t.Errorf("%d sections of %d", len(after.Sections), len(before.Sections))
	}
	for name, want := range map[string]digest.Digest{".cmdline": digest.Of([]byte("quiet")), ".initrd": digest.Of(bytes.Repeat([]byte("initrd"), 10000))} {
		part := filepath.Join(t.TempDir(), "part")
		peer.Run(t, "objcopy", "--dump-section", name+"="+part, program, part+".efi")
		content, err := os.ReadFile(part)
		peer.Must(t, err)
		// objcopy knows what is in the file, which is filled up with zeros.
		if got := digest.Of(bytes.TrimRight(content, "\x00")); got != want {
			t.Errorf("%s: %d bytes, %.20q", name, len(content), content)
		}
	}
	end := uint32(0)
	for _, s := range after.Sections {
		if s.VirtualAddress < end {
			t.Errorf("%s lies on another", s.Name)
		}
		end = s.VirtualAddress + s.VirtualSize
	}
	if err := addSections(io.Discard, []byte("no program"), nil); err == nil {
		t.Error("anything will do for a stub")
	}
	if err := addSections(io.Discard, stub(t), make([]section, 100)); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("a hundred sections: %v", err)
	}
	large := section{name: ".linux", size: 2 << 30}
	if err := addSections(io.Discard, stub(t), []section{large}); err == nil || !strings.Contains(err.Error(), "less than 2 GiB") {
		t.Errorf("a large one: %v", err)
	}
}

func TestMinimum(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		budget
		want int64
	}{
		{budget{initrd: 100 * mib, unpacked: 120 * mib, used: 200 * mib}, 352},                 // 200 and a system
		{budget{initrd: 300 * mib, unpacked: 320 * mib, used: 420 * mib}, 736},                 // the initrd twice
		{budget{initrd: 100 * mib, unpacked: 400 * mib, used: 420 * mib, doubled: true}, 1024}, // half of what is left is the root
		{budget{initrd: 10 * mib, unpacked: 12 * mib, root: 300 * mib, used: 400 * mib}, 544},
	} {
		if got := c.minimum() / mib; got != c.want {
			t.Errorf("%s: %d MiB, want %d", fmt.Sprintf("%+v", c.budget), got, c.want)
		}
	}
}
