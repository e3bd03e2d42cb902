package vagrant

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/artefact"
	"herdbook/internal/artefact/artefacttest"
	"herdbook/internal/peer"
	"herdbook/internal/target"
)

// everyDriver is a kernel for every machine.
func everyDriver(t *testing.T) *artefact.Image {
	return artefacttest.Kernel(t, "6.1.0-9-amd64", "ahci", "e1000", "virtio_pci", "virtio_blk", "virtio-net")
}

// exporter is that of a target as a definition makes it.
func exporter(t *testing.T, provider string) *Exporter {
	t.Helper()
	made, ok := target.New("vagrant", "small")
	if !ok {
		t.Fatal("there is no target of this kind")
	}
	e := &Exporter{Vagrant: *made.(*target.Vagrant)}
	e.Provider = provider
	if problems := e.Check(); problems != nil {
		t.Fatal(problems)
	}
	return e
}

func TestSuite(t *testing.T) {
	image := everyDriver(t)
	for _, provider := range []string{"virtualbox", "libvirt"} {
		t.Run(provider, func(t *testing.T) {
			e := exporter(t, provider)
			artefacttest.Suite(t, image, &e.Vagrant, e)
		})
	}
}

// unpacked makes a box and unpacks it; it returns the directory and its files in the
// order of the box.
func unpacked(t *testing.T, image *artefact.Image, e *Exporter) (dir string, names []string) {
	t.Helper()
	order := artefacttest.Order(t, image, &e.Vagrant, e)
	m, err := order.Make(t.Context(), image, nil)
	peer.Must(t, err)
	box, err := os.Open(filepath.Join(order.Dir, m.Main))
	peer.Must(t, err)
	defer box.Close()
	dir = t.TempDir()
	for r := tar.NewReader(box); ; {
		h, err := r.Next()
		if err == io.EOF {
			return dir, names
		}
		peer.Must(t, err)
		names = append(names, h.Name)
		out, err := os.Create(filepath.Join(dir, h.Name))
		peer.Must(t, err)
		_, err = io.Copy(out, r)
		peer.Must(t, errors.Join(err, out.Close()))
	}
}

// content is a file of a directory.
func content(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	peer.Must(t, err)
	return string(text)
}

func TestABoxForVirtualBox(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	image, e := everyDriver(t), exporter(t, "virtualbox")
	dir, names := unpacked(t, image, e)
	if diff := cmp.Diff([]string{"Vagrantfile", "info.json", "metadata.json", "box.ovf", "box-disk001.vmdk"}, names); diff != "" {
		t.Error(diff)
	}
	mac := regexp.MustCompile(`base_mac = "(080027[0-9A-F]{6})"`).FindStringSubmatch(content(t, dir, "Vagrantfile"))
	if mac == nil || !strings.Contains(content(t, dir, "box.ovf"), ">"+mac[1]+"<") {
		t.Errorf("the address: %v, and the OVF:\n%s", mac, content(t, dir, "box.ovf"))
	}
	if got := content(t, dir, "metadata.json"); got != "{\"provider\":\"virtualbox\"}\n" {
		t.Errorf("metadata.json: %s", got)
	}
	if got := content(t, dir, "info.json"); !strings.Contains(got, `"version": "20260102.30405.0"`) || !strings.Contains(got, string(image.Layer)) {
		t.Errorf("info.json: %s", got)
	}
	vmdk := filepath.Join(dir, "box-disk001.vmdk")
	if out := peer.Run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "vmdk", image.Path(), vmdk); !strings.Contains(out, "identical") {
		t.Error(out)
	}
}

func TestABoxForLibvirt(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	image, e := everyDriver(t), exporter(t, "libvirt")
	e.BoxVersion, e.CPUs, e.Memory = "1.2.0", 2, 768
	dir, names := unpacked(t, image, e)
	if diff := cmp.Diff([]string{"Vagrantfile", "info.json", "metadata.json", "box.img"}, names); diff != "" {
		t.Error(diff)
	}
	if got := content(t, dir, "metadata.json"); got != `{"provider":"libvirt","format":"qcow2","virtual_size":1}`+"\n" {
		t.Errorf("metadata.json: %s", got)
	}
	for _, line := range []string{"provider :libvirt do", "cpus = 2", "memory = 768", `type: "rsync"`} {
		if got := content(t, dir, "Vagrantfile"); !strings.Contains(got, line) || strings.Contains(got, "base_mac") {
			t.Errorf("no %s in the Vagrantfile:\n%s", line, got)
		}
	}
	if got := content(t, dir, "info.json"); !strings.Contains(got, `"version": "1.2.0"`) {
		t.Errorf("info.json: %s", got)
	}
	if out := peer.Run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", image.Path(), filepath.Join(dir, "box.img")); !strings.Contains(out, "identical") {
		t.Error(out)
	}
}

func TestAKernelThatCannotDriveTheMachineIsRefused(t *testing.T) {
	cloud := artefacttest.Kernel(t, "6.1.0-9-cloud-amd64", "virtio_pci", "virtio_blk", "virtio_net")
	err := exporter(t, "virtualbox").Fits(cloud.System)
	want := "the kernel 6.1.0-9-cloud-amd64 cannot drive the machine's disk and network: it lacks ahci, e1000; " +
		"install linux-image-amd64 instead of linux-image-cloud-amd64"
	if err == nil || err.Error() != want {
		t.Errorf("the error: %v\nwant: %s", err, want)
	}
	if err := exporter(t, "libvirt").Fits(cloud.System); err != nil {
		t.Error(err)
	}
	if err := exporter(t, "virtualbox").Fits(everyDriver(t).System); err != nil {
		t.Error(err)
	}
}
