package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"golang.org/x/sys/unix"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/peer"
)

var (
	created  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	modified = time.Date(2020, 5, 6, 7, 8, 9, 0, time.UTC)
)

// capability is what setcap cap_net_raw+ep writes.
var capability = []byte{1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// tree makes the files of a small system, whose every program is busybox.
func tree(t *testing.T) string {
	t.Helper()
	peer.NeedRoot(t, "owners and devices of other accounts")
	peer.NeedTool(t, "busybox", "mke2fs")
	dir := t.TempDir()
	busybox, err := exec.LookPath("busybox")
	peer.Must(t, err)
	program, err := os.ReadFile(busybox)
	peer.Must(t, err)
	for name, content := range map[string]string{
		"bin/busybox": string(program), "usr/bin/ping": "ping", "usr/bin/su": "su", "srv/one": "hard", "srv/empty": "",
		"srv/ünï-" + strings.Repeat("long", 40): "name", "home/deploy/file": "mine",
		"etc/os-release": "ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"Small\"\n", "etc/hosts": "127.0.0.1 localhost\n", "etc/fstab": "# nothing\n",
		"etc/machine-id": "0123456789abcdef0123456789abcdef\n", "etc/passwd": "root:x:0:0:root:/:/bin/sh\n",
		"boot/vmlinuz-6.1": "kernel", "boot/initrd.img-6.1": "initrd", "boot/grub/grub.cfg": "menu", "usr/lib/modules/6.1/x.ko": "module",
		"usr/lib/firmware/x.bin": "firmware", "usr/lib/grub/x": "grub", "etc/default/grub": "GRUB=1", "run/pid": "1", "tmp/x": "x", "dev/file": "x",
		"usr/lib/modules-load.d/keep.conf": "keep",
	} {
		path := filepath.Join(dir, name)
		peer.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		peer.Must(t, os.WriteFile(path, []byte(content), 0o644))
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	peer.Must(t, os.Chmod(in("bin/busybox"), 0o755))
	for _, name := range []string{"sh", "cat", "stat", "ls", "id", "env"} {
		peer.Must(t, os.Symlink("busybox", in("bin/"+name)))
	}
	peer.Must(t, os.Symlink("/boot/vmlinuz-6.1", in("vmlinuz")))
	peer.Must(t, os.Link(in("srv/one"), in("srv/two")))
	sparse, err := os.Create(in("srv/sparse"))
	peer.Must(t, err)
	_, err = sparse.WriteAt([]byte("end"), 5<<20)
	peer.Must(t, errors.Join(err, sparse.Close()))
	peer.Must(t, unix.Mkfifo(in("srv/pipe"), 0o600))
	peer.Must(t, unix.Mknod(in("dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	peer.Must(t, unix.Mknod(in("srv/device"), unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0))))
	peer.Must(t, os.Chmod(in("usr/bin/su"), 0o4755|os.ModeSetuid))
	peer.Must(t, os.Chmod(in("tmp"), 0o777|os.ModeSticky))
	peer.Must(t, os.Chown(in("home/deploy/file"), 70000, 33))
	if err := errors.Join(
		unix.Setxattr(in("usr/bin/ping"), "security.capability", capability, 0),
		unix.Setxattr(in("srv/one"), "user.note", []byte("moo\x00\xff"), 0),
	); err != nil {
		t.Fatalf("attributes: %v", err)
	}
	for _, name := range []string{"usr/bin/su", "srv/one", "srv/sparse"} {
		peer.Must(t, os.Chtimes(in(name), modified, modified))
	}
	return dir
}

// system makes a disk of a tree, without partitions, and inspects it.
func system(t *testing.T, tree string) (*inspection.System, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", "-d", tree, path, "64M")
	image, err := disk.Open(path, disk.Raw)
	peer.Must(t, err)
	t.Cleanup(func() { peer.Must(t, image.Close()) })
	s, err := inspection.Disk(image, image.Size())
	peer.Must(t, err)
	return s, path
}

func newExport(t *testing.T, s *inspection.System) Export {
	t.Helper()
	return Export{
		System: s, Dir: filepath.Join(t.TempDir(), "dist"), Name: "small", Tags: []string{"small:latest", "small:1"},
		Labels: map[string]string{"org.herdbook.layer": "abc"}, Created: created, Source: "of this",
	}
}

// entries reads the layer of a layout as NAME → header and content.
func entries(t *testing.T, e Export) map[string]string {
	t.Helper()
	path, err := layout.FromPath(filepath.Join(e.Dir, "small.oci"))
	peer.Must(t, err)
	index, err := path.ImageIndex()
	peer.Must(t, err)
	peer.Must(t, validate.Index(index))
	manifest, err := index.IndexManifest()
	peer.Must(t, err)
	image, err := index.Image(manifest.Manifests[0].Digest)
	peer.Must(t, err)
	layers, err := image.Layers()
	peer.Must(t, err)
	r, err := layers[0].Uncompressed()
	peer.Must(t, err)
	defer r.Close()
	all := map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return all
		}
		peer.Must(t, err)
		content, err := io.ReadAll(tr)
		peer.Must(t, err)
		text := fmt.Sprintf("%c %04o %d:%d", h.Typeflag, h.Mode, h.Uid, h.Gid)
		if h.Typeflag == tar.TypeReg {
			text += fmt.Sprintf(" %d %x", len(content), content[:min(8, len(content))])
		}
		if h.Linkname != "" {
			text += " → " + h.Linkname
		}
		for _, name := range []string{"security.capability", "user.note"} {
			if value, ok := h.PAXRecords["SCHILY.xattr."+name]; ok {
				text += fmt.Sprintf(" %s=%x", name, value)
			}
		}
		if h.ModTime.Equal(modified) {
			text += " old"
		}
		if _, twice := all[h.Name]; twice {
			t.Errorf("%s stands there twice", h.Name)
		}
		all[h.Name] = text
	}
}

func TestTheLayerIsTheRootWithoutWhatBootsIt(t *testing.T) {
	s, _ := system(t, tree(t))
	e := newExport(t, s)
	m, err := e.Write(t.Context(), nil)
	peer.Must(t, err)
	got := entries(t, e)
	want := map[string]string{
		"usr/bin/ping":     "0 0644 0:0 4 70696e67 security.capability=" + fmt.Sprintf("%x", capability),
		"usr/bin/su":       "0 4755 0:0 2 7375 old",
		"srv/empty":        "0 0644 0:0 0 ",
		"srv/sparse":       "0 0644 0:0 5242883 0000000000000000 old",
		"srv/pipe":         "6 0600 0:0",
		"home/deploy/file": "0 0644 70000:33 4 6d696e65",
		"bin/sh":           "2 0777 0:0 → busybox",
		"tmp/":             "5 1777 0:0", "dev/": "5 0755 0:0", "run/": "5 0755 0:0", "boot/": "5 0755 0:0",
		"srv/ünï-" + strings.Repeat("long", 40): "0 0644 0:0 4 6e616d65",
		"usr/lib/modules-load.d/keep.conf":      "0 0644 0:0 4 6b656570",
	}
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s: %q, want %q", name, got[name], text)
		}
	}
	// One of two names is the file, the other a link to it.
	one, two := got["srv/one"], got["srv/two"]
	if strings.HasPrefix(one, "1") {
		one, two = two, one
	}
	if one != "0 0644 0:0 4 68617264 user.note=6d6f6f00ff old" || !strings.HasPrefix(two, "1 0644 0:0 → srv/") {
		t.Errorf("hard links: %q, %q", one, two)
	}
	for name := range got {
		for _, gone := range []string{"boot/vmlinuz", "boot/initrd", "boot/grub", "vmlinuz", "usr/lib/modules/", "usr/lib/firmware", "usr/lib/grub", "etc/default/grub", "etc/fstab", "etc/machine-id", "dev/null", "dev/file", "srv/device", "run/pid", "tmp/x", "lost+found"} {
			if strings.HasPrefix(name, gone) {
				t.Errorf("%s is there", name)
			}
		}
	}
	if m.Digest == "" || m.Rootfs < 5<<20 || m.Archive.Size == 0 || !slices.Equal(m.Command, []string{"/bin/sh"}) {
		t.Errorf("the manifest: %+v", m)
	}
	peer.NeedTool(t, "skopeo")
	peer.Run(t, "skopeo", "inspect", "oci:"+filepath.Join(e.Dir, "small.oci")+":small:1")
}

func TestEqualSystemsGiveEqualBytes(t *testing.T) {
	s, _ := system(t, tree(t))
	a, b := newExport(t, s), newExport(t, s)
	one, err := a.Write(t.Context(), nil)
	peer.Must(t, err)
	two, err := b.Write(t.Context(), nil)
	peer.Must(t, err)
	if diff := cmp.Diff(one, two); diff != "" {
		t.Error(diff)
	}
	x, err := os.ReadFile(a.ArchivePath())
	peer.Must(t, err)
	y, err := os.ReadFile(b.ArchivePath())
	peer.Must(t, err)
	if !bytes.Equal(x, y) {
		t.Error("the archives differ")
	}
}

func TestUpToDate(t *testing.T) {
	s, _ := system(t, tree(t))
	e := newExport(t, s)
	if e.UpToDate() {
		t.Error("it is, before anything was written")
	}
	_, err := e.Write(t.Context(), nil)
	peer.Must(t, err)
	if !e.UpToDate() {
		t.Error("it is not, behind Write")
	}
	other := e
	other.Source = "of something else"
	if other.UpToDate() {
		t.Error("it is, for another source")
	}
	for name, spoil := range map[string]func() error{
		"a cut archive":      func() error { return os.Truncate(e.ArchivePath(), 10) },
		"no archive":         func() error { return os.Remove(e.ArchivePath()) },
		"no layout":          func() error { return os.RemoveAll(filepath.Join(e.Dir, "small.oci")) },
		"a strange manifest": func() error { return os.WriteFile(e.ManifestPath(), []byte("{"), 0o644) },
	} {
		_, err := e.Write(t.Context(), nil)
		peer.Must(t, err)
		peer.Must(t, spoil())
		if e.UpToDate() {
			t.Errorf("it is, with %s", name)
		}
	}
}

// left lists a directory, hidden names too.
func left(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	peer.Must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestACancelledExportLeavesTheOldOne(t *testing.T) {
	s, _ := system(t, tree(t))
	e := newExport(t, s)
	_, err := e.Write(t.Context(), nil)
	peer.Must(t, err)
	before := left(t, e.Dir)
	ctx, cancel := context.WithCancel(t.Context())
	e.Source = "of something else"
	_, err = e.Write(ctx, func(e event.Event) {
		if e.Kind == event.Phase {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error: %v", err)
	}
	if diff := cmp.Diff(before, left(t, e.Dir)); diff != "" {
		t.Error(diff)
	}
	e.Source = "of this"
	if !e.UpToDate() {
		t.Error("the old one is spoilt")
	}
}

// A broken file system must not become an image that looks whole.
func TestABrokenFileSystemMakesNoImage(t *testing.T) {
	_, path := system(t, tree(t))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	peer.Must(t, err)
	// Noise in the inode tables: their checksums tell.
	where := peer.Run(t, "sh", "-c", "dumpe2fs "+path+" 2>/dev/null | sed -n 's/.*Inode table at \\([0-9]*\\)-.*/\\1/p' | head -1")
	var block int64
	_, err = fmt.Sscan(where, &block)
	peer.Must(t, err)
	size := int64(1024)
	if strings.Contains(peer.Run(t, "sh", "-c", "dumpe2fs -h "+path+" 2>/dev/null"), "Block size:               4096") {
		size = 4096
	}
	for inode := range int64(60) {
		if inode < 20 { // the root and the directories by which the system is known
			continue
		}
		_, err = f.WriteAt([]byte{0xa5, 0xa5}, block*size+inode*256+40)
		peer.Must(t, err)
	}
	peer.Must(t, f.Close())
	image, err := disk.Open(path, disk.Raw)
	peer.Must(t, err)
	defer image.Close()
	s, err := inspection.Disk(image, image.Size())
	if err != nil {
		return // that is early enough
	}
	e := newExport(t, s)
	if _, err := e.Write(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "export small to docker") {
		t.Errorf("the error: %v", err)
	}
	if names := left(t, e.Dir); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}

// podman runs podman on a storage of its own, as it runs in a container.
func podman(t *testing.T, dir string) func(args ...string) string {
	t.Helper()
	peer.NeedTool(t, "podman", "runc")
	common := []string{
		"--root", filepath.Join(dir, "storage"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "overlay",
		"--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file",
	}
	run := func(args ...string) string { return peer.Run(t, "podman", append(slices.Clone(common), args...)...) }
	t.Cleanup(func() {
		run("rmi", "--all", "--force")
		_ = unix.Unmount(filepath.Join(dir, "storage", "overlay"), unix.MNT_DETACH)
	})
	return run
}

func TestPodmanRunsIt(t *testing.T) {
	s, _ := system(t, tree(t))
	e := newExport(t, s)
	_, err := e.Write(t.Context(), nil)
	peer.Must(t, err)
	run := podman(t, t.TempDir())
	run("load", "--quiet", "--input", e.ArchivePath())
	in := func(script string) string {
		return run("run", "--rm", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "small:latest", "/bin/sh", "-c", script)
	}
	got := in(`stat -c '%a %u:%g %i' /usr/bin/su /home/deploy/file; [ $(stat -c %i /srv/one) = $(stat -c %i /srv/two) ] && echo same inode
ls /boot /lib/modules /usr/lib/firmware 2>/dev/null; cat /etc/fstab 2>/dev/null; ls -l /dev/null; echo $PATH`)
	for _, want := range []string{"4755 0:0", "644 70000:33", "same inode", "crw-rw-rw-", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in:\n%s", want, got)
		}
	}
	for _, gone := range []string{"vmlinuz", "6.1", "x.bin", "# nothing"} {
		if strings.Contains(got, gone) {
			t.Errorf("%q is in:\n%s", gone, got)
		}
	}
	var images []struct {
		Config struct {
			Cmd    []string
			Labels map[string]string
		}
		Created time.Time
	}
	peer.Must(t, json.Unmarshal([]byte(run("image", "inspect", "small:1")), &images))
	if c := images[0]; !slices.Equal(c.Config.Cmd, []string{"/bin/sh"}) || c.Config.Labels["org.herdbook.layer"] != "abc" || !c.Created.Equal(created) {
		t.Errorf("%+v", c)
	}
}
