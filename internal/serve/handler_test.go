package serve

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"herdbook/internal/bucket"
	"herdbook/internal/event"
	"herdbook/internal/peer"
)

// repository is a directory with a few objects, and what is none.
func repository(t testing.TB) string {
	t.Helper()
	top := t.TempDir()
	dir := filepath.Join(top, "repo")
	for name, content := range map[string]string{
		"index":                            strings.Repeat("[web]\nname=Web\n", 100),
		"index.asc":                        "-----BEGIN PGP SIGNED MESSAGE-----\n" + strings.Repeat("signed\n", 50),
		"streams/v1/index.json":            "{}",
		"streams/v1/index.sjson":           "-----BEGIN",
		"boot.ipxe":                        "#!ipxe\n",
		"SHA512SUMS":                       "0  x\n",
		"images/web-0123456789ab.qcow2":    strings.Repeat("QFI\xfb", 1000),
		"images/web-0123456789ab.xz":       "\xfd7zXZ\x00",
		"images/web-0123456789ab.box":      "box",
		"images/web-0123456789ab.manifest": "kernel",
		"images/web-0123456789ab.json":     `{"manifest": true}`,
		"images/nothing":                   "",
		".tmp/put-1":                       "not whole",
		"images/.hidden":                   "hidden",
		"../outside":                       "outside",
	} {
		path := filepath.Join(dir, name)
		peer.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		peer.Must(t, os.WriteFile(path, []byte(content), 0o644))
	}
	peer.Must(t, os.Symlink("../../outside", filepath.Join(dir, "images/link")))
	peer.Must(t, os.Symlink("/", filepath.Join(dir, "root")))
	return dir
}

// newServer is a server of such a repository.
func newServer(t testing.TB, dir string, change func(*Options)) *Server {
	t.Helper()
	o := Options{Dir: dir, Now: time.Now, Sink: func(e event.Event) { t.Log(e.Text) }}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	peer.Must(t, err)
	return s
}

// ask sends one request, with header lines like "Range: bytes=0-1".
func ask(s http.Handler, method, path string, lines ...string) *http.Response {
	return send(s, method, path, nil, lines...)
}

func send(s http.Handler, method, path string, body io.Reader, lines ...string) *http.Response {
	r := httptest.NewRequest(method, path, body)
	for _, line := range lines {
		key, value, _ := strings.Cut(line, ": ")
		r.Header.Add(key, value)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Result()
}

func said(t testing.TB, r *http.Response) string {
	t.Helper()
	all, err := io.ReadAll(r.Body)
	peer.Must(t, err)
	return string(all)
}

func TestObjects(t *testing.T) {
	dir := repository(t)
	s := newServer(t, dir, nil)
	const immutable, ask1 = "public, max-age=31536000, immutable", "no-cache"
	for name, want := range map[string]struct{ contentType, cache string }{
		"index":                            {"text/plain; charset=utf-8", ask1},
		"index.asc":                        {"text/plain; charset=utf-8", ask1},
		"SHA512SUMS":                       {"text/plain; charset=utf-8", ask1},
		"boot.ipxe":                        {"text/plain; charset=utf-8", ask1},
		"streams/v1/index.json":            {"application/json", ask1},
		"streams/v1/index.sjson":           {"text/plain; charset=utf-8", ask1},
		"images/web-0123456789ab.qcow2":    {"application/x-qemu-disk", immutable},
		"images/web-0123456789ab.xz":       {"application/x-xz", immutable},
		"images/web-0123456789ab.box":      {"application/octet-stream", immutable},
		"images/web-0123456789ab.manifest": {"application/octet-stream", immutable},
		"images/web-0123456789ab.json":     {"application/json", immutable},
		"images/nothing":                   {"application/octet-stream", immutable},
	} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		peer.Must(t, err)
		_, o, err := bucket.Dir(dir).Open(t.Context(), name)
		peer.Must(t, err)
		for _, method := range []string{"GET", "HEAD", "GET"} {
			r := ask(s, method, "/"+name)
			body := said(t, r)
			if r.StatusCode != 200 || r.ContentLength != int64(len(content)) || method == "GET" && body != string(content) || method == "HEAD" && body != "" {
				t.Errorf("%s %s: %s, %d bytes of %d", method, name, r.Status, len(body), r.ContentLength)
			}
			for key, want := range map[string]string{
				"Content-Type": want.contentType, "Cache-Control": want.cache, "Etag": `"` + o.Version + `"`, "Accept-Ranges": "bytes",
				"Last-Modified": o.Modified.UTC().Format(http.TimeFormat), "X-Content-Type-Options": "nosniff", "Content-Encoding": "",
			} {
				if got := r.Header.Get(key); got != want {
					t.Errorf("%s %s: %s: %q, not %q", method, name, key, got, want)
				}
			}
		}
	}
}

func TestWhatIsNoObjectIsNotFound(t *testing.T) {
	s := newServer(t, repository(t), nil)
	for _, path := range []string{
		"/nothing", "/images", "/images/", "/", "//index", "/./index", "/images/../index", "/../outside", "/..%2foutside", "/images/%2e%2e/%2e%2e/outside",
		"/.tmp/put-1", "/.tmp", "/images/.hidden", "/images/link", "/root/etc/passwd", "/root", "/index/x", "/index%00", "/index%0a", "/%ff", "/images%5cx", "/-/", "/-/x",
		"/" + strings.Repeat("x", 300), "/" + strings.Repeat("x/", 2000),
	} {
		for range 2 { // nothing of it is kept, either
			if r := ask(s, "GET", path); r.StatusCode != 404 || !strings.HasPrefix(said(t, r), "404 Not Found: ") {
				t.Errorf("GET %s: %s", path, r.Status)
			}
		}
	}
	for _, method := range []string{"POST", "PATCH", "OPTIONS", "TRACE", "PUT", "DELETE", "BREW"} {
		if r := ask(s, method, "/index"); r.StatusCode != 405 || r.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %s, %q", method, r.Status, r.Header.Get("Allow"))
		}
	}
}

func TestConditionsAndRanges(t *testing.T) {
	dir := repository(t)
	s := newServer(t, dir, nil)
	for _, name := range []string{"index", "images/web-0123456789ab.qcow2"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		peer.Must(t, err)
		whole := ask(s, "GET", "/"+name)
		tag, date := whole.Header.Get("Etag"), whole.Header.Get("Last-Modified")
		last := len(content) - 1
		for _, test := range []struct {
			lines  string
			status int
			body   string
			span   string // Content-Range
		}{
			{"Range: bytes=0-3", 206, string(content[:4]), fmt.Sprintf("bytes 0-3/%d", len(content))},
			{"Range: bytes=-5", 206, string(content[last-4:]), fmt.Sprintf("bytes %d-%d/%d", last-4, last, len(content))},
			{"Range: bytes=10-", 206, string(content[10:]), fmt.Sprintf("bytes 10-%d/%d", last, len(content))},
			{"Range: bytes=0-999999", 206, string(content), fmt.Sprintf("bytes 0-%d/%d", last, len(content))},
			{"Range: bytes=999999-", 416, "invalid range: failed to overlap\n", fmt.Sprintf("bytes */%d", len(content))},
			{"Range: lines=1-2", 416, "invalid range\n", ""},
			{"Range: bytes=0-3\nIf-Range: " + tag, 206, string(content[:4]), fmt.Sprintf("bytes 0-3/%d", len(content))},
			{"Range: bytes=0-3\nIf-Range: " + date, 206, string(content[:4]), fmt.Sprintf("bytes 0-3/%d", len(content))},
			{"Range: bytes=0-3\nIf-Range: \"other\"", 200, string(content), ""},
			{"Range: bytes=0-3\nIf-Range: W/" + tag, 200, string(content), ""},
			{"If-None-Match: " + tag, 304, "", ""},
			{"If-None-Match: W/" + tag, 304, "", ""},
			{"If-None-Match: \"other\", " + tag, 304, "", ""},
			{"If-None-Match: *", 304, "", ""},
			{"If-None-Match: \"other\"", 200, string(content), ""},
			{"If-Modified-Since: " + date, 304, "", ""},
			{"If-Modified-Since: Mon, 01 Jan 2001 00:00:00 GMT", 200, string(content), ""},
			{"If-Match: \"other\"", 412, "", ""},
			{"If-Match: " + tag, 200, string(content), ""},
			{"If-Unmodified-Since: Mon, 01 Jan 2001 00:00:00 GMT", 412, "", ""},
		} {
			r := ask(s, "GET", "/"+name, strings.Split(test.lines, "\n")...)
			body := said(t, r)
			if r.StatusCode != test.status || body != test.body || r.Header.Get("Content-Range") != test.span {
				t.Errorf("%s, %q: %s, %d bytes, range %q", name, test.lines, r.Status, len(body), r.Header.Get("Content-Range"))
			}
			if r.ContentLength >= 0 && r.StatusCode != 304 && r.ContentLength != int64(len(body)) {
				t.Errorf("%s, %q: said %d bytes, sent %d", name, test.lines, r.ContentLength, len(body))
			}
		}
	}
}

func TestTextsArePacked(t *testing.T) {
	dir := repository(t)
	s := newServer(t, dir, nil)
	plain := ask(s, "GET", "/index")
	content := said(t, plain)
	for _, test := range []struct {
		accept string
		packed bool
	}{
		{"gzip", true}, {"GZIP", true}, {"deflate, gzip;q=0.5, br", true}, {"*", true}, {"*;q=0", false}, {"gzip;q=0, *", false}, {"gzip; q=0.000", false},
		{"gzip; q=1.0", true}, {"br", false}, {"", false}, {"identity", false}, {"gzip;q=x", false}, {"x-gzip", true},
	} {
		r := ask(s, "GET", "/index", "Accept-Encoding: "+test.accept)
		body := said(t, r)
		if packed := r.Header.Get("Content-Encoding") == "gzip"; packed != test.packed || r.Header.Get("Vary") != "Accept-Encoding" || r.ContentLength != int64(len(body)) {
			t.Errorf("%q: %v", test.accept, r.Header)
			continue
		}
		if !test.packed {
			continue
		}
		z, err := gzip.NewReader(strings.NewReader(body))
		peer.Must(t, err)
		unpacked, err := io.ReadAll(z)
		if err != nil || string(unpacked) != content || len(body) >= len(content) || r.Header.Get("Etag") == plain.Header.Get("Etag") {
			t.Errorf("%q: %d bytes of %d, %v: %v", test.accept, len(unpacked), len(content), r.Header, err)
		}
	}
	tag := ask(s, "GET", "/index", "Accept-Encoding: gzip").Header.Get("Etag")
	if r := ask(s, "GET", "/index", "Accept-Encoding: gzip", "If-None-Match: "+tag); r.StatusCode != 304 || r.Header.Get("Etag") != tag {
		t.Errorf("packed and known: %s, %v", r.Status, r.Header)
	}
	if r := ask(s, "GET", "/index", "Accept-Encoding: gzip", "Range: bytes=0-1", "If-Range: "+tag); r.StatusCode != 206 || said(t, r) != "\x1f\x8b" {
		t.Errorf("a range of the packed: %s, %v", r.Status, r.Header)
	}
	// What is small already, or packed, is not packed.
	for _, path := range []string{"/boot.ipxe", "/images/web-0123456789ab.qcow2"} {
		if r := ask(s, "GET", path, "Accept-Encoding: gzip"); r.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: %v", path, r.Header)
		}
	}
}

func TestATextIsNeverOldAndNeverAMixture(t *testing.T) {
	dir := t.TempDir()
	s := newServer(t, dir, nil)
	b := bucket.Dir(dir)
	page := func(i int) string { return strings.Repeat(fmt.Sprintf("%08d", i), 2000) }
	put := func(i int) {
		_, err := b.Put(t.Context(), "index", strings.NewReader(page(i)), bucket.Condition{})
		peer.Must(t, err)
	}
	put(0)
	var latest sync.Mutex
	newest := 0
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				latest.Lock()
				least := newest
				latest.Unlock()
				r := ask(s, "GET", "/index")
				body := said(t, r)
				var got int
				if _, err := fmt.Sscanf(body[:8], "%d", &got); err != nil || body != page(got) || got < least {
					t.Errorf("%d was there already; got %d: %v", least, got, err)
					return
				}
			}
		})
	}
	for i := 1; i <= 50; i++ {
		put(i)
		latest.Lock()
		newest = i
		latest.Unlock()
	}
	cancel()
	readers.Wait()
	// By other means, too.
	peer.Must(t, os.WriteFile(filepath.Join(dir, "index"), []byte("in place"), 0o644))
	if got := said(t, ask(s, "GET", "/index")); got != "in place" {
		t.Errorf("%.20q", got)
	}
	peer.Must(t, os.Remove(filepath.Join(dir, "index")))
	if r := ask(s, "GET", "/index"); r.StatusCode != 404 {
		t.Errorf("removed: %s", r.Status)
	}
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	dir := t.TempDir()
	s := newServer(t, dir, nil)
	s.texts.limit, s.texts.files = 128<<10, 8
	content := func(i int) string { return strings.Repeat(fmt.Sprintf("%x", noise(8<<10+i)), 2) }
	for i := range 12 {
		peer.Must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.json", i)), []byte(content(i)), 0o644))
		peer.Must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.txt", i)), []byte("small"), 0o644))
	}
	large, err := os.Create(filepath.Join(dir, "large.json"))
	peer.Must(t, err)
	peer.Must(t, errors.Join(large.Truncate(maxText+1), large.Close()))
	sum := func() (bytes int64) {
		for _, kept := range s.texts.kept {
			bytes += kept.weight()
		}
		return bytes
	}
	for range 2 {
		for i := range 12 {
			if body := said(t, ask(s, "GET", fmt.Sprintf("/%d.json", i))); body != content(i) {
				t.Fatalf("%d: %d bytes", i, len(body))
			}
			if bytes := sum(); bytes > 128<<10 || bytes != s.texts.size || len(s.texts.kept) < min(2, i+1) {
				t.Errorf("%d texts of %d bytes are kept, counted as %d", len(s.texts.kept), bytes, s.texts.size)
			}
		}
	}
	for i := range 12 {
		ask(s, "GET", fmt.Sprintf("/%d.txt", i))
	}
	if n := len(s.texts.kept); n != 8 {
		t.Errorf("%d texts are kept", n)
	}
	if r := ask(s, "HEAD", "/large.json", "Accept-Encoding: gzip"); r.ContentLength != maxText+1 || r.Header.Get("Content-Encoding") != "" {
		t.Errorf("a large one: %v", r.Header)
	}
}

func reprDigest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "Repr-Digest: sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

func TestUploads(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not there yet")
	s := newServer(t, dir, func(o *Options) {
		o.Uploaders = []Credential{Token("old"), Token("secret")}
		o.MaxUpload = 100
	})
	const token = "Authorization: Bearer secret"
	r := send(s, "PUT", "/images/a%20b", strings.NewReader("content"), token, "If-None-Match: *", reprDigest("content"))
	tag := r.Header.Get("Etag")
	if r.StatusCode != 201 || tag == "" || r.Header.Get("Last-Modified") == "" {
		t.Fatalf("new: %s %v: %s", r.Status, r.Header, said(t, r))
	}
	if r := ask(s, "GET", "/images/a%20b"); said(t, r) != "content" || r.Header.Get("Etag") != tag {
		t.Errorf("read: %s %v", r.Status, r.Header)
	}
	for _, test := range []struct {
		what, path, body string
		lines            []string
		status           int
	}{
		{"there already", "/images/a%20b", "other", []string{token, "If-None-Match: *"}, 412},
		{"another version", "/images/a%20b", "other", []string{token, `If-Match: "other"`}, 412},
		{"this version", "/images/a%20b", "content2", []string{token, "If-Match: " + tag, reprDigest("content2")}, 204},
		{"no longer this version", "/images/a%20b", "content3", []string{token, "If-Match: " + tag}, 412},
		{"always", "/images/a%20b", "content4", []string{token}, 204},
		{"nothing in it", "/empty", "", []string{token, reprDigest("")}, 201},
		{"nothing in it, but something said", "/empty", "", []string{token, reprDigest("x")}, 400},
		{"another digest", "/bad", "content", []string{token, reprDigest("contents")}, 400},
		{"no digest", "/bad", "content", []string{token, "Repr-Digest: sha-256=:x:"}, 400},
		{"a short digest", "/bad", "content", []string{token, "Repr-Digest: sha-256=:AAAA:"}, 400},
		{"unknown digests", "/unknown", "content", []string{token, "Repr-Digest: md5=:AAAA:, x=1"}, 201},
		{"one of two digests wrong", "/bad", "content", []string{token, reprDigest("content") + ", sha-512=:" + strings.Repeat("A", 86) + "==:"}, 400},
		{"too large", "/bad", strings.Repeat("x", 101), []string{token}, 413},
		{"as large as may be", "/large", strings.Repeat("x", 100), []string{token}, 201},
		{"a range", "/bad", "content", []string{token, "Content-Range: bytes 0-6/7"}, 400},
		{"packed", "/bad", "content", []string{token, "Content-Encoding: gzip"}, 415},
		{"a weak tag", "/bad", "content", []string{token, `If-Match: W/"x"`}, 400},
		{"two tags", "/bad", "content", []string{token, `If-Match: "x", "y"`}, 400},
		{"both conditions", "/bad", "content", []string{token, `If-Match: "x"`, "If-None-Match: *"}, 400},
		{"any version", "/bad", "content", []string{token, "If-Match: *"}, 400},
		{"hidden", "/.bad", "content", []string{token}, 400},
		{"outside", "/images/../../bad", "content", []string{token}, 400},
		{"the root", "/", "content", []string{token}, 400},
		{"the server's own", "/metrics", "content", []string{token}, 400},
		{"the page's", "/-/bad", "content", []string{token}, 400},
		{"below an object", "/empty/bad", "content", []string{token}, 409},
		{"a directory", "/images", "content", []string{token}, 409},
		{"no token", "/bad", "content", nil, 401},
		{"wrong token", "/bad", "content", []string{"Authorization: Bearer wrong"}, 401},
		{"no bearer", "/bad", "content", []string{"Authorization: Digest secret"}, 401},
		{"the older token", "/older", "content", []string{"Authorization: bearer old"}, 201},
	} {
		if r := send(s, "PUT", test.path, strings.NewReader(test.body), test.lines...); r.StatusCode != test.status {
			t.Errorf("%s: %s: %s", test.what, r.Status, said(t, r))
		}
	}
	if r := send(s, "PUT", "/bad", struct{ io.Reader }{strings.NewReader("content")}, token); r.StatusCode != 411 {
		t.Errorf("no length: %s", r.Status)
	}
	if r := send(s, "PUT", "/bad", io.MultiReader(), token); r.StatusCode == 201 {
		t.Errorf("no length: %s", r.Status)
	}
	names := []string{}
	var objects []listed
	peer.Must(t, json.NewDecoder(ask(s, "GET", "/-/objects", token).Body).Decode(&objects))
	for _, o := range objects {
		names = append(names, o.Name)
	}
	if got := strings.Join(names, ", "); got != "empty, images/a b, large, older, unknown" {
		t.Errorf("there are %s", got)
	}
	peer.Must(t, json.NewDecoder(ask(s, "GET", "/-/objects?prefix=images/", token).Body).Decode(&objects))
	if len(objects) != 1 || objects[0].Name != "images/a b" || objects[0].Size != 8 || etag(objects[0].Version) != ask(s, "GET", "/images/a%20b").Header.Get("Etag") {
		t.Errorf("%+v", objects)
	}
	for _, status := range []int{204, 204} {
		if r := ask(s, "DELETE", "/images/a%20b", token); r.StatusCode != status {
			t.Errorf("remove: %s", r.Status)
		}
	}
	if r := ask(s, "GET", "/images/a%20b"); r.StatusCode != 404 {
		t.Errorf("removed: %s", r.Status)
	}
	for _, path := range []string{"/large", "/-/objects"} {
		method := map[bool]string{true: "GET", false: "DELETE"}[path == "/-/objects"]
		if r := ask(s, method, path); r.StatusCode != 401 || r.Header.Get("WWW-Authenticate") != `Bearer realm="herdbook"` {
			t.Errorf("%s %s without a token: %s", method, path, r.Status)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, ".tmp", "put-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

// failing is a body that breaks off.
type failing struct{ left int }

func (f *failing) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, errors.New("connection reset")
	}
	n := min(len(p), f.left)
	f.left -= n
	return n, nil
}

func TestAnUploadThatBreaksOffLeavesNothing(t *testing.T) {
	dir := repository(t)
	s := newServer(t, dir, func(o *Options) { o.Uploaders = []Credential{Token("secret")} })
	before := said(t, ask(s, "GET", "/index"))
	for _, left := range []int{0, 1, 3 << 20} {
		r := httptest.NewRequest("PUT", "/index", &failing{left})
		r.ContentLength = 3<<20 + 1
		r.Header.Set("Authorization", "Bearer secret")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != 400 || !strings.Contains(w.Body.String(), fmt.Sprintf("ends after %d of", left)) {
			t.Errorf("%d bytes came: %d %s", left, w.Code, w.Body)
		}
	}
	if got := said(t, ask(s, "GET", "/index")); got != before {
		t.Errorf("%d bytes of %d", len(got), len(before))
	}
}

func TestReadingMayNeedACredential(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "page") })
	var logged []Request
	s := newServer(t, repository(t), func(o *Options) {
		o.Readers = []Credential{Password("reader", "pass:word"), Token("read")}
		o.Uploaders = []Credential{Token("write")}
		o.Page = page
		o.Log = func(r Request) { logged = append(logged, r) }
	})
	basic := func(text string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(text))
	}
	for _, test := range []struct {
		line               string
		read, write, known bool
	}{
		{"X-None: 1", false, false, false},
		{basic("reader:pass:word"), true, false, true},
		{"Authorization: Bearer read", true, false, true},
		{"Authorization: Bearer write", true, true, true},
		{basic("reader:pass"), false, false, false},
		{basic("reader:"), false, false, false},
		{basic("Reader:pass:word"), false, false, false},
		{basic("read"), false, false, false},
		{"Authorization: Bearer reader:pass:word", false, false, false},
		{"Authorization: Bearer ", false, false, false},
		{"Authorization: Bearer", false, false, false},
		{"Authorization: Basic read", false, false, false},
		{"Authorization: read", false, false, false},
	} {
		for _, path := range []string{"/index", "/nothing", "/images/web-0123456789ab.xz", "/metrics", "/", "/-/image/web"} {
			r := ask(s, "GET", path, test.line)
			challenges := strings.Join(r.Header.Values("WWW-Authenticate"), "|")
			if (r.StatusCode != 401) != test.read || (challenges == `Basic realm="herdbook", charset="UTF-8"|Bearer realm="herdbook"`) == test.read {
				t.Errorf("GET %s, %s: %s, %s", path, test.line, r.Status, challenges)
			}
		}
		want := map[bool]int{true: 403, false: 401}[test.known]
		if test.write {
			want = 200
		}
		if r := ask(s, "GET", "/-/objects", test.line); r.StatusCode != want {
			t.Errorf("list, %s: %s", test.line, r.Status)
		}
		if r := ask(s, "DELETE", "/nothing", test.line); (r.StatusCode == 204) != test.write {
			t.Errorf("remove, %s: %s", test.line, r.Status)
		}
	}
	if got := ask(s, "GET", "/images/web-0123456789ab.xz", "Authorization: Bearer read").Header.Get("Cache-Control"); got != "private, max-age=31536000, immutable" {
		t.Errorf("others may keep it: %s", got)
	}
	all := fmt.Sprintf("%+v %+v", logged, s.options)
	for _, secret := range []string{"pass:word", "Bearer", "cmVhZGVy"} {
		if strings.Contains(all, secret) {
			t.Errorf("%q is in the log or the options", secret)
		}
	}
	if logged[8].User != "reader" || logged[0].User != "" {
		t.Errorf("users: %+v", logged[:9])
	}
}

func TestThePageHasItsPathsAndHeaders(t *testing.T) {
	s := newServer(t, repository(t), func(o *Options) {
		o.Page = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) })
	})
	for path, page := range map[string]bool{"/": true, "/-/": true, "/-/image/web?x=1": true, "/-": false, "/index": false, "/metrics": false, "/-x/": false} {
		r := ask(s, "GET", path)
		body := said(t, r)
		policy := r.Header.Get("Content-Security-Policy")
		if (strings.HasPrefix(path, body) && body != "") != page || strings.HasPrefix(policy, "default-src 'none'") != page {
			t.Errorf("%s: %s %.40q, policy %q", path, r.Status, body, policy)
		}
	}
}

func TestMetrics(t *testing.T) {
	s := newServer(t, repository(t), func(o *Options) { o.Uploaders = []Credential{Token("secret")} })
	for range 3 {
		ask(s, "GET", "/images/web-0123456789ab.qcow2")
	}
	ask(s, "BREW", "/index")
	ask(s, "FLY", "/index")
	send(s, "PUT", "/new", bytes.NewReader(make([]byte, 123)), "Authorization: Bearer secret")
	got := said(t, ask(s, "GET", "/metrics"))
	for _, line := range []string{
		`herdbook_requests_total{method="GET",status="200"} 3`, `herdbook_requests_total{method="other",status="405"} 2`,
		`herdbook_requests_total{method="PUT",status="201"} 1`, `herdbook_uploaded_bytes_total 123`,
		`herdbook_request_seconds_count{method="GET"} 3`, `herdbook_connections 0`, "herdbook_index_timestamp_seconds 1.", "process_resident_memory_bytes",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("no %s in\n%s", line, got)
		}
	}
}

func FuzzRequest(f *testing.F) {
	dir := repository(f)
	s := newServer(f, dir, nil)
	for _, seed := range [][3]string{
		{"/index", "bytes=0-1", "gzip"}, {"/images/web-0123456789ab.qcow2", "bytes=0-0,2-3,-1", ""}, {"/../outside", "bytes=-", "*;q=0.1"},
		{"/images/link", "bytes=9223372036854775807-", "gzip;q=2"}, {"/.tmp/put-1", "bytes=-9223372036854775808", ";"}, {"//", "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, path, span, accept string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path = path
		r.Header["Range"], r.Header["Accept-Encoding"] = []string{span}, []string{accept}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		for _, secret := range []string{"outside", "not whole", "hidden"} {
			if strings.Contains(w.Body.String(), secret) {
				t.Errorf("%q leads out of the repository", path)
			}
		}
		if w.Code >= 500 || w.Body.Len() > 1<<20 {
			t.Errorf("%q %q %q: %d, %d bytes", path, span, accept, w.Code, w.Body.Len())
		}
	})
}

func FuzzUpload(f *testing.F) {
	s := newServer(f, filepath.Join(f.TempDir(), "repo"), func(o *Options) { o.Uploaders = []Credential{Token("secret")} })
	_, sum, _ := strings.Cut(reprDigest("content"), ": ")
	for _, seed := range [][4]string{
		{"/new", sum, "", "*"}, {"/images/new", "sha-512=::", `"x"`, ""}, {"/../new", "sha-256=:=:, sha-256=?1", "W/", `"`}, {"/.tmp/lock", ",", "*", "*"}, {"/a/b/c", "sha-256", `""`, ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	f.Fuzz(func(t *testing.T, path, digest, match, none string) {
		r := httptest.NewRequest("PUT", "/", strings.NewReader("content"))
		r.URL.Path = path
		r.Header["Authorization"] = []string{"Bearer secret"}
		for key, value := range map[string]string{"Repr-Digest": digest, "If-Match": match, "If-None-Match": none} {
			if value != "" {
				r.Header[key] = []string{value}
			}
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if made := w.Code/100 == 2; w.Code >= 500 || made && bucket.CheckName(strings.TrimPrefix(path, "/")) != nil {
			t.Errorf("%q %q %q %q: %d %s", path, digest, match, none, w.Code, w.Body)
		}
	})
}
