//go:build targets

package openstack

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"herdbook/internal/artefact"
	"herdbook/internal/artefact/artefacttest"
	"herdbook/internal/event"
	"herdbook/internal/peer"
)

// shown is what openstackclient shows of an image.
type shown struct {
	ID, Name, Status, Visibility, Checksum string
	Protected                              bool
	Disk                                   int    `json:"min_disk"`
	RAM                                    int    `json:"min_ram"`
	Format                                 string `json:"disk_format"`
	Tags                                   []string
	Properties                             map[string]any
}

// Debian's Keystone and Glance take the image, and openstackclient finds there what was
// sent.
func TestVMTargetOpenStackGlance(t *testing.T) {
	dir := t.TempDir()
	web := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(web.Close)
	address, err := url.Parse(web.URL)
	peer.Must(t, err)
	port, err := strconv.Atoi(address.Port())
	peer.Must(t, err)
	stack := peer.NewOpenStack(t, port)
	variables := map[string]string{"OS_CLIENT_CONFIG_FILE": stack.Config}
	var notices []string
	send := func(e *Exporter, image *artefact.Image) (where string, fresh bool) {
		t.Helper()
		e.LookupEnv = environment(variables)
		order := artefacttest.Order(t, image, &e.OpenStack, e)
		order.Dir = dir
		m, err := order.Make(t.Context(), image, nil)
		peer.Must(t, err)
		where, fresh, err = e.Send(t.Context(), dir, m, func(e event.Event) {
			if e.Kind == event.Notice {
				notices = append(notices, e.Text)
			}
		})
		peer.Must(t, err)
		text, err := os.ReadFile(order.ManifestPath())
		peer.Must(t, err)
		for _, secret := range stack.Secrets {
			if strings.Contains(string(text)+strings.Join(notices, "\n")+where, secret) {
				t.Errorf("a secret is told: %s %q", text, notices)
			}
		}
		return where, fresh
	}
	show := func(cloud, name string) (s shown) {
		t.Helper()
		peer.Must(t, json.Unmarshal([]byte(stack.Client(cloud, "image", "show", "-f", "json", name)), &s))
		return s
	}
	image := newImage(t, system())
	e := exporter(t)
	e.Cloud, e.Name, e.Visibility, e.Members, e.Tags = "herd", "web", "shared", []string{stack.Projects["other"]}, []string{"herd", "debian"}
	e.Protected, e.MinRAM = true, 256

	where, fresh := send(e, image)
	first := show("herd", "web")
	if !fresh || where != fmt.Sprintf("web (%s) in herd", first.ID) || first.Status != "active" || first.Visibility != "shared" || !first.Protected ||
		first.Disk != 1 || first.RAM != 256 || first.Format != "qcow2" || !slices.Equal(slices.Sorted(slices.Values(first.Tags)), []string{"debian", "herd"}) {
		t.Errorf("%s, %v: %+v", where, fresh, first)
	}
	for name, want := range map[string]string{"os_distro": "debian", "os_version": "12", "os_admin_user": "debian", "architecture": "x86_64", "herdbook_layer": string(image.Layer)} {
		if got := first.Properties[name]; got != want {
			t.Errorf("%s is %v, want %s", name, got, want)
		}
	}
	back := filepath.Join(t.TempDir(), "back")
	stack.Client("herd", "image", "save", "--file", back, "web")
	peer.Run(t, "cmp", back, filepath.Join(dir, "small.openstack-herd.qcow2"))
	peer.Run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", back, image.Path())
	if told := stack.Client("herd", "image", "member", "list", "-f", "value", first.ID); !strings.Contains(told, stack.Projects["other"]) {
		t.Errorf("the members: %s", told)
	}

	// A second build does nothing.
	if where, fresh := send(e, image); fresh || !strings.Contains(where, first.ID) {
		t.Errorf("the second: %s, %v", where, fresh)
	}

	// The next revision takes the name, by each way of import; the oldest goes.
	one := 1
	var last []string
	for i, way := range []string{"glance-direct", "web-download"} {
		files := system()
		files["etc/motd"] = way
		e.Import, e.Keep, e.Cloud = way, &one, "application"
		if way == "web-download" {
			e.URL = web.URL
		}
		_, fresh := send(e, newImage(t, files))
		now := show("herd", "web")
		if !fresh || now.ID == first.ID || slices.Contains(last, now.ID) || now.Status != "active" {
			t.Errorf("%s: %v, %+v", way, fresh, now)
		}
		if last = append(last, now.ID); i == 0 {
			var old shown
			peer.Must(t, json.Unmarshal([]byte(stack.Client("herd", "image", "show", "-f", "json", first.ID)), &old))
			if old.Protected || old.Properties["os_hidden"] != true {
				t.Errorf("the old one: %+v", old)
			}
		}
	}
	if told := stack.Client("herd", "image", "list", "--hidden", "-f", "value", "-c", "ID"); strings.TrimSpace(told) != last[0] {
		t.Errorf("hidden are %q, want %s", told, last[0])
	}
	if told := stack.Client("herd", "image", "list", "-f", "value", "-c", "Name", "-c", "Status"); strings.TrimSpace(told) != "web active" {
		t.Errorf("shown are %q", told)
	}

	// What Glance refuses is told, and what is there stays.
	e.Import, e.URL, e.Visibility, e.Members = "direct", "", "public", nil
	order := artefacttest.Order(t, image, &e.OpenStack, e)
	m, err := order.Make(t.Context(), image, nil)
	peer.Must(t, err)
	if _, _, err := e.Send(t.Context(), order.Dir, m, nil); err == nil || !strings.Contains(err.Error(), `403`) || !strings.Contains(err.Error(), "needs an administrator") {
		t.Errorf("a public image: %v", err)
	}
	if now := show("herd", "web"); now.ID != last[1] {
		t.Errorf("the name is lost: %+v", now)
	}
	// By variables, in another project, and wrong ones.
	e.Cloud, e.Upload, e.Visibility, e.Keep = "", true, "private", nil
	variables = map[string]string{"OS_AUTH_URL": stack.AuthURL, "OS_USERNAME": "other", "OS_PASSWORD": peer.OpenStackPassword, "OS_PROJECT_NAME": "other", "OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_ID": "default"}
	if where, fresh := send(e, image); !fresh || where != fmt.Sprintf("web (%s) in %s", show("other", "web").ID, stack.AuthURL) {
		t.Errorf("by variables: %s, %v", where, fresh)
	}
	variables["OS_PASSWORD"] = "wrong"
	if _, _, err := e.Send(t.Context(), dir, m, nil); err == nil || !strings.Contains(err.Error(), "401") || !strings.Contains(err.Error(), "does not take the credentials") {
		t.Errorf("a wrong password: %v", err)
	}
}
