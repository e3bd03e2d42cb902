package doors

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/peer"
	"herdbook/internal/repo"
)

// box is one for libvirt, with a disk of a few bytes, which adding it does not read.
func box(t testing.TB, disk string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range [][2]string{
		{"metadata.json", `{"provider":"libvirt","format":"qcow2","virtual_size":1}`},
		{"Vagrantfile", "Vagrant.configure(\"2\") do |config|\nend\n"},
		{"box.img", disk},
	} {
		peer.Must(t, w.WriteHeader(&tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}))
		_, err := w.Write([]byte(f[1]))
		peer.Must(t, err)
	}
	peer.Must(t, w.Close())
	return out.Bytes()
}

// herdsman is a Vagrant with a home of its own and a directory that a repository
// with boxes is in.
type herdsman struct {
	t    *testing.T
	home string
	dir  string
	x    repo.Index
}

func newHerdsman(t *testing.T) *herdsman {
	t.Helper()
	peer.NeedTool(t, "vagrant")
	return &herdsman{t: t, home: t.TempDir(), dir: filepath.Join(t.TempDir(), "a herd")}
}

// publish adds a revision of web with a box for x86_64 and the catalogue of it.
func (h *herdsman) publish(channel, disk string, o string) {
	h.t.Helper()
	content := box(h.t, disk)
	file := fmt.Sprintf("images/web %s.box", disk)
	a := repo.Artefact{
		Kind: "box.libvirt", File: file, Size: int64(len(content)),
		SHA256: fmt.Sprintf("%x", sha256.Sum256(content)), SHA512: fmt.Sprintf("%x", sha512.Sum512(content)),
	}
	e := repo.Entry{Arch: "x86_64", File: file, Notes: "two\nlines", Facts: repo.Facts{Image: "web", Artefacts: []repo.Artefact{a}}}
	var err error
	h.x, _, err = h.x.Publish(e, channel, noon)
	peer.Must(h.t, err)
	path := filepath.Join(h.dir, file)
	peer.Must(h.t, os.MkdirAll(filepath.Dir(path), 0o755))
	peer.Must(h.t, os.WriteFile(path, content, 0o644))
	h.derive(o)
}

func (h *herdsman) derive(o string) {
	h.t.Helper()
	files, err := Files(located(h.x, o))
	peer.Must(h.t, err)
	for _, f := range files {
		path := filepath.Join(h.dir, f.Name)
		peer.Must(h.t, os.MkdirAll(filepath.Dir(path), 0o755))
		peer.Must(h.t, os.WriteFile(path, f.Text, 0o644))
	}
}

// vagrant returns what it says.
func (h *herdsman) vagrant(args ...string) (string, error) {
	c := exec.Command("vagrant", args...)
	c.Dir = h.home
	c.Env = append(os.Environ(), "VAGRANT_HOME="+filepath.Join(h.home, "vagrant"), "VAGRANT_CHECKPOINT_DISABLE=1", "VAGRANT_NO_COLOR=1", "LC_ALL=C.UTF-8", "http_proxy=", "https_proxy=")
	out, err := c.CombinedOutput()
	return string(out), err
}

// says runs vagrant, which must succeed and say all of want.
func (h *herdsman) says(args []string, want ...string) {
	h.t.Helper()
	out, err := h.vagrant(args...)
	if err != nil {
		h.t.Fatalf("vagrant %q: %v\n%s", args, err, out)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			h.t.Errorf("vagrant %q says nothing of %q:\n%s", args, w, out)
		}
	}
}

// disk is what is on the disk of a box that was added.
func (h *herdsman) disk(name, version string) string {
	h.t.Helper()
	content, err := os.ReadFile(filepath.Join(h.home, "vagrant", "boxes", name, version, "libvirt", "box.img"))
	if err != nil {
		h.t.Error(err)
	}
	return string(content)
}

func TestVagrantAddsBoxes(t *testing.T) {
	for _, way := range []string{"file", "http"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := newHerdsman(t)
			o, place := "file://"+h.dir, "file://"+strings.ReplaceAll(h.dir, " ", "%20")
			if way == "http" {
				server := httptest.NewServer(http.FileServer(http.Dir(h.dir)))
				t.Cleanup(server.Close)
				o, place = server.URL, server.URL
			}
			stable, testing := place+"/vagrant/web.json", place+"/vagrant/web-testing.json"
			h.publish(repo.Stable, "one", o)
			h.says([]string{"box", "add", stable}, "Successfully added box 'web' (v1.0.0) for 'libvirt'")
			if got := h.disk("web", "1.0.0"); got != "one" {
				t.Errorf("on its disk is %q", got)
			}
			if way == "file" {
				return
			}
			for i := range 9 { // 10.0.0 is greater than 9.0.0
				h.publish("testing", fmt.Sprintf("test %d", i), o)
			}
			// Nothing is new for who follows stable.
			h.says([]string{"box", "outdated", "--global"}, "'web' for 'libvirt' (v1.0.0) is up to date")
			h.says([]string{"box", "add", testing, "--provider", "libvirt"}, "added box 'web-testing' (v10.0.0)")
			if got := h.disk("web-testing", "10.0.0"); got != "test 8" {
				t.Errorf("on its disk is %q", got)
			}
			h.publish(repo.Stable, "eleven", o)
			h.says([]string{"box", "outdated", "--global"}, "'web' for 'libvirt' is outdated! Current: 1.0.0. Latest: 11.0.0")
			h.says([]string{"box", "add", stable, "--box-version", "11"}, "(v11.0.0)")
			h.says([]string{"box", "list"}, "web         (libvirt, 1.0.0)", "web         (libvirt, 11.0.0)")
			// What was rolled back is not offered any more.
			var err error
			h.x, _, err = h.x.Rollback(repo.Selector{Image: "web"})
			peer.Must(t, err)
			h.derive(o)
			if out, err := h.vagrant("box", "add", "--force", "--box-version", "11", stable); err == nil {
				t.Error(out)
			}
		})
	}
}

func TestVagrantRefusesAChangedBox(t *testing.T) {
	h := newHerdsman(t)
	o := "file://" + h.dir
	h.publish(repo.Stable, "one", o)
	peer.Must(t, os.WriteFile(filepath.Join(h.dir, h.x.Entries[0].File), box(t, "another"), 0o644))
	out, err := h.vagrant("box", "add", "file://"+strings.ReplaceAll(h.dir, " ", "%20")+"/vagrant/web.json")
	if err == nil || !strings.Contains(out, "checksum of the downloaded box did not match") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := h.vagrant("box", "list"); err != nil || !strings.Contains(out, "There are no installed boxes") {
		t.Errorf("%v\n%s", err, out)
	}
}
