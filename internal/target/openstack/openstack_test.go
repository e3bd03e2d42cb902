package openstack

import (
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/artefact"
	"herdbook/internal/artefact/artefacttest"
	"herdbook/internal/peer"
	"herdbook/internal/target"
)

// system are the files of a system that OpenStack can have.
func system() map[string]string {
	return map[string]string{
		"etc/os-release": "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Small\"\n", "etc/fstab": "# nothing\n",
		"usr/lib/systemd/systemd": "systemd", "sbin/init": "→/usr/lib/systemd/systemd",
		"boot/vmlinuz-6.1": "kernel", "lib/modules/6.1/modules.dep": "kernel/virtio_blk.ko:\nkernel/virtio_net.ko:\nkernel/isofs.ko:\n",
		"etc/cloud/cloud.cfg":          "users: [default]\nsystem_info:\n  distro: debian\n  default_user:\n    name: debian\n",
		"etc/cloud/cloud.cfg.d/05.cfg": "datasource_list: [ None ]\n",
	}
}

// newImage makes an image of a system's files, on a disk without partitions.
func newImage(t *testing.T, files map[string]string) *artefact.Image {
	t.Helper()
	peer.NeedTool(t, "busybox", "mke2fs", "qemu-img")
	tree := t.TempDir()
	for name, content := range files {
		path := filepath.Join(tree, name)
		peer.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if to, link := strings.CutPrefix(content, "→"); link {
			peer.Must(t, os.Symlink(to, path))
			continue
		}
		peer.Must(t, os.WriteFile(path, []byte(content), 0o644))
	}
	busybox, err := exec.LookPath("busybox")
	peer.Must(t, err)
	program, err := os.ReadFile(busybox)
	peer.Must(t, err)
	peer.Must(t, os.MkdirAll(filepath.Join(tree, "bin"), 0o755))
	peer.Must(t, os.WriteFile(filepath.Join(tree, "bin/sh"), program, 0o755))
	raw := filepath.Join(t.TempDir(), "disk")
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", "-d", tree, raw, "64M")
	return artefacttest.Image(t, raw)
}

// exporter is that of a target with its defaults.
func exporter(t *testing.T) *Exporter {
	t.Helper()
	made, ok := target.New("openstack", "small")
	if !ok {
		t.Fatal("there is no target openstack")
	}
	return &Exporter{OpenStack: *made.(*target.OpenStack)}
}

func TestSuite(t *testing.T) {
	for _, format := range []string{"qcow2", "raw"} {
		t.Run(format, func(t *testing.T) {
			image, e := newImage(t, system()), exporter(t)
			e.Format = format
			artefacttest.Suite(t, image, &e.OpenStack, e)
			order := artefacttest.Order(t, image, &e.OpenStack, e)
			m, err := order.Make(t.Context(), image, nil)
			peer.Must(t, err)
			main := filepath.Join(order.Dir, "small.openstack."+format)
			if m.Main != filepath.Base(main) {
				t.Errorf("the main file is %s", m.Main)
			}
			peer.Run(t, "qemu-img", "compare", "-f", "qcow2", "-F", format, image.Path(), main)
			told := peer.Run(t, "qemu-img", "info", "-f", format, main)
			if format == "qcow2" && !strings.Contains(told, "compression type: zlib") {
				t.Errorf("how it is compressed: %s", told)
			}
		})
	}
}

func TestWhatACloudIsToKnow(t *testing.T) {
	image, e := newImage(t, system()), exporter(t)
	e.QEMUGuestAgent, e.MinRAM, e.Properties = true, 256, map[string]string{"hw_disk_bus": "scsi", "os_version": "12.5", "note": "it's"}
	order := artefacttest.Order(t, image, &e.OpenStack, e)
	m, err := order.Make(t.Context(), image, nil)
	peer.Must(t, err)
	found, file, err := factsOf(m)
	peer.Must(t, err)
	if file != m.Files[0].Digest {
		t.Errorf("the file's digest: %s", file)
	}
	if found.Used < 1<<20 || found.Used >= found.VirtualSize {
		t.Errorf("%d bytes are used", found.Used)
	}
	found.Used = 0
	want := facts{VirtualSize: 64 << 20, Format: "qcow2", MinDisk: 1, MinRAM: 256, Properties: map[string]string{
		"os_type": "linux", "os_distro": "debian", "os_version": "12.5", "os_admin_user": "debian", "architecture": "x86_64", "hw_qemu_guest_agent": "yes",
		"hw_disk_bus": "scsi", "note": "it's", "herdbook_layer": string(image.Layer), "herdbook_image": "small",
	}}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, part := range []string{"--disk-format qcow2 --min-disk 1 --min-ram 256 ", ` --property 'note=it'\''s' `, " --file small.openstack.qcow2 small"} {
		if !strings.Contains(m.Use[0], part) {
			t.Errorf("%q is not in %s", part, m.Use[0])
		}
	}
}

func TestMinDiskIsAtLeastTheDisk(t *testing.T) {
	image, e := newImage(t, system()), exporter(t)
	e.MinDisk = 7
	if found, err := e.find(image); err != nil || found.MinDisk != 7 {
		t.Errorf("%+v, %v", found, err)
	}
	raw := filepath.Join(t.TempDir(), "disk")
	peer.Run(t, "qemu-img", "convert", "-O", "raw", image.Path(), raw)
	peer.Must(t, os.Truncate(raw, 2<<30+1<<20))
	large := artefacttest.Image(t, raw)
	if found, err := exporter(t).find(large); err != nil || found.MinDisk != 3 {
		t.Errorf("%+v, %v", found, err)
	}
	if e.MinDisk = 2; true {
		if _, err := e.find(large); err == nil || !strings.Contains(err.Error(), "3 are the least") {
			t.Errorf("too small a disk: %v", err)
		}
	}
}

func TestSystemsThatCannotHaveIt(t *testing.T) {
	if err := exporter(t).Fits(newImage(t, system()).System); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]map[string]string{
		"no kernel with modules":                     {"boot/vmlinuz-6.1": ""},
		"has no virtio_net":                          {"lib/modules/6.1/modules.dep": "kernel/virtio_blk.ko:\nkernel/isofs.ko:\n"},
		"neither systemd nor OpenRC":                 {"sbin/init": "→/lib/sysvinit/init"},
		"neither systemd nor OpenRC, and nothing el": {"sbin/init": "", "usr/lib/systemd/systemd": ""},
	} {
		files := system()
		maps.Copy(files, change)
		maps.DeleteFunc(files, func(_, content string) bool { return content == "" })
		if err := exporter(t).Fits(newImage(t, files).System); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "install") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	openrc := system()
	openrc["sbin/init"], openrc["sbin/openrc"] = "→/bin/busybox", "openrc"
	if err := exporter(t).Fits(newImage(t, openrc).System); err != nil {
		t.Errorf("OpenRC: %v", err)
	}
}

func TestTheNameOfTheOwnersAccount(t *testing.T) {
	files := system()
	files["etc/cloud/cloud.cfg.d/90_user.cfg"] = "system_info: {default_user: {name: herd}}\n"
	files["etc/cloud/cloud.cfg.d/95_broken.cfg"] = "{"
	if got := adminUser(newImage(t, files).System.Tree()); got != "herd" {
		t.Errorf("it is %q", got)
	}
	delete(files, "etc/cloud/cloud.cfg")
	delete(files, "etc/cloud/cloud.cfg.d/90_user.cfg")
	if got := adminUser(newImage(t, files).System.Tree()); got != "" {
		t.Errorf("without one it is %q", got)
	}
}

// libosinfo's own database has every name.
func TestDistributionsHaveTheNamesOfLibosinfo(t *testing.T) {
	const dir = "/usr/share/osinfo/os"
	_, err := os.Stat(dir)
	peer.Need(t, err == nil, "osinfo-db is not installed")
	var known []string
	peer.Must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`<distro>(.*)</distro>`).FindAllStringSubmatch(string(text), -1) {
			known = append(known, m[1])
		}
		return err
	}))
	names := append(slices.Collect(maps.Values(distros)), "debian", "ubuntu", "fedora", "centos", "rhel", "rocky", "almalinux", "ol", "sles")
	for _, name := range names {
		if !slices.Contains(known, name) {
			t.Errorf("libosinfo does not know %s", name)
		}
	}
}
