package openstack

import (
	"crypto/md5"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"herdbook/internal/peer"
)

// fakeCloud is a Keystone, a Glance and a Nova that fail when a test wants it. What it
// does otherwise is what the real ones do, which TestVMTargetOpenStackGlance holds the exporter against.
type fakeCloud struct {
	t   *testing.T
	url string

	mutex   sync.Mutex
	images  []map[string]any
	members map[string][]string
	used    []string // images of servers
	asked   []string // requests, without those of Keystone and of discovery
	made    int
	nova    bool
	convert string // what uploads become: "" as they are, else this
	fault   func(w http.ResponseWriter, r *http.Request) bool
}

func newFakeCloud(t *testing.T) *fakeCloud {
	t.Helper()
	f := &fakeCloud{t: t, members: map[string][]string{}, nova: true}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

// fails has the next requests of a method and a path answered by a status.
func (f *fakeCloud) fails(times int, method, path string, status int, body string) {
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if times == 0 || r.Method != method || !strings.HasSuffix(r.URL.Path, path) {
			return false
		}
		times--
		http.Error(w, body, status)
		return true
	}
}

// ServeHTTP implements http.Handler.
func (f *fakeCloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	path := r.URL.Path
	if strings.Contains(path, "/v2/") || strings.Contains(path, "/servers") {
		f.asked = append(f.asked, r.Method+" "+path[strings.LastIndex(path, "/v2"):])
	}
	if f.fault != nil && f.fault(w, r) {
		return
	}
	switch {
	case path == "/identity/v3/auth/tokens":
		f.login(w, r)
	case r.Header.Get("X-Auth-Token") != "token" && path != "/image/" && path != "/compute/v2.1/":
		http.Error(w, "no token", http.StatusUnauthorized)
	case path == "/image/":
		f.answer(w, http.StatusMultipleChoices, map[string]any{"versions": []any{f.version("v2.16", "/image/v2/")}})
	case path == "/compute/v2.1/":
		f.answer(w, http.StatusOK, map[string]any{"version": f.version("v2.1", path)})
	case path == "/compute/v2.1/servers":
		list := []any{}
		if slices.Contains(f.used, r.URL.Query().Get("image")) {
			list = append(list, map[string]any{"id": "server"})
		}
		f.answer(w, http.StatusOK, map[string]any{"servers": list})
	case strings.HasPrefix(path, "/image/v2/images"):
		f.glance(w, r, strings.Split(strings.TrimPrefix(path, "/image/v2/images"), "/")[1:])
	default:
		http.NotFound(w, r)
	}
}

func (f *fakeCloud) version(id, path string) map[string]any {
	return map[string]any{"id": id, "status": "CURRENT", "min_version": "2.1", "version": "2.90", "links": []any{map[string]any{"rel": "self", "href": f.url + path}}}
}

func (f *fakeCloud) answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		f.t.Log(err) // the client is gone
	}
}

func (f *fakeCloud) login(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil || !strings.Contains(string(text), "the password") && !strings.Contains(string(text), "the secret") {
		http.Error(w, `{"error": {"code": 401, "message": "The request you have made requires authentication."}}`, http.StatusUnauthorized)
		return
	}
	service := func(kind, path string) map[string]any {
		return map[string]any{"type": kind, "id": kind, "name": kind, "endpoints": []any{map[string]any{"id": kind, "interface": "public", "region": "RegionOne", "region_id": "RegionOne", "url": f.url + path}}}
	}
	catalogue := []any{service("image", "/image")}
	if f.nova {
		catalogue = append(catalogue, service("compute", "/compute/v2.1"))
	}
	w.Header().Set("X-Subject-Token", "token")
	f.answer(w, http.StatusCreated, map[string]any{"token": map[string]any{
		"project": map[string]any{"id": "p1", "name": "herd", "domain": map[string]any{"id": "default", "name": "Default"}}, "catalog": catalogue, "expires_at": "2099-01-01T00:00:00.000000Z",
	}})
}

func (f *fakeCloud) glance(w http.ResponseWriter, r *http.Request, rest []string) {
	switch {
	case len(rest) == 0 && r.Method == "GET":
		list := []any{}
		for _, image := range f.images {
			if f.matches(image, r) {
				list = append(list, image)
			}
		}
		f.answer(w, http.StatusOK, map[string]any{"images": list})
		return
	case len(rest) == 0:
		image := map[string]any{}
		peer.Must(f.t, json.NewDecoder(r.Body).Decode(&image))
		f.made++
		image["id"], image["owner"], image["status"] = fmt.Sprint("image-", f.made), "p1", "queued"
		image["created_at"] = time.Date(2026, 1, f.made, 0, 0, 0, 0, time.UTC).Format(time.RFC3339)
		image["updated_at"] = image["created_at"]
		if image["protected"] == nil {
			image["protected"] = false
		}
		f.images = append(f.images, image)
		f.answer(w, http.StatusCreated, image)
		return
	}
	at := slices.IndexFunc(f.images, func(i map[string]any) bool { return i["id"] == rest[0] })
	if at < 0 {
		http.Error(w, "No image found with ID "+rest[0], http.StatusNotFound)
		return
	}
	image := f.images[at]
	switch what := r.Method + " " + strings.Join(rest[1:], "/"); {
	case what == "GET ":
		f.answer(w, http.StatusOK, image)
	case what == "PATCH ":
		f.patch(image, r)
		f.answer(w, http.StatusOK, image)
	case what == "DELETE " && image["protected"] == true:
		http.Error(w, "Image is protected and cannot be deleted.", http.StatusForbidden)
	case what == "DELETE ":
		f.images = slices.Delete(f.images, at, at+1)
		w.WriteHeader(http.StatusNoContent)
	case what == "PUT file" && image["status"] != "queued":
		http.Error(w, "Image status transition from "+image["status"].(string)+" to saving is not allowed", http.StatusConflict)
	case what == "PUT file":
		f.take(image, w, r)
	case what == "GET members":
		list := []any{}
		for _, m := range f.members[rest[0]] {
			list = append(list, map[string]any{"member_id": m, "image_id": rest[0], "status": "pending", "created_at": image["created_at"], "updated_at": image["created_at"]})
		}
		f.answer(w, http.StatusOK, map[string]any{"members": list})
	case what == "POST members":
		var body struct{ Member string }
		peer.Must(f.t, json.NewDecoder(r.Body).Decode(&body))
		f.members[rest[0]] = append(f.members[rest[0]], body.Member)
		f.answer(w, http.StatusOK, map[string]any{"member_id": body.Member, "image_id": rest[0], "status": "pending", "created_at": image["created_at"], "updated_at": image["created_at"]})
	case r.Method == "DELETE" && len(rest) == 3 && rest[1] == "members":
		f.members[rest[0]] = slices.DeleteFunc(f.members[rest[0]], func(m string) bool { return m == rest[2] })
		w.WriteHeader(http.StatusNoContent)
	default:
		http.NotFound(w, r)
	}
}

func (f *fakeCloud) matches(image map[string]any, r *http.Request) bool {
	for name, values := range r.URL.Query() {
		if name != "limit" && fmt.Sprint(image[name]) != values[0] {
			return false
		}
	}
	return r.URL.Query().Has("os_hidden") || image["os_hidden"] != true
}

func (f *fakeCloud) patch(image map[string]any, r *http.Request) {
	var patches []struct {
		Op, Path string
		Value    any
	}
	peer.Must(f.t, json.NewDecoder(r.Body).Decode(&patches))
	for _, p := range patches {
		image[strings.TrimPrefix(p.Path, "/")] = p.Value
	}
}

// take reads an upload, as far as it comes.
func (f *fakeCloud) take(image map[string]any, w http.ResponseWriter, r *http.Request) {
	image["status"] = "saving"
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return // it stays so, as with a Glance that is killed
	}
	if int64(len(content)) != r.ContentLength {
		f.t.Errorf("the body's length was said to be %d", r.ContentLength)
	}
	f.hold(image, content)
	w.WriteHeader(http.StatusNoContent)
}

// hold makes an image active with some content.
func (f *fakeCloud) hold(image map[string]any, content []byte) {
	if f.convert != "" {
		content, image["disk_format"] = []byte(f.convert), "raw"
	}
	a, b := md5.Sum(content), sha512.Sum512(content)
	image["status"], image["size"], image["checksum"] = "active", len(content), hex.EncodeToString(a[:])
	image["os_hash_algo"], image["os_hash_value"] = "sha512", hex.EncodeToString(b[:])
}

// told is what the cloud has, a line for each image.
func (f *fakeCloud) told() []string {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	var lines []string
	for _, image := range f.images {
		line := fmt.Sprintf("%s %s: %s, %s", image["id"], image["name"], image["status"], image["visibility"])
		for _, flag := range []string{"os_hidden", "protected"} {
			if image[flag] == true {
				line += ", " + flag
			}
		}
		lines = append(lines, line)
	}
	return lines
}
