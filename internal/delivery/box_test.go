package delivery

import (
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/artefact/artefacttest"
	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/disk"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/plan"
	"herdbook/internal/repo"
	"herdbook/internal/serve"
	"herdbook/internal/signed"
	"herdbook/internal/store"
	"herdbook/internal/target"
)

// drove is an image with a kernel, the layers that its targets for Vagrant stand on, and
// a signed repository of boxes that is served.
type drove struct {
	Deliverer
	definition *definition.Definition
	layers     map[string]digest.Digest
	url        string
}

// newDrove has a target for each of the providers.
func newDrove(t *testing.T, providers ...string) *drove {
	t.Helper()
	small := artefacttest.Kernel(t, "6.1.0-9-amd64", "ahci", "e1000", "virtio_pci", "virtio_blk", "virtio-net")
	dir := t.TempDir()
	server, err := serve.New(serve.Options{Dir: filepath.Join(dir, "repo"), Now: clock})
	peer.Must(t, err)
	served := httptest.NewServer(server)
	t.Cleanup(served.Close)
	key, err := signed.NewKey("test", now)
	peer.Must(t, err)
	image := definition.Image{Name: small.Name, Publish: []definition.Publish{{Repository: "herd", Name: small.Name, Channel: repo.Stable}}}
	d := &drove{Deliverer: Deliverer{Store: small.Store, Now: clock}, layers: map[string]digest.Digest{small.Name: small.Layer}, url: served.URL}
	for _, provider := range providers {
		made, _ := target.New("vagrant", small.Name)
		made.(*target.Vagrant).Provider = provider
		to := definition.Target{Target: made, Image: small.Name, Output: filepath.Join(dir, "dist"), Steps: []definition.Step{{Name: "account"}}}
		image.Targets = append(image.Targets, to)
		d.layers[to.Place()] = layerOn(t, small.Store, small.Layer, to.Place())
	}
	d.definition = &definition.Definition{Images: []definition.Image{image}, Repositories: []definition.Repository{{
		Name: "herd", Path: filepath.Join(dir, "repo"), SigningKey: op.Secret{Value: string(key)}, Formats: []string{"qcow2", boxFormat}, PublicURL: served.URL,
	}}}
	return d
}

// layerOn adds a layer with no change of the disk, as the last one of an image.
func layerOn(t *testing.T, s *store.Store, parent digest.Digest, image string) digest.Digest {
	t.Helper()
	w, err := s.Begin(parent)
	peer.Must(t, err)
	peer.Must(t, disk.CreateOverlay(t.Context(), w.DiskPath(), w.BackingName(), disk.QCOW2, 0))
	peer.Run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 0 0 512", w.DiskPath()) // where a boot loader would be
	layer, err := w.Commit(store.Layer{Key: store.Key(digest.Of([]byte(image))), Image: image, Step: "account", Created: now})
	peer.Must(t, err)
	return layer.Digest
}

func (d *drove) image() *definition.Image { return &d.definition.Images[0] }

// virtualBox is what the definition says of the box for it.
func (d *drove) virtualBox() *target.Vagrant { return d.image().Targets[0].Target.(*target.Vagrant) }

// deliver does what a build does at its end.
func (d *drove) deliver(t *testing.T) error {
	var images []plan.Image
	for _, to := range d.image().Targets {
		images = append(images, plan.Image{Image: definition.Image{Name: to.Place(), Targets: []definition.Target{to}}})
	}
	return errors.Join(d.Export(t.Context(), images, d.layers), d.publish(t))
}

func (d *drove) publish(t *testing.T) error {
	return d.Publish(t.Context(), d.definition, d.image().Name, d.layers)
}

// entries are the revisions in the repository.
func (d *drove) entries(t *testing.T) []repo.Entry {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(d.definition.Repositories[0].Path, repo.IndexName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	peer.Must(t, err)
	x, err := repo.Parse(text)
	peer.Must(t, err)
	return x.Entries
}

func TestVagrantFollowsTheBoxOfATarget(t *testing.T) {
	peer.NeedTool(t, "vagrant", "qemu-img", "qemu-io")
	d := newDrove(t, "virtualbox", "libvirt")
	home := t.TempDir()
	vagrant := func(want string, args ...string) {
		t.Helper()
		c := exec.Command("vagrant", args...)
		c.Dir = home
		c.Env = append(os.Environ(), "VAGRANT_HOME="+home, "VAGRANT_CHECKPOINT_DISABLE=1", "VAGRANT_NO_COLOR=1", "LC_ALL=C.UTF-8", "http_proxy=", "https_proxy=")
		if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
			t.Fatalf("vagrant %q says nothing of %q: %v\n%s", args, want, err, out)
		}
	}
	unpacked := func(version, name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(home, "boxes", "small", version, "virtualbox", name))
		peer.Must(t, err)
		return string(text)
	}
	peer.Must(t, d.deliver(t))
	catalogue := d.url + "/vagrant/small.json"
	vagrant("Successfully added box 'small' (v1.0.0) for 'virtualbox'", "box", "add", catalogue, "--provider", "virtualbox")
	vagrant("Successfully added box 'small' (v1.0.0) for 'libvirt'", "box", "add", catalogue, "--provider", "libvirt")
	if got := unpacked("1.0.0", "info.json"); !strings.Contains(got, string(d.layers["small/vagrant-virtualbox"])) {
		t.Errorf("it is not the box of the target: %s", got)
	}
	vagrant("'small' for 'virtualbox' (v1.0.0) is up to date", "box", "outdated", "--global")

	// Another box is another version, though the image is the same.
	d.virtualBox().CPUs = 2
	peer.Must(t, d.deliver(t))
	vagrant("'small' for 'virtualbox' is outdated! Current: 1.0.0. Latest: 2.0.0", "box", "outdated", "--global")
	vagrant("Successfully added box 'small' (v2.0.0) for 'virtualbox'", "box", "update", "--box", "small", "--provider", "virtualbox")
	if got := unpacked("2.0.0", "Vagrantfile"); !strings.Contains(got, "machine.cpus = 2") {
		t.Errorf("the Vagrantfile of the second box:\n%s", got)
	}
	peer.Must(t, d.deliver(t))
	if list := d.entries(t); len(list) != 2 {
		t.Errorf("the revisions: %+v", list)
	}
}

func TestABoxThatIsNotThereOrAlteredIsNotPublished(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	d := newDrove(t, "virtualbox")
	err := d.publish(t)
	if err == nil || !strings.Contains(err.Error(), `its box for virtualbox is not there, which the target "vagrant-virtualbox" makes`) {
		t.Error(err)
	}
	peer.Must(t, d.deliver(t))
	box := filepath.Join(d.image().Targets[0].Output, "small.virtualbox.box")
	peer.Must(t, os.RemoveAll(d.definition.Repositories[0].Path))
	f, err := os.OpenFile(box, os.O_WRONLY, 0)
	peer.Must(t, err)
	_, err = f.WriteAt([]byte("spoilt"), 600)
	peer.Must(t, errors.Join(err, f.Close()))
	if err := d.publish(t); err == nil || !strings.Contains(err.Error(), box+" is not what was made, by its manifest") {
		t.Error(err)
	}
	if list := d.entries(t); len(list) > 0 {
		t.Errorf("it was published: %+v", list)
	}
	// What the message says helps.
	peer.Must(t, os.Remove(box))
	peer.Must(t, d.deliver(t))
	if list := d.entries(t); len(list) != 1 || list[0].Artefacts[1].Kind != "box.virtualbox" {
		t.Errorf("the revisions: %+v", list)
	}
}

func TestAnImageWithoutATargetHasABoxOfItsDisk(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	d := newDrove(t)
	peer.Must(t, d.deliver(t))
	peer.Must(t, d.deliver(t))
	if list := d.entries(t); len(list) != 1 || list[0].Artefacts[1].Kind != plainBox {
		t.Errorf("the revisions: %+v", list)
	}
}

func TestOnlyARepositoryOfBoxesTakesThem(t *testing.T) {
	d := newDrove(t, "virtualbox")
	box := d.image().Targets[0]
	docker, _ := target.New("docker", "small")
	if !TakesBox(d.definition, box) || TakesBox(d.definition, definition.Target{Target: docker, Image: "small"}) {
		t.Error("a box is taken, and nothing else")
	}
	d.definition.Repositories[0].Formats = []string{"qcow2"}
	if TakesBox(d.definition, box) {
		t.Error("the repository has no boxes")
	}
}
