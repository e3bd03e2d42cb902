package ramdisk

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"herdbook/internal/artefact"
	"herdbook/internal/artefact/artefacttest"
	"herdbook/internal/event"
	"herdbook/internal/machine"
	"herdbook/internal/peer"
	"herdbook/internal/ramroot"
	"herdbook/internal/target"
)

// boot runs a machine without a disk until it ends, and returns what its console says.
func boot(t *testing.T, args ...string) string {
	t.Helper()
	peer.NeedTool(t, "qemu-system-x86_64")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "qemu-system-x86_64", append([]string{
		"-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "512", "-serial", "stdio",
	}, args...)...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return out.String()
}

// isUp looks for what the small system says, and for nothing of the boots before.
func isUp(t *testing.T, out, root string) {
	t.Helper()
	for _, want := range []string{
		"root is " + root, "state: fresh", "state: written", "4755 0:33 2 hard", "machine-id has 0 bytes", "the small system is up",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("nothing of %q", want)
		}
	}
	for _, wrong := range []string{"left by another boot", "something of herdbook", "an address is left"} {
		if strings.Contains(out, wrong) {
			t.Errorf("it says %q", wrong)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

// outright are the arguments by which QEMU starts an artefact's kernel and initrd.
func outright(o artefact.Order, words ...string) []string {
	in := func(ending string) string { return filepath.Join(o.Dir, "small."+ending) }
	return []string{"-kernel", in("vmlinuz"), "-initrd", in("initrd"), "-append", strings.Join(append(words, "panic=1", "console=ttyS0"), " ")}
}

// TestVMTargetRAMDiskStarts starts the small system out of memory in both layouts, twice.
func TestVMTargetRAMDiskStarts(t *testing.T) {
	needInit(t)
	image := newImage(t, tree(t))
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
				isUp(t, boot(t, outright(order)...), c.root)
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
	code, vars, err := machine.Firmwares()
	peer.Need(t, err == nil, "there is no UEFI firmware; make tools installs what the tests need")
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
	order, _ := export(t, newImage(t, dir), exporter(func(r *target.RAMDisk) { r.URL, r.UKI = url, true }))
	where = order.Dir
	network := []string{"-netdev", "user,id=n,bootfile=" + url + "/small.ipxe", "-device", "virtio-net-pci,netdev=n,bootindex=2"}
	uefi := func() []string {
		own := filepath.Join(t.TempDir(), "vars")
		content, err := os.ReadFile(vars)
		peer.Must(t, err)
		peer.Must(t, os.WriteFile(own, content, 0o600))
		return []string{"-drive", "if=pflash,format=raw,readonly=on,file=" + code, "-drive", "if=pflash,format=raw,file=" + own}
	}
	t.Run("BIOS", func(t *testing.T) { isUp(t, boot(t, network...), "overlay / overlay rw") })
	t.Run("UEFI", func(t *testing.T) { isUp(t, boot(t, append(network, uefi()...)...), "overlay / overlay rw") })
	t.Run("one program", func(t *testing.T) {
		peer.NeedTool(t, "mformat", "mmd", "mcopy")
		disk := filepath.Join(t.TempDir(), "disk")
		peer.Must(t, os.WriteFile(disk, nil, 0o600))
		peer.Must(t, os.Truncate(disk, 64<<20))
		peer.Run(t, "mformat", "-i", disk, "-F", "::")
		peer.Run(t, "mmd", "-i", disk, "::/EFI", "::/EFI/BOOT")
		peer.Run(t, "mcopy", "-i", disk, filepath.Join(order.Dir, "small.efi"), "::/EFI/BOOT/BOOTX64.EFI")
		args := append(uefi(), "-drive", "if=none,id=d,format=raw,readonly=on,file="+disk, "-device", "virtio-blk-pci,drive=d,bootindex=1")
		isUp(t, boot(t, append(args, "-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile=")...), "overlay / overlay rw")
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
	order, _ := export(t, newImage(t, tree(t)), exporter(func(r *target.RAMDisk) { r.URL = url }))
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
			out := boot(t, append(outright(order, c.words...), c.more...)...)
			if !strings.Contains(out, ramroot.Complaint) && c.want != "" || !strings.Contains(out, c.want) || !strings.Contains(out, "Kernel panic") {
				t.Errorf("%s", out)
			}
		})
	}
}

// TestVMTargetRAMDiskMemory measures the memory, and starts the system in the least.
func TestVMTargetRAMDiskMemory(t *testing.T) {
	needInit(t)
	image := newImage(t, tree(t))
	for name, change := range map[string]func(*target.RAMDisk){
		"squashfs": func(*target.RAMDisk) {},
		"fetched":  func(r *target.RAMDisk) { r.URL = "http://boot.example.org" },
		"initrd":   func(r *target.RAMDisk) { r.Layout = "initrd" },
	} {
		t.Run(name, func(t *testing.T) {
			e := exporter(change)
			e.Accelerator = func(context.Context) (machine.Accelerator, error) { return machine.TCG, nil }
			order := artefacttest.Order(t, image, &e.RAMDisk, e)
			m, err := order.Make(t.Context(), image, func(e event.Event) { t.Log(e.Text) })
			peer.Must(t, err)
			used, _ := m.Facts["memory_at_start"].(int64)
			if m.Facts["memory_measured"] != true || used < 32<<20 || used > 160<<20 {
				t.Errorf("facts: %v", m.Facts)
			}
			t.Log(m.Facts)
		})
	}
	e := exporter(func(r *target.RAMDisk) { r.MaxMemory = "48M" })
	e.Accelerator = func(context.Context) (machine.Accelerator, error) { return machine.TCG, nil }
	order := artefacttest.Order(t, image, &e.RAMDisk, e)
	if _, err := order.Make(t.Context(), image, nil); err == nil || !strings.Contains(err.Error(), "in a machine of 48 MiB of memory") {
		t.Errorf("the error: %v", err)
	}
}
