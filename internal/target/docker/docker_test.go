package docker

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"golang.org/x/sys/unix"

	"herdbook/internal/artefact"
	"herdbook/internal/artefact/artefacttest"
	"herdbook/internal/peer"
	"herdbook/internal/target"
)

var modified = time.Date(2020, 5, 6, 7, 8, 9, 0, time.UTC)

// capability is what setcap cap_net_raw+ep writes.
var capability = []byte{1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// tree makes the files of a small system, whose every program is busybox.
func tree(t *testing.T) string {
	t.Helper()
	peer.NeedRoot(t, "owners and devices of other accounts")
	peer.NeedTool(t, "mke2fs")
	dir := t.TempDir()
	program := peer.Busybox(t)
	for name, content := range map[string]string{
		"bin/busybox": string(program), "usr/bin/ping": "ping", "usr/bin/su": "su", "srv/one": "hard", "srv/empty": "",
		"srv/ünï-" + strings.Repeat("long", 40): "name", "home/deploy/file": "mine",
		"etc/os-release": "ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"Small\"\n", "etc/hosts": "127.0.0.1 localhost\n", "var/lib/dpkg/status": "Package: bash\nStatus: install ok installed\nVersion: 5.2\nArchitecture: amd64\n", "etc/fstab": "# nothing\n",
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

// newImage makes an image of a tree, on a disk without partitions.
func newImage(t *testing.T, tree string) *artefact.Image {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", "-d", tree, path, "64M")
	return artefacttest.Image(t, path)
}

// newExporter is that of a target as a definition makes it.
func newExporter() *Exporter {
	return &Exporter{Docker: target.Docker{Tags: []string{"small:latest", "small:1"}, Formats: target.DockerFormats, SBOM: true}}
}

// export makes the artefact of a tree.
func export(t *testing.T, tree string) (artefact.Order, artefact.Manifest) {
	t.Helper()
	image, e := newImage(t, tree), newExporter()
	order := artefacttest.Order(t, image, &e.Docker, e)
	m, err := order.Make(t.Context(), image, nil)
	peer.Must(t, err)
	return order, m
}

func TestSuite(t *testing.T) {
	c := newChain(t, tree(t))
	c.change(t, "role", "role", func(in func(string) string) { peer.Must(t, os.WriteFile(in("srv/role"), []byte("role"), 0o644)) })
	for name, set := range map[string]func(*target.Docker){
		"layered": func(*target.Docker) {}, "squashed": func(d *target.Docker) { d.Squash = true }, "layout": func(d *target.Docker) { d.Formats = []string{"oci"} },
	} {
		t.Run(name, func(t *testing.T) {
			e := newExporter()
			set(&e.Docker)
			artefacttest.Suite(t, c.image(t), &e.Docker, e)
		})
	}
}

// entries reads the layer of a layout as NAME → header and content.
func entries(t *testing.T, e artefact.Order) map[string]string {
	t.Helper()
	r, err := layersOf(t, containerOf(t, e))[0].Uncompressed()
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
	e, m := export(t, tree(t))
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
	if unpacked, _ := m.Facts["unpacked_size"].(int64); unpacked < 5<<20 || m.Facts["digest"] == "" || !slices.Equal(m.Facts["command"].([]string), []string{"/bin/sh"}) {
		t.Errorf("the manifest: %+v", m)
	}
	peer.NeedTool(t, "skopeo")
	peer.Run(t, "skopeo", "inspect", "oci:"+filepath.Join(e.Dir, "small.oci")+":small:1")
}

func TestThePackagesAreListedAndRefer(t *testing.T) {
	e, m := export(t, tree(t))
	f, err := os.Open(filepath.Join(e.Dir, "small.cdx.json"))
	peer.Must(t, err)
	defer f.Close()
	var bom cyclonedx.BOM
	peer.Must(t, cyclonedx.NewBOMDecoder(f, cyclonedx.BOMFileFormatJSON).Decode(&bom))
	var list []string
	for _, c := range *bom.Components {
		list = append(list, c.Name+" "+c.Version+" "+c.PackageURL)
	}
	if want := []string{"debian 12 ", "bash 5.2 pkg:deb/debian/bash@5.2?arch=amd64&distro=debian-12"}; !slices.Equal(list, want) {
		t.Errorf("%q, want %q", list, want)
	}
	if bom.Metadata.Component.Version != m.Facts["digest"] || bom.Metadata.Timestamp != "2026-01-02T03:04:05Z" {
		t.Errorf("%+v", bom.Metadata)
	}
	at, err := layout.FromPath(filepath.Join(e.Dir, "small.oci"))
	peer.Must(t, err)
	index, err := at.ImageIndex()
	peer.Must(t, err)
	manifest, err := index.IndexManifest()
	peer.Must(t, err)
	last := manifest.Manifests[len(manifest.Manifests)-1]
	text, err := at.Bytes(last.Digest)
	peer.Must(t, err)
	var reference v1.Manifest
	peer.Must(t, json.Unmarshal(text, &reference))
	if last.ArtifactType != "application/vnd.cyclonedx+json" || reference.Subject.Digest.String() != m.Facts["digest"] {
		t.Errorf("%s", text)
	}
	content, err := at.Bytes(reference.Layers[0].Digest)
	peer.Must(t, err)
	file, err := os.ReadFile(filepath.Join(e.Dir, "small.cdx.json"))
	peer.Must(t, err)
	if !bytes.Equal(content, file) {
		t.Error("the layout has another list")
	}
}

// The configuration is what the definition says.
func TestConfiguration(t *testing.T) {
	e := newExporter()
	e.Entrypoint, e.Command, e.User, e.Workdir, e.StopSignal = []string{"/bin/cat"}, []string{"/etc/hosts"}, "www:33", "/srv", "SIGQUIT"
	e.Environment = map[string]string{"LANG": "C.UTF-8", "PATH": "/bin"}
	e.ExposedPorts, e.Volumes, e.Labels = []string{"80", "53/udp"}, []string{"/var/lib/x"}, map[string]string{"team": "web"}
	_, container := e.make(t, newImage(t, tree(t)))
	file, err := container.ConfigFile()
	peer.Must(t, err)
	c := file.Config
	layer := c.Labels["org.herdbook.layer"]
	want := v1.Config{
		Entrypoint: []string{"/bin/cat"}, Cmd: []string{"/etc/hosts"}, User: "www:33", WorkingDir: "/srv", StopSignal: "SIGQUIT", Env: []string{"LANG=C.UTF-8", "PATH=/bin"},
		ExposedPorts: map[string]struct{}{"80/tcp": {}, "53/udp": {}}, Volumes: map[string]struct{}{"/var/lib/x": {}}, Labels: map[string]string{"team": "web", "org.herdbook.layer": layer},
	}
	if diff := cmp.Diff(want, c); diff != "" || layer == "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A broken file system must not become an image that looks whole.
func TestABrokenFileSystemMakesNoImage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", "-d", tree(t), path, "64M")
	// The content of a file's inode: its checksum tells.
	peer.Run(t, "debugfs", "-w", "-R", "set_inode_field /srv/one checksum 0x1234", path)
	image, e := artefacttest.Image(t, path), newExporter()
	order := artefacttest.Order(t, image, &e.Docker, e)
	if _, err := order.Make(t.Context(), image, nil); err == nil || !strings.Contains(err.Error(), "export small to docker") {
		t.Errorf("the error: %v", err)
	}
	if names, err := os.ReadDir(order.Dir); err != nil || len(names) > 0 {
		t.Errorf("left: %v, %v", names, err)
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
	e, m := export(t, tree(t))
	run := podman(t, t.TempDir())
	run("load", "--quiet", "--input", filepath.Join(e.Dir, m.Main))
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
	if c := images[0]; !slices.Equal(c.Config.Cmd, []string{"/bin/sh"}) || c.Config.Labels["org.herdbook.layer"] != string(e.Layer) || !c.Created.Equal(artefacttest.Created) {
		t.Errorf("%+v", c)
	}
}
