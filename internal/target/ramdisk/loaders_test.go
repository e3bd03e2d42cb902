//go:build targets

package ramdisk

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/artefact"
	"herdbook/internal/peer"
	"herdbook/internal/target"
	"herdbook/internal/target/ramdisk/ramdisktest"
)

// Where Debian and Ubuntu have the boot loaders that TFTP brings.
const (
	pxelinuxDir = "/usr/lib/PXELINUX/"
	syslinuxDir = "/usr/lib/syslinux/modules/bios/"
	grubDir     = "/usr/lib/grub/x86_64-efi"
)

// TestVMTargetRAMDiskLoaders starts the system by PXELINUX under BIOS and by GRUB under UEFI,
// from TFTP alone and from a url.
func TestVMTargetRAMDiskLoaders(t *testing.T) {
	needInit(t)
	image := ramdisktest.Image(t, tree(t))
	beside, _ := export(t, image, exporter(func(*target.RAMDisk) {}))
	var where string
	asked := map[string]bool{}
	url := serve(t, &where, func(files http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked[strings.TrimPrefix(r.URL.Path, "/small.")] = true
			files.ServeHTTP(w, r)
		})
	})
	fetched, _ := export(t, image, exporter(func(r *target.RAMDisk) { r.URL = url }))
	where = fetched.Dir
	grub := map[string]string{"first": grubDir + "-signed/grubnetx64.efi.signed", "grub/grub.cfg": "small.grub.cfg"}
	pxelinux := map[string]string{"first": pxelinuxDir + "pxelinux.0", "ldlinux.c32": syslinuxDir + "ldlinux.c32", "pxelinux.cfg/default": "small.pxelinux.cfg"}
	with := func(files map[string]string, name, from string) map[string]string {
		more := map[string]string{name: from}
		for name, from := range files {
			if _, ok := more[name]; !ok {
				more[name] = from
			}
		}
		return more
	}
	for name, c := range map[string]struct {
		order artefact.Order
		files map[string]string // of the TFTP server's, besides the artefact's, and where they are from
		efi   bool
		http  bool // the kernel comes by HTTP
	}{
		"PXELINUX by TFTP":  {beside, pxelinux, false, false},
		"PXELINUX by HTTP":  {fetched, with(pxelinux, "first", pxelinuxDir+"lpxelinux.0"), false, true},
		"GRUB by TFTP":      {beside, grub, true, false},
		"GRUB without HTTP": {fetched, grub, true, false},
		"GRUB by HTTP":      {fetched, with(grub, "grub/x86_64-efi/http.mod", grubDir+"/http.mod"), true, true},
	} {
		t.Run(name, func(t *testing.T) {
			clear(asked)
			args := []string{"-netdev", "user,id=n,bootfile=first,tftp=" + tftp(t, c.order, c.files), "-device", "virtio-net-pci,netdev=n,bootindex=1"}
			if c.efi {
				args = append(args, ramdisktest.Firmware(t, false)...)
			}
			ramdisktest.IsUp(t, ramdisktest.Boot(t, args...), "overlay / overlay rw")
			if asked["vmlinuz"] != c.http || asked["initrd"] != c.http {
				t.Errorf("asked of the web server: %v", asked)
			}
		})
	}
}

// tftp makes a directory for a TFTP server of an artefact and of files of boot loaders.
func tftp(t *testing.T, o artefact.Order, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	peer.Run(t, "cp", "--recursive", o.Dir+"/.", dir)
	for name, from := range files {
		if !filepath.IsAbs(from) {
			from = filepath.Join(o.Dir, from)
		}
		content, err := os.ReadFile(from)
		peer.Need(t, err == nil, "there is no "+from+"; make packages installs what the tests need")
		peer.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		peer.Must(t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
	}
	return dir
}
