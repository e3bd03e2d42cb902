package openstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/artefact"
	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/peer"
)

// herd is an artefact and a cloud that it is sent to.
type herd struct {
	*testing.T
	cloud    *fakeCloud
	exporter *Exporter
	dir      string
	manifest artefact.Manifest
	notices  []string
}

func newHerd(t *testing.T) *herd {
	t.Helper()
	h := &herd{T: t, cloud: newFakeCloud(t), exporter: exporter(t), dir: t.TempDir()}
	config := filepath.Join(h.dir, "clouds.yaml")
	peer.Must(t, os.WriteFile(config, fmt.Appendf(nil, "clouds:\n  lab:\n    auth: {auth_url: %s/identity/v3, username: herd, password: the password, project_name: herd}\n    region_name: RegionOne\n", h.cloud.url), 0o600))
	h.exporter.Cloud, h.exporter.pause = "lab", time.Millisecond
	h.exporter.LookupEnv = environment(map[string]string{"OS_CLIENT_CONFIG_FILE": config})
	h.revision("one")
	return h
}

func environment(variables map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { value, ok := variables[name]; return value, ok }
}

// revision makes another artefact of the same image.
func (h *herd) revision(content string) {
	h.Helper()
	peer.Must(h, os.WriteFile(filepath.Join(h.dir, "small.qcow2"), []byte(content), 0o644))
	found, err := asMap(facts{VirtualSize: 5 << 30, Format: "qcow2", MinDisk: 5, Properties: map[string]string{
		"os_distro": "debian", "herdbook_image": h.exporter.Name, "herdbook_layer": content,
	}})
	peer.Must(h, err)
	h.manifest = artefact.Manifest{Image: "small", Main: "small.qcow2", Facts: found, Files: []artefact.File{{Name: "small.qcow2", Size: int64(len(content)), Digest: digest.Of([]byte(content))}}}
}

// send sends it, which must be good.
func (h *herd) send() (fresh bool) {
	h.Helper()
	where, fresh, err := h.try()
	if err != nil {
		h.Fatal(err)
	}
	if !strings.HasPrefix(where, h.exporter.Name+" (image-") {
		h.Errorf("it says that it is at %q", where)
	}
	return fresh
}

func (h *herd) try() (where string, fresh bool, err error) {
	return h.exporter.Send(h.Context(), h.dir, h.manifest, func(e event.Event) {
		if e.Kind == event.Notice {
			h.notices = append(h.notices, e.Text)
		}
	})
}

// has holds the cloud against lines.
func (h *herd) has(want ...string) {
	h.Helper()
	if diff := cmp.Diff(want, h.cloud.told()); diff != "" {
		h.Errorf("the cloud has (-want +got)\n%s", diff)
	}
}

func TestNothingIsSentUnlessItIsAskedFor(t *testing.T) {
	h := newHerd(t)
	h.exporter.Cloud = ""
	if where, fresh, err := h.try(); where != "" || fresh || err != nil {
		t.Errorf("%q, %v, %v", where, fresh, err)
	}
	h.has()
}

func TestAnImageIsSentOnce(t *testing.T) {
	h := newHerd(t)
	h.exporter.Tags, h.exporter.Visibility, h.exporter.Members = []string{"b", "a"}, "shared", []string{"p2", "p3"}
	if !h.send() {
		t.Error("the first is not new")
	}
	h.has("image-1 small: active, shared")
	image := h.cloud.images[0]
	if image["min_disk"] != 5.0 || image["os_distro"] != "debian" || image["herdbook_source"] != string(digest.Of([]byte("one"))) || image["disk_format"] != "qcow2" {
		t.Errorf("what is known of it: %v", image)
	}
	h.cloud.asked = nil
	if h.send() {
		t.Error("the second is new")
	}
	for _, request := range h.cloud.asked {
		if !strings.HasPrefix(request, "GET ") {
			t.Errorf("nothing was to be done, and it asks %s", request)
		}
	}
	// What the definition says of it can change without another upload.
	h.exporter.Tags, h.exporter.Members, h.exporter.Protected = []string{"c"}, []string{"p3", "p4"}, true
	if !h.send() {
		t.Error("a change is not told")
	}
	if image := h.cloud.images[0]; !slices.Equal(h.cloud.members["image-1"], []string{"p3", "p4"}) || fmt.Sprint(image["tags"]) != "[c]" {
		t.Errorf("members %v of %v", h.cloud.members, image)
	}
	h.has("image-1 small: active, shared, protected")
}

func TestTheNewOneTakesTheName(t *testing.T) {
	for rotate, want := range map[string][]string{
		"hide":   {"image-1 small: active, private, os_hidden", "image-2 small: active, private, os_hidden", "image-3 small: active, private"},
		"rename": {"image-1 small 2026-01-01 00:00:00: active, private", "image-2 small 2026-01-02 00:00:00: active, private", "image-3 small: active, private"},
	} {
		h := newHerd(t)
		h.exporter.Rotate = rotate
		for _, content := range []string{"one", "two", "three"} {
			h.revision(content)
			h.send()
		}
		h.has(want...)
		// Back to an older one, which is there.
		h.cloud.asked = nil
		h.revision("one")
		h.send()
		if slices.ContainsFunc(h.cloud.asked, func(r string) bool { return strings.HasPrefix(r, "PUT") }) {
			t.Errorf("it is sent again: %v", h.cloud.asked)
		}
		if got := h.cloud.told(); got[0] != "image-1 small: active, private" || strings.HasSuffix(got[2], "small: active, private") {
			t.Errorf("after going back: %v", got)
		}
	}
}

func TestTheLastOnesAreKeptAndThoseInUse(t *testing.T) {
	h := newHerd(t)
	one := 1
	h.exporter.Keep = &one
	for _, content := range []string{"one", "two", "three"} {
		h.revision(content)
		h.send()
	}
	h.has("image-2 small: active, private, os_hidden", "image-3 small: active, private")
	h.cloud.used = []string{"image-2"}
	h.revision("four")
	h.send()
	h.has("image-2 small: active, private, os_hidden", "image-3 small: active, private, os_hidden", "image-4 small: active, private")
	if len(h.notices) != 1 || !strings.Contains(h.notices[0], "image-2 of small stays: a server uses it") {
		t.Errorf("it is said: %q", h.notices)
	}
	// Glance refuses, as Ceph does of what was cloned; Nova is not there.
	h.cloud.used, h.cloud.nova, h.notices = nil, false, nil
	h.cloud.fails(1, "DELETE", "/image-2", http.StatusConflict, "Image image-2 could not be deleted because it is in use")
	h.send()
	if len(h.notices) != 1 || !strings.Contains(h.notices[0], "in use") {
		t.Errorf("it is said: %q", h.notices)
	}
	h.send()
	h.has("image-3 small: active, private, os_hidden", "image-4 small: active, private")
	// Where Nova does not answer, nothing is deleted.
	h.cloud.nova, h.notices = true, nil
	h.cloud.fails(-1, "GET", "/servers", http.StatusInternalServerError, "oops")
	h.revision("five")
	h.send()
	h.has("image-3 small: active, private, os_hidden", "image-4 small: active, private, os_hidden", "image-5 small: active, private")
	if len(h.notices) != 1 || !strings.Contains(h.notices[0], "could not be found out") {
		t.Errorf("it is said: %q", h.notices)
	}
}

func TestWhoMayNotSeeAllServersSeesTheOwn(t *testing.T) {
	h := newHerd(t)
	none := 0
	h.exporter.Keep = &none
	h.send()
	h.cloud.used = []string{"image-1"}
	h.cloud.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if refused := r.URL.Query().Has("all_tenants"); refused {
			http.Error(w, "Policy doesn't allow os_compute_api:servers:index:get_all_tenants", http.StatusForbidden)
			return true
		}
		return false
	}
	h.revision("two")
	h.send()
	h.has("image-1 small: active, private, os_hidden", "image-2 small: active, private")
}

func TestProtectionGoesWithTheName(t *testing.T) {
	h := newHerd(t)
	none := 0
	h.exporter.Keep, h.exporter.Protected = &none, true
	h.send()
	h.revision("two")
	h.send()
	h.has("image-2 small: active, private, protected")
	// What somebody else has protected is theirs.
	h.exporter.Protected = false
	h.send()
	h.cloud.images[0]["protected"] = true
	h.revision("three")
	h.send()
	h.has("image-2 small: active, private, os_hidden, protected", "image-3 small: active, private")
}

func TestAnImageOfAnotherHandIsLeftAlone(t *testing.T) {
	h := newHerd(t)
	h.cloud.images = append(h.cloud.images, map[string]any{"id": "foreign", "name": "small", "status": "active", "visibility": "private", "owner": "p1"})
	h.send()
	h.has("foreign small: active, private", "image-1 small: active, private")
	if len(h.notices) != 1 || !strings.Contains(h.notices[0], "foreign, which herdbook did not make") {
		t.Errorf("it is said: %q", h.notices)
	}
}

func TestWhatACloudRefuses(t *testing.T) {
	for want, c := range map[string]struct {
		method, path string
		status       int
		body         string
	}{
		"make the image: 403, not authorized: the credentials do not allow it":               {"POST", "/images", 403, `{"forbidden": {"message": "not authorized", "code": 403}}`},
		"413, Denying attempt to upload: the image is larger than":                           {"PUT", "/file", 413, "<html><head><title>413</title></head><body><h1>Denying attempt</h1> to upload</body></html>"},
		"409, Conflict: something is in the way":                                             {"PUT", "/file", 409, ""},
		"400, Invalid container format: the cloud does not take what is asked of it":         {"POST", "/images", 400, "Invalid container format"},
		"log in: 401, The request you have made requires authentication.: the cloud does no": {"POST", "/tokens", 401, `{"error": {"message": "The request you have made requires authentication."}}`},
		"list images: 401, no: the cloud does not take the credentials":                      {"GET", "/images", 401, "no"},
	} {
		h := newHerd(t)
		h.cloud.fails(-1, c.method, c.path, c.status, c.body)
		_, _, err := h.try()
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "upload small to lab: ") {
			t.Errorf("%v, want %q", err, want)
		}
		if len(h.notices) > 0 {
			t.Errorf("it is tried again: %q", h.notices)
		}
		if strings.Contains(fmt.Sprint(err), "the password") {
			t.Errorf("it tells a secret: %v", err)
		}
		h.has() // nothing is left
		h.cloud.fault = nil
		h.send()
		h.has(fmt.Sprintf("image-%d small: active, private", h.cloud.made))
	}
}

func TestWhatPassesIsTriedAgain(t *testing.T) {
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"PUT", "/file", 503}, {"POST", "/images", 503}, {"POST", "/tokens", 502}, {"GET", "/images", 500}, {"PUT", "/file", 429}, {"PATCH", "/image-1", 504},
	} {
		h := newHerd(t)
		h.cloud.fails(2, c.method, c.path, c.status, "later")
		if !h.send() || len(h.notices) != 2 || !strings.Contains(h.notices[0], fmt.Sprint(c.status)) {
			t.Errorf("%v: it is said: %q", c, h.notices)
		}
		if told := h.cloud.told(); len(told) != 1 || !strings.HasSuffix(told[0], " small: active, private") {
			t.Errorf("%v: the cloud has %v", c, told)
		}
	}
	h := newHerd(t)
	h.cloud.fails(1, "GET", "/image-1", 500, "later") // once the upload is through
	h.send()
	h.has("image-1 small: active, private")
	h = newHerd(t)
	h.cloud.fails(-1, "PUT", "/file", 503, "Service Unavailable")
	_, _, err := h.try()
	if err == nil || !strings.Contains(err.Error(), "503, Service Unavailable: the service is not there for now") || len(h.notices) != attempts-1 {
		t.Errorf("%v after %q", err, h.notices)
	}
	h.cloud.fault = nil
	h.send()
	h.has(fmt.Sprintf("image-%d small: active, private", h.cloud.made))
}

func TestAConnectionThatBreaks(t *testing.T) {
	h := newHerd(t)
	h.revision(strings.Repeat("much ", 1<<20))
	broken := 0
	h.cloud.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "PUT" || broken == 2 {
			return false
		}
		broken++
		some := make([]byte, 1<<20)
		if _, err := r.Body.Read(some); err != nil {
			t.Error(err)
		}
		h.cloud.images[len(h.cloud.images)-1]["status"] = "saving"
		panic(http.ErrAbortHandler)
	}
	if !h.send() || broken != 2 {
		t.Errorf("it broke %d times", broken)
	}
	h.has("image-3 small: active, private")
}

func TestOtherBytesArriveThere(t *testing.T) {
	h := newHerd(t)
	wrong := 0
	spoil := func(times int) {
		h.cloud.fault = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != "PUT" || wrong == times {
				return false
			}
			wrong++
			h.cloud.hold(h.cloud.images[len(h.cloud.images)-1], []byte("two"))
			w.WriteHeader(http.StatusNoContent)
			return true
		}
	}
	spoil(1)
	h.send()
	h.has("image-2 small: active, private")
	h.revision("new")
	spoil(100)
	_, _, err := h.try()
	if err == nil || !strings.Contains(err.Error(), "the cloud has 3 bytes with the sha512 ") {
		t.Errorf("the error: %v", err)
	}
	h.has("image-2 small: active, private")
}

func TestAnUploadThatWasLeft(t *testing.T) {
	h := newHerd(t)
	left := func(status, source string) map[string]any {
		h.cloud.made++
		return map[string]any{"id": fmt.Sprint("image-", h.cloud.made), "name": "small (incomplete)", "status": status, "visibility": "private", "owner": "p1",
			"os_hidden": true, "herdbook_image": "small", "herdbook_source": source, "herdbook_origin": origin(filepath.Join(h.dir, "small.qcow2")), "disk_format": "qcow2", "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
	}
	source := string(digest.Of([]byte("one")))
	h.cloud.images = append(h.cloud.images, left("queued", source), left("saving", source), left("active", "other"))
	h.send()
	h.has("image-4 small: active, private")
	// Only the proof was left.
	h.revision("two")
	proved := left("active", string(digest.Of([]byte("two"))))
	h.cloud.hold(proved, []byte("two"))
	h.cloud.images = append(h.cloud.images, proved)
	h.send()
	h.has("image-4 small: active, private, os_hidden", "image-5 small: active, private")
	// What is there is not what it says.
	h.revision("three")
	damaged := left("active", string(digest.Of([]byte("three"))))
	h.cloud.hold(damaged, []byte("thr"))
	h.cloud.images = append(h.cloud.images, damaged)
	h.send()
	h.has("image-4 small: active, private, os_hidden", "image-5 small: active, private, os_hidden", "image-7 small: active, private")
}

// A list that leads to itself ends.
func TestAListWithoutEnd(t *testing.T) {
	h := newHerd(t)
	h.send()
	pages := 0
	h.cloud.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "GET" || !strings.HasSuffix(r.URL.Path, "/images") {
			return false
		}
		pages++
		list := make([]any, 100)
		for i := range list {
			list[i] = h.cloud.images[0]
		}
		h.cloud.answer(w, http.StatusOK, map[string]any{"images": list, "next": "/image/v2/images?marker=image-1"})
		return true
	}
	if _, _, err := h.try(); err == nil || !strings.Contains(err.Error(), "list images: there are more than 5000") || pages > 60 {
		t.Errorf("%v after %d pages", err, pages)
	}
}

// What another herdbook may still be at is left alone, for a day.
func TestAnUploadFromElsewhere(t *testing.T) {
	h := newHerd(t)
	for _, status := range []string{"queued", "saving", "active"} {
		h.cloud.made++
		h.cloud.images = append(h.cloud.images, map[string]any{"id": fmt.Sprint("image-", h.cloud.made), "name": "small (incomplete)", "status": status, "visibility": "private", "owner": "p1",
			"os_hidden": true, "herdbook_image": "small", "herdbook_source": string(digest.Of([]byte("one"))), "herdbook_origin": "elsewhere", "disk_format": "qcow2",
			"created_at": "2026-01-03T12:00:00Z", "updated_at": fmt.Sprintf("2026-01-0%dT12:00:00Z", h.cloud.made)})
	}
	h.send() // on the 4th
	h.has("image-3 small (incomplete): active, private, os_hidden", "image-4 small: active, private")
	if len(h.notices) > 0 {
		t.Errorf("it is said: %q", h.notices)
	}
	if h.send() {
		t.Error("it is sent again")
	}
}

// Another build brings another revision while this one is brought.
func TestANewerOneComesMeanwhile(t *testing.T) {
	for rotate, want := range map[string][]string{
		"hide":   {"image-1 small: active, private, os_hidden", "image-2 small: active, private"},
		"rename": {"image-1 small 2026-01-01 00:00:00: active, private", "image-2 small: active, private"},
	} {
		h := newHerd(t)
		h.exporter.Rotate = rotate
		h.cloud.fault = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == "PUT" {
				h.cloud.made++
				newer := map[string]any{"id": "image-2", "name": "small", "visibility": "private", "owner": "p1", "os_hidden": false, "protected": false, "herdbook_image": "small",
					"herdbook_source": "two", "disk_format": "qcow2", "created_at": "2026-01-02T00:00:00Z", "updated_at": "2026-01-02T00:00:00Z"}
				h.cloud.hold(newer, []byte("two"))
				h.cloud.images = append(h.cloud.images, newer)
			}
			return false
		}
		h.send()
		h.has(want...)
		if len(h.notices) != 1 || !strings.Contains(h.notices[0], "another build has brought a newer small meanwhile, image-2") {
			t.Errorf("it is said: %q", h.notices)
		}
	}
}

// However two builds come in each other's way, an image has the name in the end, a single one
// behind the next build, and nothing is left half done.
func TestTwoBuildsAtOnce(t *testing.T) {
	for round := range 20 {
		h := newHerd(t)
		ends := make(chan error)
		for i := range 3 {
			other := &herd{T: t, cloud: h.cloud, exporter: h.exporter, dir: t.TempDir()}
			other.revision([]string{"one", "two", "two"}[i])
			go func() {
				_, _, err := other.exporter.Send(t.Context(), other.dir, other.manifest, nil)
				ends <- err
			}()
		}
		for range 3 {
			if err := <-ends; err != nil {
				t.Error(err)
			}
		}
		named := func() (n int) {
			for _, line := range h.cloud.told() {
				if strings.HasSuffix(line, "small: active, private") {
					n++
				} else if !strings.HasSuffix(line, "small: active, private, os_hidden") {
					t.Errorf("round %d: %s", round, line)
				}
			}
			return n
		}
		if named() == 0 {
			t.Errorf("round %d: nobody has the name: %q", round, h.cloud.told())
		}
		h.revision("two")
		h.send()
		if named() != 1 {
			t.Errorf("round %d, and one more: %d have the name: %q", round, named(), h.cloud.told())
		}
	}
}

func TestAFileThatHasChanged(t *testing.T) {
	h := newHerd(t)
	peer.Must(t, os.WriteFile(filepath.Join(h.dir, "small.qcow2"), []byte("two"), 0o644))
	if _, _, err := h.try(); err == nil || !strings.Contains(err.Error(), "no longer what was exported") {
		t.Errorf("the error: %v", err)
	}
	h.has()
}

func TestTheUserEndsIt(t *testing.T) {
	h := newHerd(t)
	ctx, cancel := context.WithCancel(t.Context())
	h.cloud.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "PUT" {
			return false
		}
		_, err := io.Copy(io.Discard, r.Body) // or the end of the connection is not seen
		peer.Must(t, err)
		cancel()
		<-r.Context().Done()
		return true
	}
	if _, _, err := h.exporter.Send(ctx, h.dir, h.manifest, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("the error: %v", err)
	}
	h.cloud.fault = nil
	h.send()
	h.has("image-2 small: active, private")
}

// How a cloud is entered, in each of the ways.
func TestCredentials(t *testing.T) {
	h := newHerd(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		peer.Must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		peer.Must(t, os.WriteFile(path, []byte(strings.ReplaceAll(text, "URL", h.cloud.url+"/identity/v3")), 0o600))
		return path
	}
	secret := write("split/clouds.yaml", "clouds: {lab: {auth: {auth_url: URL, username: herd, project_name: herd, user_domain_name: Default, project_domain_name: Default}}}\n")
	write("split/secure.yaml", "clouds: {lab: {auth: {password: the password}}}\n")
	application := write("application.yaml", "clouds: {lab: {auth_type: v3applicationcredential, auth: {auth_url: URL, application_credential_id: a1, application_credential_secret: the secret}}}\n")
	write("home/.config/openstack/clouds.yaml", "clouds: {lab: {auth: {auth_url: URL, username: herd, password: the password, project_name: herd}}}\n")
	write("xdg/openstack/clouds.yaml", "clouds: {lab: {auth: {auth_url: URL, username: herd, password: the password, project_name: herd}}}\n")
	broken := func(dir, auth string) string {
		write(dir+"/secure.yaml", "clouds: {lab: {auth: "+auth+"}}\n")
		return write(dir+"/clouds.yaml", "clouds: {lab: {auth: {auth_url: URL, username: herd, project_name: herd}}}\n")
	}
	url := h.cloud.url + "/identity/v3"
	for name, variables := range map[string]map[string]string{
		"secure.yaml":               {"OS_CLIENT_CONFIG_FILE": secret, "OS_CLOUD": "lab"},
		"an application credential": {"OS_CLIENT_CONFIG_FILE": application, "OS_CLOUD": "lab"},
		"the home":                  {"HOME": filepath.Join(dir, "home"), "OS_CLOUD": "lab"},
		"XDG":                       {"HOME": "/nonexistent", "XDG_CONFIG_HOME": filepath.Join(dir, "xdg"), "OS_CLOUD": "lab"},
		"variables":                 {"OS_AUTH_URL": url, "OS_USERNAME": "herd", "OS_PASSWORD": "the password", "OS_PROJECT_NAME": "herd", "OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_ID": "default"},
		"old variables":             {"OS_AUTH_URL": url, "OS_USERNAME": "herd", "OS_PASSWORD": "the password", "OS_TENANT_NAME": "herd"},
		"a credential's variables":  {"OS_AUTH_URL": url, "OS_APPLICATION_CREDENTIAL_ID": "a1", "OS_APPLICATION_CREDENTIAL_SECRET": "the secret"},
	} {
		h.exporter.Cloud, h.exporter.Upload, h.exporter.LookupEnv = "", true, environment(variables)
		if _, _, err := h.try(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for want, variables := range map[string]map[string]string{
		"the environment names no cloud":         {},
		"there is no clouds.yaml":                {"OS_CLOUD": "lab", "OS_CLIENT_CONFIG_FILE": filepath.Join(dir, "none")},
		`has no cloud "other"; it has lab`:       {"OS_CLOUD": "other", "OS_CLIENT_CONFIG_FILE": secret},
		"it is no clouds.yaml":                   {"OS_CLOUD": "lab", "OS_CLIENT_CONFIG_FILE": write("broken", "clouds: [the password")},
		"says no auth":                           {"OS_CLOUD": "lab", "OS_CLIENT_CONFIG_FILE": write("empty", "clouds: {lab: {}}")},
		"does not take the credentials":          {"OS_AUTH_URL": url, "OS_USERNAME": "herd", "OS_PASSWORD": "wrong", "OS_PROJECT_NAME": "herd"},
		"connection refused":                     {"OS_AUTH_URL": "http://127.0.0.1:1/v3", "OS_USERNAME": "herd", "OS_PASSWORD": "the password", "OS_PROJECT_NAME": "herd"},
		"or secure.yaml beside it, has not the":  {"OS_CLOUD": "lab", "OS_CLIENT_CONFIG_FILE": broken("half", "the password")},
		"or secure.yaml beside it, has not th":   {"OS_CLOUD": "lab", "OS_CLIENT_CONFIG_FILE": broken("anchor", "{password: *the-password}")},
		"read how the cloud lab is entered: una": {"OS_CLOUD": "lab", "OS_CLIENT_CONFIG_FILE": write("ca", "clouds: {lab: {cacert: /nonexistent, auth: {auth_url: URL}}}")},
	} {
		h.exporter.LookupEnv = environment(variables)
		_, _, err := h.try()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		for _, secret := range []string{"the pas", "the-pas", "wrong"} {
			if strings.Contains(fmt.Sprint(err, h.notices), secret) {
				t.Errorf("it tells a secret: %v %v", err, h.notices)
			}
		}
	}
}

// Some clouds keep all images raw.
func TestACloudThatUnpacks(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	h := newHerd(t)
	raw := filepath.Join(t.TempDir(), "raw")
	content := strings.Repeat("the disk", 1<<17)
	peer.Must(t, os.WriteFile(raw, []byte(content), 0o644))
	packed := filepath.Join(t.TempDir(), "packed")
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", raw, packed)
	text, err := os.ReadFile(packed)
	peer.Must(t, err)
	h.revision(string(text))
	h.cloud.convert = content
	h.send()
	if h.send() {
		t.Error("it is sent twice")
	}
	h.revision(string(text) + "x")
	h.cloud.convert = strings.Repeat("another ", 1<<17)
	if _, _, err := h.try(); err == nil || !strings.Contains(err.Error(), "the cloud has 1048576 bytes with the sha512") {
		t.Errorf("the error: %v", err)
	}
}
