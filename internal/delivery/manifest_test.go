package delivery

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/peer"
	"herdbook/internal/repo/manifest"
	"herdbook/internal/store"
)

// status is dpkg's, of packages as name=version=KiB.
func status(packages ...string) string {
	text := ""
	for _, p := range packages {
		f := strings.Split(p, "=")
		text += fmt.Sprintf("Package: %s\nStatus: install ok installed\nArchitecture: amd64\nVersion: %s\nInstalled-Size: %s\nDescription: it\n\n", f[0], f[1], f[2])
	}
	return text
}

// layered commits one layer upon another, with the raw disks.
func layered(t *testing.T, s *store.Store, disks []string) (top digest.Digest) {
	t.Helper()
	for i, raw := range disks {
		w, err := s.Begin(top)
		peer.Must(t, err)
		args := []string{"convert", "-f", "raw", "-O", "qcow2"}
		if top != "" {
			args = append(args, "-B", w.BackingName(), "-F", "qcow2")
		}
		// The name of the backing file counts from the directory that qemu-img is in.
		peer.Run(t, "sh", append([]string{"-c", `cd "$0" && exec qemu-img "$@"`, w.Dir}, append(args, raw, w.DiskPath())...)...)
		l, err := w.Commit(store.Layer{
			Key: store.Key(digest.Of([]byte{byte(i)})), Image: "web", Step: fmt.Sprintf("step %d", i), How: "host",
			Created: now.Add(time.Duration(i) * time.Minute), Elapsed: 1500 * time.Millisecond,
		})
		peer.Must(t, err)
		top = l.Digest
	}
	return top
}

// disks are those of an installation: an empty one, a system, a file more, and other
// packages.
func disks(t *testing.T) []string {
	t.Helper()
	peer.NeedTool(t, "mke2fs", "debugfs", "qemu-img")
	dir, tree := t.TempDir(), t.TempDir()
	path := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
	peer.Must(t, os.WriteFile(path(0), make([]byte, 32<<20), 0o600))
	for name, content := range map[string]string{
		"etc/os-release": "ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"Debian 12\"\n", "etc/hosts": "",
		"lib/modules/6.1.0-1/modules.dep": "", "boot/vmlinuz-6.1.0-1": "kernel",
		"var/lib/dpkg/status": status("base=1=10", "libc6=2.36=1000", "nano=7=100"),
	} {
		peer.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755))
		peer.Must(t, os.WriteFile(filepath.Join(tree, name), []byte(content), 0o644))
	}
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", "-d", tree, path(1), "32M")
	page, packages := path(9), path(10)
	peer.Must(t, os.WriteFile(page, bytes.Repeat([]byte("page"), 1<<18), 0o600))
	peer.Must(t, os.WriteFile(packages, []byte(status("base=1=10", "libc6=2.36-9=990", "nginx=1.22=500")), 0o600))
	peer.Run(t, "cp", path(1), path(2))
	peer.Run(t, "debugfs", "-w", "-R", "write "+page+" page", path(2))
	peer.Run(t, "cp", path(2), path(3))
	peer.Run(t, "debugfs", "-w", "-R", "rm /var/lib/dpkg/status", path(3))
	peer.Run(t, "debugfs", "-w", "-R", "write "+packages+" /var/lib/dpkg/status", path(3))
	return []string{path(0), path(1), path(2), path(3)}
}

func TestManifest(t *testing.T) {
	s, err := store.Open(t.TempDir())
	peer.Must(t, err)
	top := layered(t, s, disks(t))
	chain, err := s.Chain(top)
	peer.Must(t, err)
	for i, passed := range []bool{true, false} {
		peer.Must(t, s.Judge(top, store.Tested{Key: store.Key(digest.Of([]byte{9, byte(i)})), Image: "web", Test: fmt.Sprintf("test %d", i), Passed: passed, How: "tcg", Verdict: event.Verdict{
			Time: now, Elapsed: 2500 * time.Millisecond, Cases: []event.Case{{Outcome: event.Passed}, {Outcome: event.Skipped}},
		}}))
	}
	d := Deliverer{Store: s}
	m, err := d.Manifest(t.Context(), "web", top)
	peer.Must(t, err)

	dpkg := func(name, version string, size int64) manifest.Package {
		return manifest.Package{Manager: "dpkg", Name: name, Version: version, Architecture: "amd64", Size: size << 10}
	}
	list := func(p ...manifest.Package) manifest.List[manifest.Package] { return p }
	want := manifest.Manifest{
		Image: "web", Layer: top, Created: now.Add(3 * time.Minute), Size: 32 << 20,
		System:   manifest.System{Name: "Debian 12", ID: "debian", VersionID: "12", OSInfo: "debian12", Kernels: manifest.List[manifest.Kernel]{"6.1.0-1"}},
		Packages: list(dpkg("base", "1", 10), dpkg("libc6", "2.36-9", 990), dpkg("nginx", "1.22", 500)),
		Tests:    manifest.List[manifest.Test]{{Name: "test 0", Time: now, Elapsed: 2.5, How: "tcg", Cases: 2}},
	}
	for i, changes := range []*manifest.Changes{
		nil, // there is no system yet
		{Added: list(dpkg("base", "1", 10), dpkg("libc6", "2.36", 1000), dpkg("nano", "7", 100))},
		{},
		{
			Added: list(dpkg("nginx", "1.22", 500)), Removed: list(dpkg("nano", "7", 100)),
			Changed: manifest.List[manifest.Change]{{Manager: "dpkg", Name: "libc6", Architecture: "amd64", From: "2.36", To: "2.36-9", Grown: -10 << 10}},
		},
	} {
		want.Layers = append(want.Layers, manifest.Layer{
			Digest: chain[i].Digest, Image: "web", Step: fmt.Sprintf("step %d", i), Created: now.Add(time.Duration(i) * time.Minute),
			Elapsed: 1.5, How: "host", Size: chain[i].Size, Packages: changes, Used: m.Layers[i].Used, Grown: m.Layers[i].Grown,
		})
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Error(diff)
	}
	// The page has a MiB, the first layer nothing that is known.
	if l := m.Layers; l[0].Used != 0 || l[1].Used == 0 || l[1].Grown != 0 || l[2].Grown != 1<<20 || l[2].Used != l[1].Used+1<<20 || l[3].Grown < 0 {
		t.Errorf("%+v", l)
	}
	text, err := m.Format()
	peer.Must(t, err)
	if again, err := manifest.Parse(text); err != nil || !cmp.Equal(m.Packages, again.Packages) {
		t.Errorf("read back: %v", err)
	}
}

func TestManifestOfALayerWithoutSystem(t *testing.T) {
	s, err := store.Open(t.TempDir())
	peer.Must(t, err)
	top := layered(t, s, disks(t)[:1])
	d := Deliverer{Store: s}
	if _, err := d.Manifest(t.Context(), "web", top); err == nil || !strings.Contains(err.Error(), "no operating system") {
		t.Error(err)
	}
	if _, err := d.Manifest(t.Context(), "web", digest.Of(nil)); err == nil {
		t.Error("of no layer")
	}
}
