package docker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"herdbook/internal/artefact"
	"herdbook/internal/artefact/artefacttest"
	"herdbook/internal/event"
	"herdbook/internal/peer"
)

// desk stands before a registry, notes what is asked of it, and answers itself what a test
// has it answer.
type desk struct {
	http.Handler
	mu     sync.Mutex
	asked  []string
	answer func(w http.ResponseWriter, r *http.Request) (done bool)
}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.asked = append(d.asked, r.Method+" "+r.URL.Path)
	answer := d.answer
	d.mu.Unlock()
	if answer == nil || !answer(w, r) {
		d.Handler.ServeHTTP(w, r)
	}
}

// set has the desk answer from now on.
func (d *desk) set(answer func(http.ResponseWriter, *http.Request) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = answer
}

// changes are the requests since the last call that change a registry.
func (d *desk) changes() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	asked := slices.DeleteFunc(d.asked, func(s string) bool { return strings.HasPrefix(s, "GET ") || strings.HasPrefix(s, "HEAD ") })
	d.asked = nil
	return asked
}

// newDesk serves a desk before a registry in this process.
func newDesk(t *testing.T) (d *desk, address string) {
	d = &desk{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	s := httptest.NewServer(d)
	t.Cleanup(s.Close)
	return d, strings.TrimPrefix(s.URL, "http://")
}

// outgoing is an artefact that is to be sent.
type outgoing struct {
	*Exporter
	dir      string
	manifest artefact.Manifest
	events   []string
}

func newOutgoing(t *testing.T, push ...string) *outgoing {
	t.Helper()
	c := newChain(t, tree(t))
	c.change(t, "role", "role", func(in func(string) string) { peer.Must(t, os.WriteFile(in("srv/role"), []byte("role"), 0o644)) })
	image, e := c.image(t), newExporter()
	e.pause = time.Millisecond
	e.Push = push
	order := artefacttest.Order(t, image, &e.Docker, e)
	m, err := order.Make(t.Context(), image, nil)
	peer.Must(t, err)
	return &outgoing{Exporter: e, dir: order.Dir, manifest: m}
}

func (o *outgoing) send(ctx context.Context) (where string, fresh bool, err error) {
	o.events = nil
	var mu sync.Mutex
	return o.Send(ctx, o.dir, o.manifest, func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		o.events = append(o.events, string(e.Kind)+" "+e.Text)
	})
}

func (o *outgoing) digest() string { return o.manifest.Facts["digest"].(string) }

// The real registry takes the image once, gives it to podman, and knows what refers to it.
func TestPushToARegistry(t *testing.T) {
	at, err := url.Parse("http://" + peer.Registry(t))
	peer.Must(t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(at); r.Out.Host = r.In.Host }}
	d := &desk{Handler: proxy}
	s := httptest.NewServer(d)
	defer s.Close()
	address := strings.TrimPrefix(s.URL, "http://")
	o := newOutgoing(t, address+"/team/web:1.2", address+"/team/web:latest")
	where, fresh, err := o.send(t.Context())
	peer.Must(t, err)
	if want := fmt.Sprintf("%[1]s/team/web:1.2@%[2]s, %[1]s/team/web:latest@%[2]s", address, o.digest()); where != want || !fresh {
		t.Errorf("%q, %v, want %q", where, fresh, want)
	}
	if sent := d.changes(); len(sent) < 10 {
		t.Errorf("sent: %q", sent)
	}
	if where, fresh, err := o.send(t.Context()); err != nil || fresh || !strings.Contains(where, o.digest()) {
		t.Errorf("the second time: %q, %v, %v", where, fresh, err)
	}
	if sent := d.changes(); len(sent) > 0 || len(o.events) > 0 {
		t.Errorf("the second time it was sent: %q, %q", sent, o.events)
	}
	refers(t, address+"/team/web", o.digest())
	run := podman(t, t.TempDir())
	run("pull", "--quiet", "--tls-verify=false", address+"/team/web:1.2")
	var images []struct{ Digest string }
	peer.Must(t, json.Unmarshal([]byte(run("image", "inspect", address+"/team/web:1.2")), &images))
	if images[0].Digest != o.digest() {
		t.Errorf("podman has %s, the manifest says %s", images[0].Digest, o.digest())
	}
}

// refers finds the list of packages as any client does: by what it refers to.
func refers(t *testing.T, repository, digest string) {
	t.Helper()
	ref, err := name.NewDigest(repository + "@" + digest)
	peer.Must(t, err)
	index, err := remote.Referrers(ref)
	peer.Must(t, err)
	manifest, err := index.IndexManifest()
	peer.Must(t, err)
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].ArtifactType != "application/vnd.cyclonedx+json" {
		t.Fatalf("%+v", manifest.Manifests)
	}
	got, err := remote.Get(ref.Context().Digest(manifest.Manifests[0].Digest.String()))
	peer.Must(t, err)
	var artefact v1.Manifest
	peer.Must(t, json.Unmarshal(got.Manifest, &artefact))
	if artefact.Subject.Digest.String() != digest {
		t.Errorf("it refers to %s", artefact.Subject.Digest)
	}
}

// What a registry refuses is told with what to do, and not tried again; nothing of it is
// under the tag.
func TestRefusalsAreExplained(t *testing.T) {
	d, address := newDesk(t)
	o := newOutgoing(t, address+"/team/web:1")
	for _, c := range []struct {
		want   string
		answer func(http.ResponseWriter, *http.Request) bool
	}{
		{"docker login " + address, on("POST", "/blobs/uploads/", 401, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)},
		{"403 Forbidden: the account may not push to te", on("POST", "/blobs/uploads/", 403, "<html>"+strings.Repeat("no ", 5000))},
		{"there is no such repository", on("POST", "/blobs/uploads/", 404, "")},
		{"a proxy before the registry limits uploads", on("PATCH", "/blobs/uploads/", 413, "too large")},
		{"DIGEST_INVALID: not what it says it is: the r", on("PUT", "/blobs/uploads/", 400, `{"errors":[{"code":"DIGEST_INVALID","message":"not what it says it is"}]}`)},
		{"MANIFEST_INVALID: no: the registry refuses wh", on("PUT", "/manifests/", 400, `{"errors":[{"code":"MANIFEST_INVALID","message":"no"}]}`)}, // all else is there then
	} {
		want := c.want
		d.set(c.answer)
		_, _, err := o.send(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "push to "+address+"/team/web:1: ") || len(err.Error()) > 500 {
			t.Errorf("%s: %v", want, err)
		}
		if i := slices.IndexFunc(o.events, func(s string) bool { return strings.HasPrefix(s, "notice") }); i >= 0 {
			t.Errorf("%s: %q", want, o.events[i])
		}
	}
	d.set(nil)
	if _, fresh, err := o.send(t.Context()); err != nil || !fresh {
		t.Errorf("behind all refusals: %v, %v", fresh, err)
	}
}

// What passes is tried again by itself, and goes on behind what is there.
func TestTroublesThatPass(t *testing.T) {
	for name, trouble := range map[string]func(w http.ResponseWriter){
		"busy":   func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) },
		"down":   func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"broken": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		for _, method := range []string{"HEAD", "POST", "PATCH", "PUT"} {
			t.Run(name+" "+method, func(t *testing.T) {
				d, address := newDesk(t)
				o := newOutgoing(t, address+"/web:1")
				left := 3
				d.set(func(w http.ResponseWriter, r *http.Request) bool {
					if r.Method != method {
						return false
					}
					d.mu.Lock()
					left--
					now := left >= 0
					d.mu.Unlock()
					if now {
						trouble(w)
					}
					return now
				})
				if _, fresh, err := o.send(t.Context()); err != nil || !fresh {
					t.Fatalf("%v, %v", fresh, err)
				}
				if !slices.ContainsFunc(o.events, func(s string) bool { return strings.HasPrefix(s, "notice the registry is asked again in ") }) {
					t.Errorf("%q", o.events)
				}
				d.changes()
				if _, fresh, err := o.send(t.Context()); err != nil || fresh {
					t.Errorf("the second time: %v, %v", fresh, err)
				}
			})
		}
	}
}

// A registry that stays in trouble ends the push. The next one sends the rest.
func TestAPushGoesOn(t *testing.T) {
	d, address := newDesk(t)
	o := newOutgoing(t, address+"/web:1")
	d.set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "PUT" && strings.Contains(r.URL.Path, "/manifests/") {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	_, _, err := o.send(t.Context())
	if err == nil || !strings.Contains(err.Error(), "the next build goes on") {
		t.Errorf("the error: %v", err)
	}
	uploads := func() (n int) {
		for _, s := range d.changes() {
			if strings.HasPrefix(s, "PATCH") {
				n++
			}
		}
		return n
	}
	if n := uploads(); n != 3 { // two layers, a configuration
		t.Errorf("%d blobs were sent", n)
	}
	d.set(nil)
	_, fresh, err := o.send(t.Context())
	peer.Must(t, err)
	if n := uploads(); n != 2 || !fresh { // what is of the list of packages
		t.Errorf("%d blobs were sent again", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	o.pause = time.Hour
	o.Push[0] = address + "/other:1"
	d.set(func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		cancel()
		return true
	})
	if _, _, err := o.send(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("when it is cancelled: %v", err)
	}
}

// What a registry says of when it wants to be asked again is done.
func TestARegistryThatSaysWhen(t *testing.T) {
	o := newOutgoing(t)
	for status, at := range map[int][2]string{429: {"POST", "/blobs/uploads/"}, 503: {"PUT", "/manifests/1"}} {
		d, address := newDesk(t) // one that has no blob yet, and is sent them all
		var asked atomic.Bool
		d.set(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != at[0] || !strings.HasSuffix(r.URL.Path, at[1]) || asked.Swap(true) {
				return false
			}
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(status)
			return true
		})
		start := time.Now()
		o.Push = []string{address + "/web:1"}
		if _, _, err := o.send(t.Context()); err != nil || time.Since(start) < time.Second {
			t.Errorf("%d: %v after %s", status, err, time.Since(start))
		}
		if want := fmt.Sprintf("notice the registry is asked again in 1s: %d ", status); !slices.ContainsFunc(o.events, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("%q", o.events)
		}
	}
}

// on answers requests of a method, to paths with some part, by a status.
func on(method, path string, status int, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || !strings.Contains(r.URL.Path, path) {
			return false
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}
}

// A registry may take images and nothing that refers to one: the image is what counts.
func TestARegistryWithoutReferrers(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"its manifest": on("PUT", "/manifests/sha256:", 400, `{"errors":[{"code":"MANIFEST_INVALID","message":"no artefacts"}]}`),
		"the tag":      on("PUT", "/manifests/sha256-", 403, `{"errors":[{"code":"DENIED","message":"no such tags"}]}`),
		"the question": on("GET", "/referrers/", 405, ""),
	} {
		d, address := newDesk(t)
		o := newOutgoing(t, address+"/web:1")
		d.set(answer)
		for _, first := range []bool{true, false} {
			where, fresh, err := o.send(t.Context())
			if err != nil || fresh != first || !strings.Contains(where, o.digest()) {
				t.Errorf("%s: %q, %v, %v", name, where, fresh, err)
			}
			told := slices.DeleteFunc(slices.Clone(o.events), func(s string) bool { return !strings.HasPrefix(s, "notice ") })
			if len(told) != 1 || !strings.Contains(told[0], "/web:1 has the image, and does not take the list of its packages: ") || !strings.Contains(told[0], "sbom = false") {
				t.Errorf("%s: %q", name, o.events)
			}
		}
		d.set(nil)
		if _, fresh, err := o.send(t.Context()); err != nil || !fresh {
			t.Errorf("%s: when it takes the list: %v, %v", name, fresh, err)
		}
		refers(t, address+"/web", o.digest())
		// Who may not is told so: that is not the registry's nature.
		d, address = newDesk(t)
		o.Push[0] = address + "/web:1"
		d.set(on("PUT", "/manifests/sha256:", 401, ""))
		if _, _, err := o.send(t.Context()); err == nil || !strings.Contains(err.Error(), "docker login") {
			t.Errorf("without the right: %v", err)
		}
	}
}

// The list is there, and what leads to it is not: the next push brings that.
func TestAListThatNobodyFinds(t *testing.T) {
	d, address := newDesk(t)
	o := newOutgoing(t, address+"/web:1")
	d.set(on("PUT", "/manifests/sha256-", 503, ""))
	if _, _, err := o.send(t.Context()); err == nil {
		t.Error("it is all well")
	}
	d.set(nil)
	if _, fresh, err := o.send(t.Context()); err != nil || !fresh {
		t.Errorf("%v, %v", fresh, err)
	}
	refers(t, address+"/web", o.digest())
}

func TestNoListIfNoneIsWanted(t *testing.T) {
	d, address := newDesk(t)
	image, e := newImage(t, tree(t)), newExporter()
	e.SBOM, e.Push = false, []string{address + "/web:1"}
	order := artefacttest.Order(t, image, &e.Docker, e)
	m, err := order.Make(t.Context(), image, nil)
	peer.Must(t, err)
	for _, f := range m.Files {
		if strings.Contains(f.Name, "cdx") {
			t.Errorf("there is %s", f.Name)
		}
	}
	_, fresh, err := e.Send(t.Context(), order.Dir, m, nil)
	if err != nil || !fresh {
		t.Errorf("%v, %v", fresh, err)
	}
	for _, request := range d.changes() {
		if strings.HasPrefix(request, "PUT") && strings.Contains(request, "/manifests/") && request != "PUT /v2/web/manifests/1" {
			t.Errorf("it is asked %s", request)
		}
	}
}

// endless is an answer that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestAnAnswerWithoutEnd(t *testing.T) {
	round := roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{Body: io.NopCloser(endless{})}, nil
	})
	r, err := http.NewRequest(http.MethodGet, "https://registry.example.org/v2/", nil)
	peer.Must(t, err)
	response, err := guarded{round, false}.RoundTrip(r)
	peer.Must(t, err)
	if n, err := io.Copy(io.Discard, response.Body); n != maxAnswer || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// The account is that of Docker's file, and stands in nothing that is told.
func TestAccounts(t *testing.T) {
	const secret = "hunter2-and-more"
	d, address := newDesk(t)
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:"+secret))
	d.set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == want {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="herd"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	o := newOutgoing(t, address+"/web:1")
	if _, _, err := o.send(t.Context()); err == nil || !strings.Contains(err.Error(), "docker login "+address) {
		t.Errorf("without an account: %v", err)
	}
	home := t.TempDir()
	file := filepath.Join(home, ".docker", "config.json")
	peer.Must(t, os.Mkdir(filepath.Dir(file), 0o700))
	lay := func(text string) { peer.Must(t, os.WriteFile(file, []byte(text), 0o600)) }
	login := func(account string) {
		lay(fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, address, base64.StdEncoding.EncodeToString([]byte(account))))
	}
	o.LookupEnv = func(name string) (string, bool) {
		value, ok := map[string]string{"HOME": home, "DOCKER_CONFIG": filepath.Join(home, "missing"), "XDG_RUNTIME_DIR": ""}[name]
		return value, ok
	}
	login("me:wrong-" + secret)
	_, _, err := o.send(t.Context())
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("with a wrong one: %v", err)
	}
	login("me:" + secret)
	where, fresh, err := o.send(t.Context())
	if err != nil || !fresh || strings.Contains(where+strings.Join(o.events, "\n"), secret) {
		t.Errorf("%q, %v, %v, %q", where, fresh, err, o.events)
	}
	lay("{" + secret)
	o.Push[0] = address + "/web:2"
	if _, _, err := o.send(t.Context()); err == nil || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), secret) {
		t.Errorf("with a broken file: %v", err)
	}
}

// Private addresses are no reason to send an account in the clear.
func TestNothingGoesOutInTheClear(t *testing.T) {
	reached := 0
	count := roundTripper(func(*http.Request) (*http.Response, error) { reached++; return nil, errors.New("reached") })
	for _, c := range []struct {
		url      string
		insecure bool
		passes   bool
	}{
		{"http://127.0.0.1:5000/v2/", false, true}, {"http://localhost:5000/v2/", false, true}, {"http://[::1]:5000/v2/", false, true},
		{"https://10.0.0.1/v2/", false, true}, {"http://10.0.0.1/v2/", false, false}, {"http://registry.local/v2/", false, false}, {"http://10.0.0.1/v2/", true, true},
	} {
		before := reached
		r, err := http.NewRequest(http.MethodGet, c.url, nil)
		peer.Must(t, err)
		_, err = guarded{count, c.insecure}.RoundTrip(r)
		if (reached > before) != c.passes || !c.passes && !errors.Is(err, errClear) {
			t.Errorf("%s: %v", c.url, err)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
