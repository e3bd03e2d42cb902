package ova

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/artefact"
	"herdbook/internal/artefact/artefacttest"
	"herdbook/internal/peer"
	"herdbook/internal/target"
)

func newImage(t *testing.T) *artefact.Image {
	return artefacttest.Kernel(t, "6.1.0-9-amd64", "ahci", "e1000")
}

func exporter() *Exporter { return &Exporter{target.OVA{CPUs: 2, Memory: 768}} }

func TestSuite(t *testing.T) {
	e := exporter()
	artefacttest.Suite(t, newImage(t), &e.OVA, e)
}

// virt-v2v reads appliances of VMware and of others, and holds files against the manifest.
func TestVirtV2vReadsIt(t *testing.T) {
	peer.NeedTool(t, "virt-v2v", "qemu-img", "tar", "sha1sum")
	image, e := newImage(t), exporter()
	order := artefacttest.Order(t, image, &e.OVA, e)
	_, err := order.Make(t.Context(), image, nil)
	peer.Must(t, err)
	t.Setenv("LIBGUESTFS_BACKEND", "direct")
	said := peer.Run(t, "virt-v2v", "-i", "ova", filepath.Join(order.Dir, "small.ova"), "--print-source", "-o", "null")
	for _, want := range []string{"source name: small", "nr vCPUs: 2", "memory: 805306368", "firmware: bios"} {
		if !strings.Contains(said, want) {
			t.Errorf("it says nothing of %q:\n%s", want, said)
		}
	}
	dir := t.TempDir()
	peer.Run(t, "tar", "-C", dir, "-xf", filepath.Join(order.Dir, "small.ova"))
	if out := peer.Run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "vmdk", image.Path(), filepath.Join(dir, "small-disk1.vmdk")); !strings.Contains(out, "identical") {
		t.Error(out)
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "small.mf"))
	peer.Must(t, err)
	for line := range strings.Lines(string(manifest)) {
		name, sum, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "SHA1("), ")= ")
		if out := peer.Run(t, "sha1sum", filepath.Join(dir, name)); !strings.HasPrefix(out, sum) {
			t.Errorf("%s is %s", line, out)
		}
	}
}
