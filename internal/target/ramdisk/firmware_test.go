package ramdisk

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/kmod/kmodtest"
	"herdbook/internal/peer"
	"herdbook/internal/ramroot"
	"herdbook/internal/target"
	"herdbook/internal/target/ramdisk/ramdisktest"
)

// What drivers ask for of firmware is in an initrd that fetches its root, as far as the image
// has it, and so are the modules that they are to have before them.
func TestFirmware(t *testing.T) {
	needInit(t)
	peer.NeedTool(t, "cpio", "zstd")
	dir := tree(t)
	modules, err := filepath.Glob(filepath.Join(dir, "usr/lib/modules/*-*"))
	peer.Must(t, err)
	kernel := modules[slices.IndexFunc(modules, func(name string) bool { return !strings.HasSuffix(name, "1.0-other") })]
	add := func(name string, content []byte) {
		peer.Must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		peer.Must(t, err)
		_, err = f.Write(content)
		peer.Must(t, errors.Join(err, f.Close()))
	}
	const drivers = "kernel/drivers/net/ethernet/small/"
	add(filepath.Join(kernel, drivers+"card.ko"), kmodtest.Module(t, "firmware=card/a.bin", "firmware=card/b.bin", "firmware=card/missing.bin", "firmware=../../etc/shadow", "firmware=etc/../x"))
	add(filepath.Join(kernel, "kernel/drivers/net/phy/helper.ko"), kmodtest.Module(t, "firmware=helper.bin"))
	add(filepath.Join(kernel, "modules.dep"), []byte(drivers+"card.ko:\nkernel/drivers/net/phy/helper.ko:\n"))
	add(filepath.Join(kernel, "modules.softdep"), []byte("softdep card pre: helper\n"))
	add(filepath.Join(kernel, "modules.alias"), []byte("alias small:card* card\n"))
	for name, content := range map[string][]byte{
		"card/a.bin": []byte("a"), "card/b.bin.zst": kmodtest.Compressed(t, "zstd", []byte("b"), "-q"), "helper.bin": []byte("helper"), "other.bin": []byte("other"),
	} {
		add(filepath.Join(dir, "usr/lib/firmware", name), content)
	}
	image := ramdisktest.Image(t, dir)
	order, m := export(t, image, exporter(func(r *target.RAMDisk) { r.URL = "http://boot.example.org" }))
	root := t.TempDir()
	peer.Run(t, "sh", "-c", `zstd -dc <"$1" | cpio --extract --quiet --directory "$2" --no-absolute-filenames`, "sh", filepath.Join(order.Dir, "small.initrd"), root)
	got := map[string]string{}
	peer.Must(t, filepath.WalkDir(filepath.Join(root, "lib/firmware"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			content, err := os.ReadFile(path)
			got[strings.TrimPrefix(path, root+"/lib/firmware/")] = string(content)
			return err
		}
		return err
	}))
	if diff := cmp.Diff(map[string]string{"card/a.bin": "a", "card/b.bin": "b", "helper.bin": "helper"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"card/a.bin", "card/b.bin", "helper.bin"}, m.Facts["firmware"]); diff != "" {
		t.Errorf("facts (-want +got)\n%s", diff)
	}
	if list, err := os.ReadFile(filepath.Join(root, ramroot.DriversFile)); err != nil || !strings.Contains(string(list), "small:card* helper card\n") {
		t.Errorf("drivers: %v", err)
	}
	_, m = export(t, image, exporter(func(*target.RAMDisk) {}))
	if _, ok := m.Facts["firmware"]; ok {
		t.Errorf("facts of an initrd that fetches nothing: %v", m.Facts)
	}
}

// TestVMTargetRAMDiskFirmware lets a network card fetch a root that needs firmware for that.
// The kernel is the one of Debian's installer, which has drivers for real hardware; it has
// no loop devices, so the machine ends with the root fetched.
func TestVMTargetRAMDiskFirmware(t *testing.T) {
	needInit(t)
	peer.NeedTool(t, "cpio", "depmod", "zcat")
	const installer = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/"
	_, err := os.Stat(installer)
	peer.Need(t, err == nil, "there is no installer of Debian's; make packages installs what the tests need")
	dir := tree(t)
	peer.Run(t, "sh", "-ec", `cd "$1"
		rm -r boot/* usr/lib/modules/*
		zcat "$2/initrd.gz" | cpio --extract --make-directories --quiet '*/e100.ko' '*/mii.ko' '*/modules.builtin' '*/modules.order'
		version=$(ls usr/lib/modules)
		cp "$2/linux" "boot/vmlinuz-$version"
		printf 'kernel/%s.ko\n' loop squashfs overlay >>"usr/lib/modules/$version/modules.builtin"
		depmod -b . "$version"`, "sh", dir, installer)
	firmware := filepath.Join(dir, "usr/lib/firmware/e100")
	peer.Must(t, os.MkdirAll(firmware, 0o755))
	peer.Must(t, os.WriteFile(filepath.Join(firmware, "d102e_ucode.bin"), make([]byte, 134*4+3), 0o644)) // 134 words, and three settings
	var where string
	url := serve(t, &where, func(files http.Handler) http.Handler { return files })
	order, m := export(t, ramdisktest.Image(t, dir), exporter(func(r *target.RAMDisk) { r.URL = url }))
	where = order.Dir
	out := ramdisktest.Boot(t, append(outright(order), "-netdev", "user,id=n", "-device", "i82551,netdev=n,romfile=")...)
	for _, want := range []string{"firmware e100/d102e_ucode.bin", "make the root a device"} {
		if !strings.Contains(out, want) {
			t.Errorf("nothing of %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%v\n%s", m.Facts, out)
	}
}
