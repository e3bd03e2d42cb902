// Package ramdisktest is a small system that boots out of memory, for tests of what brings
// it there. Only tests import it.
package ramdisktest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/artefact"
	"herdbook/internal/artefact/artefacttest"
	"herdbook/internal/kmod"
	"herdbook/internal/machine"
	"herdbook/internal/peer"
)

// Capability is the attribute security.capability of /usr/bin/ping, as setcap
// cap_net_raw+ep writes it.
var Capability = []byte{1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

const fstab = `# what is mounted
UUID=6c1a / ext4 errors=remount-ro 0 1
PARTLABEL=boot /boot/efi vfat nofail 0 0
/dev/vda5 none swap sw 0 0
swapfile none swap sw 0 0
tmpfs /scratch tmpfs size=10M 0 0
nas:/home /home nfs noauto 0 0
`

// script is the init of the small system: it says what it finds, and leaves something.
const script = `#!/bin/sh
echo "root is $(grep ' / ' /proc/mounts)"
[ -e /srv/left ] && echo "state: left by another boot" || echo "state: fresh"
echo x >/srv/left && echo "state: written"
ls / | grep -q herdbook && echo "something of herdbook is left"
echo "$(stat -c '%a %u:%g' /usr/bin/su) $(stat -c %h /srv/one) $(cat /srv/two)"
echo "machine-id has $(wc -c </etc/machine-id) bytes"
ifconfig -a 2>/dev/null | grep -q 'inet addr:10' && echo "an address is left"
echo "the small system is up"
poweroff -f
`

// Tree makes the files of a small system of busybox and the kernel of this host, with what
// a root in memory needs of its modules, and those that more names. The system says what it
// finds, and ends the machine.
func Tree(t testing.TB, more func(*kmod.Modules) []string) string {
	t.Helper()
	peer.NeedRoot(t, "owners and devices of other accounts")
	peer.NeedTool(t, "busybox", "mke2fs", "mksquashfs", "xz")
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, content []byte, mode os.FileMode) {
		peer.Must(t, os.MkdirAll(filepath.Dir(in(name)), 0o755))
		peer.Must(t, os.WriteFile(in(name), content, mode))
	}
	busybox, err := exec.LookPath("busybox")
	peer.Must(t, err)
	program, err := os.ReadFile(busybox)
	peer.Must(t, err)
	write("bin/busybox", program, 0o755)
	write("sbin/init", []byte(script), 0o755)
	for name, content := range map[string]string{
		"etc/os-release": "ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"Small\"\n", "etc/fstab": fstab, "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
		"etc/crypttab": "x y z\n", "boot/initrd.img-1": "initrd", "init": "another", "usr/bin/ping": "ping", "usr/bin/su": "su", "srv/one": "hard",
		"usr/lib/modules/1.0-other/modules.dep": "", "run/pid": "1", "var/spool/x": "x",
	} {
		write(name, []byte(content), 0o644)
	}
	for _, name := range []string{"sh", "stat", "ls", "cat", "wc", "grep", "ifconfig", "poweroff", "mount"} {
		peer.Must(t, os.Symlink("busybox", in("bin/"+name)))
	}
	peer.Must(t, os.Symlink("usr/lib", in("lib")))
	for _, name := range []string{"dev", "proc", "sys", "tmp"} {
		peer.Must(t, os.Mkdir(in(name), 0o755))
	}
	peer.Must(t, os.Link(in("srv/one"), in("srv/two")))
	peer.Must(t, unix.Mknod(in("srv/device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	peer.Must(t, os.Chown(in("usr/bin/su"), 0, 33))
	peer.Must(t, os.Chmod(in("usr/bin/su"), 0o4755|os.ModeSetuid))
	peer.Must(t, unix.Setxattr(in("usr/bin/ping"), "security.capability", Capability, 0))
	addKernel(t, more, write)
	return dir
}

// addKernel adds the kernel of this host, with the modules that an initrd may need.
func addKernel(t testing.TB, more func(*kmod.Modules) []string, write func(name string, content []byte, mode os.FileMode)) {
	t.Helper()
	kernels, err := filepath.Glob("/boot/vmlinuz-*")
	peer.Must(t, err)
	peer.Need(t, len(kernels) > 0, "no kernel is installed")
	version := strings.TrimPrefix(kernels[len(kernels)-1], "/boot/vmlinuz-")
	dir := path.Join("lib/modules", version)
	m, err := kmod.Read(os.DirFS("/"), dir)
	peer.Must(t, err)
	files, err := m.Order(nil, append(more(m), "loop", "squashfs", "overlay"))
	peer.Must(t, err)
	for _, name := range append(files, "modules.dep", "modules.builtin", "modules.alias") {
		content, err := os.ReadFile(filepath.Join("/", dir, name))
		peer.Must(t, err)
		write(path.Join("usr", dir, name), content, 0o644)
	}
	for _, name := range []string{"vmlinuz-", "config-"} {
		content, err := os.ReadFile("/boot/" + name + version)
		peer.Must(t, err)
		write("boot/"+name+version, content, 0o644)
	}
}

// Image makes an image of a tree, on a disk without partitions.
func Image(t testing.TB, tree string) *artefact.Image {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk")
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", "-d", tree, disk, "320M")
	return artefacttest.Image(t, disk)
}

// Boot runs a machine without a disk of its own until it ends, and returns what its console
// says.
func Boot(t testing.TB, args ...string) string {
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

// IsUp looks for what the small system says on a console, with its root mounted as given,
// and for nothing of the boots before.
func IsUp(t testing.TB, out, root string) {
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

// Firmware makes a machine start by UEFI: by the firmware that herdbook takes or by one with
// the keys of Secure Boot, which Debian and Ubuntu have. The variables are a copy.
func Firmware(t testing.TB, secure bool) []string {
	t.Helper()
	code, vars, err := machine.Firmwares()
	if secure {
		code, vars = "/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
		_, err = os.Stat(code)
	}
	peer.Need(t, err == nil, "there is no UEFI firmware; make packages installs what the tests need")
	content, err := os.ReadFile(vars)
	peer.Must(t, err)
	own := filepath.Join(t.TempDir(), "vars")
	peer.Must(t, os.WriteFile(own, content, 0o600))
	return []string{
		"-global", "driver=cfi.pflash01,property=secure,value=" + strconv.FormatBool(secure),
		"-drive", "if=pflash,format=raw,readonly=on,file=" + code, "-drive", "if=pflash,format=raw,file=" + own,
	}
}
