package iso

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/artefact"
	"herdbook/internal/artefact/artefacttest"
	"herdbook/internal/inspection"
	"herdbook/internal/kmod"
	"herdbook/internal/peer"
	"herdbook/internal/target"
	"herdbook/internal/target/ramdisk/ramdisktest"
)

// newImage is the small system, with the boot loaders of this host but for some.
func newImage(t *testing.T, without ...string) *artefact.Image {
	t.Helper()
	peer.NeedTool(t, "xorriso", "mformat")
	tree := ramdisktest.Tree(t, func(*kmod.Modules) []string { return nil })
	for name := range packages {
		content, err := os.ReadFile("/" + name)
		peer.Need(t, err == nil, "the boot loaders of media are not installed; make packages installs what the tests need")
		path := filepath.Join(tree, name)
		peer.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		peer.Must(t, os.WriteFile(path, content, 0o644))
	}
	for _, name := range without {
		peer.Must(t, os.Remove(filepath.Join(tree, name)))
	}
	return ramdisktest.Image(t, tree)
}

// export makes the medium of an image.
func export(t *testing.T, image *artefact.Image, e *Exporter) (order artefact.Order, path string, err error) {
	t.Helper()
	order = artefacttest.Order(t, image, &e.ISO, e)
	m, err := order.Make(t.Context(), image, nil)
	return order, filepath.Join(order.Dir, m.Main), err
}

func TestSuite(t *testing.T) {
	image := newImage(t)
	e := &Exporter{ISO: *target.NewISO()}
	artefacttest.Suite(t, image, &e.ISO, e)
}

// Readers of other people find the two ways to boot, and the files.
func TestReaders(t *testing.T) {
	peer.NeedTool(t, "sgdisk", "fsck.vfat", "mdir", "grub-script-check")
	_, path, err := export(t, newImage(t), &Exporter{ISO: *target.NewISO()})
	peer.Must(t, err)
	report := peer.Run(t, "xorriso", "-indev", path, "-report_el_torito", "plain", "-report_system_area", "plain", "-pvd_info")
	for _, want := range []string{"El Torito boot img :   1  BIOS  y", "El Torito boot img :   2  UEFI  y", "isohybrid", "GPT", "Volume Id    : SMALL"} {
		if !strings.Contains(report, want) {
			t.Errorf("xorriso finds nothing of %q in\n%s", want, report)
		}
	}
	out := t.TempDir()
	peer.Run(t, "xorriso", "-osirrox", "on", "-indev", path, "-extract", "/", out)
	in := func(name string) string { return filepath.Join(out, name) }
	peer.Run(t, "fsck.vfat", "-n", in("boot/efi.img"))
	if names := peer.Run(t, "mdir", "-b", "-/", "-i", in("boot/efi.img"), "::/"); !strings.Contains(names, "BOOTX64.EFI") || !strings.Contains(names, "grubx64.efi") {
		t.Errorf("mdir: %s", names)
	}
	peer.Run(t, "grub-script-check", in("boot/grub/grub.cfg"))
	for name, want := range map[string]string{"isolinux/isolinux.cfg": "APPEND panic=30 ", "boot/grub/grub.cfg": "/live/vmlinuz panic=30 ", ".disk/info": "small\n"} {
		if text, err := os.ReadFile(in(name)); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(out, "live", "*")); err != nil || len(left) != 2 {
		t.Errorf("live: %v, %v", left, err)
	}
}

// A boot loader that lacks is named with its package, and nothing is left.
func TestNoLoader(t *testing.T) {
	order, _, err := export(t, newImage(t, grub), &Exporter{ISO: *target.NewISO()})
	if err == nil || !strings.Contains(err.Error(), "add grub-efi-amd64-signed to its packages") {
		t.Errorf("the error: %v", err)
	}
	if left, err := os.ReadDir(order.Dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestFits(t *testing.T) {
	e := &Exporter{ISO: *target.NewISO()}
	err := e.Fits(&inspection.System{Release: inspection.Release{ID: "fedora", PrettyName: "Fedora 41"}})
	if err == nil || !strings.Contains(err.Error(), `it is Fedora 41`) {
		t.Errorf("the error: %v", err)
	}
}

func TestVolume(t *testing.T) {
	for image, want := range map[string]string{"web": "WEB", "ceph-osd_2.1": "CEPH_OSD_2_1", strings.Repeat("a", 40): strings.Repeat("A", 32)} {
		if got := volume(image); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}
