package workshop

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"

	"herdbook/internal/inspection"
	"herdbook/internal/kmod"
	"herdbook/internal/kmod/kmodtest"
	"herdbook/internal/mapper"
	"herdbook/internal/peer"
)

func TestMissingModules(t *testing.T) {
	tree := kmodtest.Tree(t)
	m := kmodtest.Read(t, tree)
	if _, err := m.Order([]string{"ext4", "virtio-scsi"}, nil); err == nil || err.Error() != "it has no module virtio_scsi, nor is it built in" {
		t.Errorf("%v", err)
	}
	// Listed, but not there.
	files, err := m.Order([]string{"unused"}, nil)
	peer.Must(t, err)
	if _, err := pack(m, files, nil); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "kernel/other/missing.ko") {
		t.Errorf("%v", err)
	}
	delete(tree, kmodtest.Dir+"/modules.builtin")
	if _, err := kmodtest.Read(t, tree).Order([]string{"virtio_console"}, nil); err == nil {
		t.Error("nothing is built in, and no error")
	}
	delete(tree, kmodtest.Dir+"/modules.dep")
	if _, err := kmod.Read(tree, kmodtest.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// A module of a hostile image may need all others, or what is no module.
func TestHostileDependencies(t *testing.T) {
	var many strings.Builder
	many.WriteString("kernel/ext4.ko:")
	for i := range 100000 {
		fmt.Fprintf(&many, " kernel/m%d.ko", i)
	}
	for text, want := range map[string]string{
		many.String() + "\n":                       "it has 100000 to be loaded, more than 500",
		"kernel/ext4.ko: kernel/ext4.ko\n":         "",
		"kernel/ext4.ko: ../../../../etc/shadow\n": "does not exist",
		"kernel/ext4.ko: ../../../etc/shadow\n":    "", // the image's own, which it may load
		"kernel/ext4.ko: kernel\n":                 "read lib/modules",
		"/kernel/ext4.ko:\n":                       "",
	} {
		tree := fstest.MapFS{kmodtest.Dir + "/modules.dep": {Data: []byte(text)}, kmodtest.Dir + "/kernel/ext4.ko": {Data: []byte("x")}, "etc/shadow": {Data: []byte("x")}}
		m := kmodtest.Read(t, tree)
		files, err := m.Order([]string{"ext4"}, nil)
		if err == nil {
			_, err = pack(m, files, nil)
		}
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
	}
}

// unpack reads an initramfs with u-root's reader.
func unpack(t testing.TB, initramfs []byte) (order []string, content map[string]string) {
	t.Helper()
	content = map[string]string{}
	peer.Must(t, cpio.ForEachRecord(cpio.Newc.Reader(bytes.NewReader(initramfs)), func(r cpio.Record) error {
		order = append(order, r.Name)
		p, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
		content[r.Name] = fmt.Sprintf("%o %d:%d %d %s", r.Mode, r.UID, r.GID, r.MTime, p)
		return err
	}))
	return order, content
}

func TestPackIsWhatTheAgentWantsToFind(t *testing.T) {
	m := kmodtest.Read(t, kmodtest.Tree(t))
	files, err := m.Order([]string{"virtio_pci", "ext4"}, []string{"crc32c-intel"})
	peer.Must(t, err)
	initramfs, err := pack(m, files, []byte("the agent"))
	peer.Must(t, err)
	_, got := unpack(t, initramfs)
	want := map[string]string{
		"dev": "40755 0:0 0 ", "dev/console": "20600 0:0 0 ", "sysroot": "40755 0:0 0 ", "init": "100755 0:0 0 the agent",
		"etc": "40755 0:0 0 ", "etc/herdbook": "40755 0:0 0 ", "modules": "40755 0:0 0 ",
		"etc/herdbook/modules": "100644 0:0 0 /modules/crc32c_intel.ko\n/modules/virtio_ring.ko\n/modules/virtio.ko\n/modules/virtio_pci_modern_dev.ko\n/modules/virtio_pci.ko\n/modules/jbd2.ko\n/modules/crc16.ko\n/modules/ext4.ko\n",
	}
	for _, name := range []string{"crc32c_intel", "virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci", "jbd2", "crc16", "ext4"} {
		want["modules/"+name+".ko"] = "100644 0:0 0 content of " + name
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	peer.NeedTool(t, "cpio")
	cmd := exec.Command("cpio", "-it", "--quiet")
	cmd.Stdin = bytes.NewReader(initramfs)
	list, err := cmd.Output()
	if order, _ := unpack(t, initramfs); err != nil || strings.Join(order, "\n")+"\n" != string(list) {
		t.Errorf("cpio reads %q, %v", list, err)
	}
}

func TestEqualInputsMakeEqualBytes(t *testing.T) {
	sums := map[[32]byte]bool{}
	for range 3 {
		m := kmodtest.Read(t, kmodtest.Tree(t))
		files, err := m.Order([]string{"virtio_pci", "virtio_blk", "ext4"}, optional)
		peer.Must(t, err)
		initramfs, err := pack(m, files, []byte("agent"))
		peer.Must(t, err)
		sums[sha256.Sum256(initramfs)] = true
	}
	if len(sums) != 1 {
		t.Errorf("%d different ones", len(sums))
	}
}

// Modules that are just small enough, but many.
func TestTooManyLargeModules(t *testing.T) {
	const size = 64 << 20
	var deps strings.Builder
	tree := fstest.MapFS{}
	var files []string
	for i := range maxModulesTotal/size + 1 {
		name := fmt.Sprintf("m%d.ko", i)
		files = append(files, name)
		deps.WriteString(name + ":\n")
		tree[kmodtest.Dir+"/"+name] = &fstest.MapFile{Data: make([]byte, size)}
	}
	tree[kmodtest.Dir+"/modules.dep"] = &fstest.MapFile{Data: []byte(deps.String())}
	if _, err := pack(kmodtest.Read(t, tree), files, nil); err == nil || !strings.Contains(err.Error(), "the modules have more than") {
		t.Errorf("the error: %v", err)
	}
}

// systemOf makes a small image of a system and inspects it.
func systemOf(t testing.TB, more fstest.MapFS) *inspection.System {
	t.Helper()
	peer.NeedTool(t, "mke2fs")
	dir, image := t.TempDir(), filepath.Join(t.TempDir(), "image")
	tree := fstest.MapFS{"etc/os-release": {Data: []byte("ID=debian\n")}, "etc/hosts": {}}
	for name, file := range more {
		tree[name] = file
	}
	for name, file := range tree {
		p := filepath.Join(dir, name)
		peer.Must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		peer.Must(t, os.WriteFile(p, file.Data, 0o644))
		if size, ok := file.Sys.(int64); ok {
			peer.Must(t, os.Truncate(p, size))
		}
	}
	peer.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-d", dir, image, "8M")
	f, err := os.Open(image)
	peer.Must(t, err)
	t.Cleanup(func() { peer.Must(t, f.Close()) })
	s, err := inspection.Disk(f, 8<<20)
	peer.Must(t, err)
	return s
}

func TestBuildTakesTheNewestKernel(t *testing.T) {
	tree := kmodtest.Tree(t)
	tree["boot/vmlinuz-6.1.0-9-amd64"] = &fstest.MapFile{Data: []byte("nine")}
	tree["boot/vmlinuz-6.1.0-8-amd64"] = &fstest.MapFile{Data: []byte("eight")}
	tree["boot/vmlinuz-6.1.0-10-amd64"] = &fstest.MapFile{Data: []byte("ten, without modules")}
	tree["lib/modules/6.1.0-8-amd64/modules.dep"] = &fstest.MapFile{}
	s := systemOf(t, tree)
	plain, err := Build(s, []byte("agent"), false)
	peer.Must(t, err)
	if plain.Version != "6.1.0-9-amd64" || string(plain.Kernel) != "nine" {
		t.Errorf("%s, %q", plain.Version, plain.Kernel)
	}
	_, content := unpack(t, plain.Initramfs)
	if list := content["etc/herdbook/modules"]; strings.Contains(list, "virtio_net") || !strings.Contains(list, "/modules/nls_iso8859_1.ko\n") || !strings.HasSuffix(list, "/modules/ext4.ko\n") {
		t.Errorf("%q", list)
	}
	again, err := Build(systemOf(t, tree), []byte("agent"), false)
	if err != nil || !bytes.Equal(again.Initramfs, plain.Initramfs) {
		t.Errorf("another copy of the image makes other bytes: %v", err)
	}
	network, err := Build(s, []byte("agent"), true)
	peer.Must(t, err)
	if _, content := unpack(t, network.Initramfs); !strings.HasSuffix(content["etc/herdbook/modules"], "/modules/net_failover.ko\n/modules/virtio_net.ko\n") {
		t.Errorf("%q", content["etc/herdbook/modules"])
	}
	// vfat is wanted for a mount of it only; here it is built in.
	s.Mounts = append(s.Mounts, inspection.Mount{Partition: 1, Dir: "/boot/efi", Type: "vfat"})
	if _, err := Build(s, nil, false); err != nil {
		t.Error(err)
	}
}

func TestBuildRefuses(t *testing.T) {
	const kernel = "boot/vmlinuz-6.1.0-9-amd64"
	with := func(change func(fstest.MapFS)) *inspection.System {
		tree := kmodtest.Tree(t)
		tree[kernel] = &fstest.MapFile{Data: []byte("kernel")}
		change(tree)
		return systemOf(t, tree)
	}
	vfat := with(func(tree fstest.MapFS) {
		tree[kmodtest.Dir+"/modules.builtin"].Data = []byte("kernel/virtio_console.ko\n")
	})
	vfat.Mounts = append(vfat.Mounts, inspection.Mount{Type: "vfat"})
	for want, s := range map[string]*inspection.System{
		"the image has no kernel with modules in /boot and /lib/modules; add one to its packages, such as linux-image-amd64": with(func(tree fstest.MapFS) { delete(tree, kernel) }),
		"read the image's kernel: read boot/vmlinuz-6.1.0-9-amd64: it has more than 268435456 bytes": with(func(tree fstest.MapFS) {
			tree[kernel] = &fstest.MapFile{Sys: int64(maxKernel + 1)}
		}),
		"find the modules of kernel 6.1.0-9-amd64: it has no module virtio_console, nor is it built in":             with(func(tree fstest.MapFS) { delete(tree, kmodtest.Dir+"/modules.builtin") }),
		"read the modules of kernel 6.1.0-9-amd64: open lib/modules/6.1.0-9-amd64/modules.dep: file does not exist": with(func(tree fstest.MapFS) { delete(tree, kmodtest.Dir+"/modules.dep") }),
		"make the workshop's initramfs: open lib/modules/6.1.0-9-amd64/kernel/fs/ext4/ext4.ko":                      with(func(tree fstest.MapFS) { delete(tree, kmodtest.Dir+"/kernel/fs/ext4/ext4.ko") }),
		"find the modules of kernel 6.1.0-9-amd64: it has no module vfat":                                           vfat,
	} {
		if _, err := Build(s, nil, false); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestAgentIsAProgramOrMissed(t *testing.T) {
	agent, err := Agent()
	if err != nil && !errors.Is(err, ErrNoAgent) || err == nil && !bytes.HasPrefix(agent, []byte("\x7fELF")) {
		t.Errorf("%.10q, %v", agent, err)
	}
}

// The modules of a real kernel, in the order that modprobe has.
func TestRealModules(t *testing.T) {
	list, err := filepath.Glob("/lib/modules/*/modules.dep")
	peer.Must(t, err)
	peer.Need(t, len(list) > 0, "no kernel's modules are installed")
	peer.NeedTool(t, "modprobe")
	for _, file := range list {
		dir := filepath.Dir(file)
		m, err := kmod.Read(os.DirFS("/"), strings.TrimPrefix(dir, "/"))
		peer.Must(t, err)
		needed := append(slices.Clone(required), "vfat", "btrfs", "virtio_net")
		files, err := m.Order(needed, optional)
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		for _, name := range needed {
			one, err := m.Order([]string{name}, nil)
			peer.Must(t, err)
			if len(one) == 0 { // it is built in
				continue
			}
			if want := modprobe(t, filepath.Base(dir), name); !slices.Equal(kmodtest.Names(one), want) {
				t.Errorf("%s: %v, modprobe loads %v", name, kmodtest.Names(one), want)
			}
		}
		initramfs, err := pack(m, files, []byte("agent"))
		peer.Must(t, err)
		_, content := unpack(t, initramfs)
		for name, text := range content {
			if strings.HasSuffix(name, ".ko") && !strings.HasPrefix(text, "100644 0:0 0 \x7fELF") {
				t.Errorf("%s is no module: %.30q", name, text)
			}
		}
	}
}

// modprobe lists what the real one would load; what is there for a soft
// dependency, which the agent has by other means, is left out.
func modprobe(t *testing.T, version, name string) []string {
	t.Helper()
	var list []string
	for line := range strings.Lines(peer.Run(t, "modprobe", "-S", version, "--show-depends", "--ignore-install", name)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "insmod" && (kmod.Name(f[1]) == "libcrc32c" || !strings.Contains(f[1], "crc32c")) && !slices.Contains(checksums, kmod.Name(f[1])) {
			list = append(list, kmod.Name(f[1]))
		}
	}
	return list
}

func TestLayersNeedTheirModules(t *testing.T) {
	crypt := mapper.Device{Table: []mapper.Target{{Type: mapper.Crypted, Crypt: &mapper.Crypt{}}}}
	mirror := mapper.Device{Table: []mapper.Target{{Type: mapper.Mirror}, {Type: mapper.Linear}}}
	linear := mapper.Device{Table: []mapper.Target{{Type: mapper.Linear}, {Type: mapper.Striped}}}
	for want, devices := range map[string][]mapper.Device{
		"": nil, "dm_mod": {linear}, "dm_mod dm_mirror dm_mod": {mirror, linear}, "dm_mod dm_crypt": {crypt},
	} {
		needed, useful := layerModules(devices)
		if got := strings.Join(needed, " "); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if slices.Contains(useful, "xts") != strings.Contains(want, "crypt") {
			t.Errorf("%q: ciphers %q", want, useful)
		}
	}
}
