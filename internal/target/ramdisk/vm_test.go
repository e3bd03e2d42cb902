package ramdisk

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/artefact"
	"herdbook/internal/artefact/artefacttest"
	"herdbook/internal/event"
	"herdbook/internal/machine"
	"herdbook/internal/peer"
	"herdbook/internal/ramroot"
	"herdbook/internal/target"
	"herdbook/internal/target/ramdisk/ramdisktest"
)

// outright are the arguments by which QEMU starts an artefact's kernel and initrd.
func outright(o artefact.Order, words ...string) []string {
	in := func(ending string) string { return filepath.Join(o.Dir, "small."+ending) }
	return []string{"-kernel", in("vmlinuz"), "-initrd", in("initrd"), "-append", strings.Join(append(words, "panic=1", "console=ttyS0", "no_timer_check"), " ")}
}

// TestVMTargetRAMDiskStarts starts the small system out of memory in both layouts, twice.
func TestVMTargetRAMDiskStarts(t *testing.T) {
	needInit(t)
	image := ramdisktest.Image(t, tree(t))
	for name, c := range map[string]struct {
		change func(*target.RAMDisk)
		root   string
	}{
		"squashfs": {func(*target.RAMDisk) {}, "overlay / overlay rw"},
		"initrd":   {func(r *target.RAMDisk) { r.Layout = "initrd" }, "rootfs / rootfs rw"},
	} {
		t.Run(name, func(t *testing.T) {
			order, _ := export(t, image, exporter(c.change))
			for range 2 {
				ramdisktest.IsUp(t, ramdisktest.Boot(t, outright(order)...), c.root)
			}
		})
	}
}

// serve serves an artefact, with a file of it changed, as a guest of QEMU finds it.
func serve(t *testing.T, dir *string, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	files := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.FileServer(http.Dir(*dir)).ServeHTTP(w, r) })
	server := httptest.NewServer(wrap(files))
	t.Cleanup(server.Close)
	return strings.Replace(server.URL, "127.0.0.1", "10.0.2.2", 1)
}

// TestVMTargetRAMDiskNetwork starts it by the iPXE of a network card, with BIOS and UEFI,
// and by UEFI as one program. The first connection for the root breaks.
func TestVMTargetRAMDiskNetwork(t *testing.T) {
	needInit(t)
	stub := stub(t)
	dir := tree(t)
	peer.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, stubPath)), 0o755))
	peer.Must(t, os.WriteFile(filepath.Join(dir, stubPath), stub, 0o644))
	var where string
	broken := map[string]bool{}
	url := serve(t, &where, func(files http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, ".squashfs") && r.Header.Get("Range") == "" && !broken[r.RemoteAddr] {
				broken[r.RemoteAddr] = true
				w = &breaking{ResponseWriter: w, left: 1 << 20}
			}
			files.ServeHTTP(w, r)
		})
	})
	order, _ := export(t, ramdisktest.Image(t, dir), exporter(func(r *target.RAMDisk) { r.URL, r.UKI = url, true }))
	where = order.Dir
	network := []string{"-netdev", "user,id=n,bootfile=" + url + "/small.ipxe", "-device", "virtio-net-pci,netdev=n,bootindex=2"}
	t.Run("BIOS", func(t *testing.T) { ramdisktest.IsUp(t, ramdisktest.Boot(t, network...), "overlay / overlay rw") })
	t.Run("UEFI", func(t *testing.T) {
		ramdisktest.IsUp(t, ramdisktest.Boot(t, append(network, ramdisktest.Firmware(t, false)...)...), "overlay / overlay rw")
	})
	t.Run("one program", func(t *testing.T) {
		peer.NeedTool(t, "mformat", "mmd", "mcopy")
		disk := filepath.Join(t.TempDir(), "disk")
		peer.Must(t, os.WriteFile(disk, nil, 0o600))
		peer.Must(t, os.Truncate(disk, 64<<20))
		peer.Run(t, "mformat", "-i", disk, "-F", "::")
		peer.Run(t, "mmd", "-i", disk, "::/EFI", "::/EFI/BOOT")
		peer.Run(t, "mcopy", "-i", disk, filepath.Join(order.Dir, "small.efi"), "::/EFI/BOOT/BOOTX64.EFI")
		args := append(ramdisktest.Firmware(t, false), "-drive", "if=none,id=d,format=raw,readonly=on,file="+disk, "-device", "virtio-blk-pci,drive=d,bootindex=1")
		ramdisktest.IsUp(t, ramdisktest.Boot(t, append(args, "-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile=")...), "overlay / overlay rw")
	})
}

// breaking is a connection that breaks.
type breaking struct {
	http.ResponseWriter
	left int
}

// Write implements io.Writer.
func (b *breaking) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		panic(http.ErrAbortHandler)
	}
	return b.ResponseWriter.Write(p)
}

// TestVMTargetRAMDiskFails lets the machine say why it cannot start, and end.
func TestVMTargetRAMDiskFails(t *testing.T) {
	needInit(t)
	var where string
	url := serve(t, &where, func(files http.Handler) http.Handler { return files })
	order, _ := export(t, ramdisktest.Image(t, tree(t)), exporter(func(r *target.RAMDisk) { r.URL = url }))
	where = order.Dir
	card := []string{"-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile="}
	for name, c := range map[string]struct {
		spoil func()
		words []string
		more  []string
		want  string
	}{
		"not there": {func() {}, []string{ramroot.URLArgument + "=" + url + "/none"}, card, "404 Not Found"},
		"no memory": {func() {}, nil, append(card, "-m", "96"), ""},
		"no init":   {func() {}, []string{"init=/none"}, card, "the root has no /none"},
		"another": {func() {
			peer.Must(t, os.WriteFile(filepath.Join(order.Dir, "small.squashfs"), []byte("another"), 0o644))
		}, nil, card, "use the files of one export"},
	} {
		t.Run(name, func(t *testing.T) {
			c.spoil()
			out := ramdisktest.Boot(t, append(outright(order, c.words...), c.more...)...)
			if !strings.Contains(out, ramroot.Complaint) && c.want != "" || !strings.Contains(out, c.want) || !strings.Contains(out, "Kernel panic") {
				t.Errorf("%s", out)
			}
		})
	}
}

// measured makes an artefact whose memory is measured in a machine.
func measured(t *testing.T, image *artefact.Image, change func(*target.RAMDisk)) (artefact.Manifest, error) {
	t.Helper()
	e := exporter(change)
	e.Accelerator = func(context.Context) (machine.Accelerator, error) { return machine.TCG, nil }
	order := artefacttest.Order(t, image, &e.RAMDisk, e)
	return order.Make(t.Context(), image, func(e event.Event) { t.Log(e.Text) })
}

// TestVMTargetRAMDiskMemory measures the memory, and starts the system in the least.
func TestVMTargetRAMDiskMemory(t *testing.T) {
	needInit(t)
	image := ramdisktest.Image(t, tree(t))
	for name, change := range map[string]func(*target.RAMDisk){
		"squashfs": func(*target.RAMDisk) {},
		"fetched":  func(r *target.RAMDisk) { r.URL = "http://boot.example.org" },
		"initrd":   func(r *target.RAMDisk) { r.Layout = "initrd" },
	} {
		t.Run(name, func(t *testing.T) {
			m, err := measured(t, image, change)
			peer.Must(t, err)
			used, _ := m.Facts["memory_at_start"].(int64)
			if m.Facts["memory_measured"] != true || used < 32<<20 || used > 160<<20 {
				t.Errorf("facts: %v", m.Facts)
			}
			t.Log(m.Facts)
		})
	}
	if _, err := measured(t, image, func(r *target.RAMDisk) { r.MaxMemory = "48M" }); err == nil || !strings.Contains(err.Error(), "in a machine of 48 MiB of memory") {
		t.Errorf("the error: %v", err)
	}
}

// What is measured with the root in the initrd takes more than to fetch that root, which is
// all that the machines have to have memory for.
func TestVMTargetRAMDiskMemoryOfALargeRoot(t *testing.T) {
	needInit(t)
	dir := tree(t)
	large := make([]byte, 170<<20)
	rand.NewChaCha8([32]byte{}).Read(large)
	peer.Must(t, os.WriteFile(filepath.Join(dir, "large"), large, 0o644))
	m, err := measured(t, ramdisktest.Image(t, dir), func(r *target.RAMDisk) { r.URL, r.MaxMemory = "http://boot.example.org", "400M" })
	peer.Must(t, err)
	used, _ := m.Facts["memory_at_start"].(int64)
	if m.Facts["memory_measured"] != true || used < 200<<20 || used > 272<<20 {
		t.Errorf("facts: %v", m.Facts)
	}
}
