package container

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"herdbook/internal/archive"
	"herdbook/internal/ext4"
	"herdbook/internal/filesystem"
	"herdbook/internal/peer"
)

// root is a small root with what a machine has and a container has not.
func root(t *testing.T) *filesystem.FS {
	t.Helper()
	peer.NeedRoot(t, "making devices")
	peer.NeedTool(t, "mke2fs")
	dir, raw := t.TempDir(), filepath.Join(t.TempDir(), "raw")
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{
		"boot/vmlinuz-6.1", "boot/grub/grub.cfg", "dev/file", "run/pid", "tmp/x", "proc/1/stat", "sys/kernel/x", "srv/page", "srv/boot/kept",
		"etc/fstab", "etc/machine-id", "etc/machine-id.d/kept", "etc/hosts", "etc/default/grub", "etc/default/grub.d/x", "etc/default/cron", "etc/grub.d/10_linux",
		"usr/lib/modules/6.1/x.ko", "usr/lib/modules-load.d/kept", "usr/lib/firmware/x", "usr/lib/grub/x", "lib/modules/6.1/x.ko", "var/lib/dbus/machine-id",
		"vmlinuz", "initrd.img.old", "swapfile", "opt/swapfile",
	} {
		peer.Must(t, os.MkdirAll(filepath.Dir(in(name)), 0o755))
		peer.Must(t, os.WriteFile(in(name), []byte(name), 0o644))
	}
	peer.Must(t, os.Symlink("page", in("srv/link")))
	peer.Must(t, os.Link(in("srv/page"), in("srv/two")))
	peer.Must(t, unix.Mkfifo(in("srv/pipe"), 0o644))
	peer.Must(t, unix.Mknod(in("srv/disk"), unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0))))
	peer.Must(t, unix.Mknod(in("srv/null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	peer.Must(t, unix.Mknod(in("srv/socket"), unix.S_IFSOCK|0o600, 0))
	peer.Must(t, errors.Join(unix.Setxattr(in("srv/page"), "user.kept", []byte("1"), 0), unix.Setxattr(in("srv/page"), "trusted.gone", []byte("1"), 0)))
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", "-d", dir, raw, "8M")
	f, err := os.Open(raw)
	peer.Must(t, err)
	t.Cleanup(func() { peer.Must(t, f.Close()) })
	opened, err := ext4.Open(f, 8<<20)
	peer.Must(t, err)
	return opened.FS
}

func TestWhatAContainerHas(t *testing.T) {
	for prefix, wanted := range map[string]string{"": "", "rootfs": "rootfs/"} {
		var out bytes.Buffer
		w := archive.NewWriter(&out, Attribute)
		peer.Must(t, errors.Join(Write(t.Context(), w, prefix, root(t)), w.Close()))
		var names []string
		for in := tar.NewReader(&out); ; {
			h, err := in.Next()
			if err == io.EOF {
				break
			}
			peer.Must(t, err)
			names = append(names, h.Name)
			if h.Name == wanted+"srv/page" {
				if _, ok := h.PAXRecords["SCHILY.xattr.trusted.gone"]; ok || h.PAXRecords["SCHILY.xattr.user.kept"] != "1" {
					t.Errorf("its attributes: %v", h.PAXRecords)
				}
			}
		}
		want := []string{
			"boot/", "dev/", "etc/", "etc/default/", "etc/default/cron", "etc/hosts", "etc/machine-id.d/", "etc/machine-id.d/kept", "lib/", "opt/", "opt/swapfile", "proc/", "run/",
			"srv/", "srv/boot/", "srv/boot/kept", "srv/link", "srv/page", "srv/pipe", "srv/two", "sys/", "tmp/", "usr/", "usr/lib/", "usr/lib/modules-load.d/", "usr/lib/modules-load.d/kept",
			"var/", "var/lib/", "var/lib/dbus/",
		}
		for i := range want {
			want[i] = wanted + want[i]
		}
		names = slices.DeleteFunc(names, func(n string) bool { return n == "./" || n == wanted }) // the root itself
		slices.Sort(names)
		slices.Sort(want)
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("behind %q (-want +got)\n%s", prefix, diff)
		}
	}
}

func TestItEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := errors.New("the user ends it")
	cancel(ended)
	w := archive.NewWriter(io.Discard, nil)
	if err := Write(ctx, w, "", root(t)); !errors.Is(err, ended) {
		t.Errorf("the error: %v", err)
	}
}

func TestAttributesThatTheRuntimeGives(t *testing.T) {
	for name, keep := range map[string]bool{
		"security.capability": true, "user.note": true, "system.posix_acl_access": true, "security.selinux": false, "security.ima": false, "security.evm": false,
		"trusted.overlay.opaque": false, "trustedness": true,
	} {
		if Attribute(name) != keep {
			t.Errorf("%s: %v", name, !keep)
		}
	}
}

func TestWhatIsEmptied(t *testing.T) {
	for _, name := range []string{"boot", "dev", "proc", "run", "sys", "tmp"} {
		if !Empties(name) || Empties("srv/"+name) || Empties(strings.ToUpper(name)) {
			t.Errorf("%s is not emptied at the top alone", name)
		}
	}
}
