package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"golang.org/x/sys/unix"

	"herdbook/internal/definition"
	"herdbook/internal/peer"
)

func handler(t testing.TB, source Source, url string) *Handler {
	t.Helper()
	h, err := New(source, Options{URL: url, Now: func() time.Time { return noon }})
	peer.Must(t, err)
	return h
}

// get asks a handler for a page.
func get(h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://images.example.org"+target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// small is a repository whose pages can be read as a whole.
func small() *fake {
	h := herd{fake{&Repository{Version: 2, Signed: noon, Expires: noon.AddDate(0, 3, 0), Fingerprint: strings.Repeat("0123456789", 4)}, map[string]Manifest{}, nil}}
	bash := Package{"bash", "5.2.15-2+b7", "amd64", 7_164_000}
	nginx := Package{"nginx", "1.22.1-9", "amd64", 1_328_128}
	first := Layer{Digest: "sha256:" + strings.Repeat("a1", 32), Image: "bookworm", Step: `install "preseed"`, Made: noon.Add(-time.Hour), Took: 20 * time.Minute, Size: 1 << 30, Added: []Package{bash}}
	second := Layer{Digest: "sha256:" + strings.Repeat("b2", 32), Image: "web", Step: `packages "nginx"`, Made: noon, Took: 31 * time.Second, Size: 96 << 20,
		Added: []Package{nginx}, Removed: []Package{{"nano", "7.2-1", "amd64", 2_838_528}}, Changed: []Change{{"sudo", "amd64", "1.9.13p3-1", "1.9.13p3-2", -512}}}
	newer := bash
	newer.Version = "5.2.15-2+b8"
	h.publish(Revision{Image: "web", ID: "web-r2", Title: "Web server", System: "debian12", Arch: "x86_64", Number: 2, Size: 6 << 30, Published: noon,
		Notes: "Two\n  lines", Channels: []Channel{{"testing", noon, true}}}, Manifest{Layers: []Layer{first, second}, Packages: []Package{newer, nginx}})
	h.publish(Revision{Image: "web", ID: "web", Title: "Web server", System: "debian12", Arch: "x86_64", Number: 1, Size: 4 << 30, Published: noon.AddDate(0, 0, -1),
		Channels: []Channel{{"stable", noon, true}}}, Manifest{Layers: []Layer{first}, Packages: []Package{bash}})
	return &h.fake
}

func TestPagesAreAsBefore(t *testing.T) {
	h := handler(t, small(), "https://images.example.org/herd")
	for name, target := range map[string]string{
		"index": "/", "search": "/?q=nginx", "none": "/?q=no+such", "image": "/-/images/web", "revision": "/-/images/web/2", "compare": "/-/compare/web/1/2", "missing": "/-/images/we",
	} {
		body := get(h, http.MethodGet, target).Body.String()
		for _, a := range h.assets {
			body = strings.ReplaceAll(body, a.path, "/-/asset")
		}
		peer.Golden(t, name+".html", []byte(body))
	}
}

func TestAnswersHaveTheRightStatusAndHeaders(t *testing.T) {
	source := sample()
	h := handler(t, source, "")
	for target, want := range map[string]int{
		"/": 200, "/?q=nginx": 200, "/?page=2": 200, "/?page=-1": 200, "/?page=x&q=%ff%00": 200, "/-/images/web": 200, "/-/images/web?arch=aarch64": 200,
		"/-/images/web/7": 200, "/-/images/web/2?arch=aarch64": 200, "/-/compare/web/1/8": 200, "/-/compare/web?a=1&b=2": 303,
		"/-/images/web?arch=riscv64": 404, "/-/images/web/8?arch=aarch64": 404, "/-/images/web/99": 404, "/-/images/web/x": 404, "/-/images/web/99999999999999999999": 404,
		"/-/images/none": 404, "/-/compare/web/1/99": 404, "/-/compare/web/-/-": 404, "/-/compare/none/1/1": 404, "/nothing": 404, "/-/": 404, "/-/images/": 404, "/-/images/web/7/x": 404,
		"/-/compare/web/8/2?arch=aarch64": 404, "/-/images/%2e%2e%2f%2e%2e": 404,
	} {
		w := get(h, http.MethodGet, target)
		if w.Code != want {
			t.Errorf("%s: %d, want %d", target, w.Code, want)
		}
		head := get(h, http.MethodHead, target)
		if head.Code != want || head.Body.Len() > 0 || head.Header().Get("Content-Length") != w.Header().Get("Content-Length") || head.Header().Get("Etag") != w.Header().Get("Etag") {
			t.Errorf("HEAD %s: %d %v", target, head.Code, head.Header())
		}
		if want == 303 {
			continue
		}
		if got := w.Header(); got.Get("Content-Type") != "text/html; charset=utf-8" || got.Get("Cache-Control") != "no-cache" || got.Get("Content-Security-Policy") != policy ||
			got.Get("X-Content-Type-Options") != "nosniff" || w.Body.Len() == 0 {
			t.Errorf("%s: %v", target, got)
		}
		if post := get(h, http.MethodPost, target); post.Code != 405 {
			t.Errorf("POST %s: %d", target, post.Code)
		}
	}
	etag := get(h, http.MethodGet, "/").Header().Get("Etag")
	if w := get(h, http.MethodGet, "/", "If-None-Match", etag); etag == "" || w.Code != 304 || w.Body.Len() > 0 {
		t.Errorf("%d for the page %s that is there already", w.Code, etag)
	}
	source.repository = &Repository{Revisions: source.repository.Revisions[:1]}
	if w := get(h, http.MethodGet, "/", "If-None-Match", etag); w.Code != 200 || strings.Contains(w.Body.String(), "ceph") || !strings.Contains(w.Body.String(), "Nobody signs this index") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	if w := get(h, http.MethodGet, "/-/compare/web?a=1&b=../2&arch=a/b%26"); w.Header().Get("Location") != "/-/compare/web/1/..%2F2?arch=a%2Fb%26" {
		t.Error(w.Header())
	}
	for _, a := range h.assets {
		if w := get(h, http.MethodGet, a.path); w.Code != 200 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Header().Get("Content-Type") != a.kind {
			t.Errorf("%s: %d %v", a.path, w.Code, w.Header())
		}
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
		want   string
	}{
		"no index":   {fmt.Errorf("open index: %w", fs.ErrNotExist), 404, "nothing published yet"},
		"no storage": {errors.New("secret cause"), 503, "Try again"},
	} {
		w := get(handler(t, &fake{err: c.err}, ""), http.MethodGet, "/")
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	source := small()
	source.repository.Expires = noon
	if body := get(handler(t, source, ""), http.MethodGet, "/").Body.String(); !strings.Contains(body, "This index has expired") {
		t.Error("an index that has expired is shown without a word")
	}
	clear(source.manifests)
	for target, want := range map[string]string{
		"/-/images/web/2": "manifest of this revision cannot be read", "/-/compare/web/1/2": "revision 1 and revision 2 has no manifest", "/?q=nginx": "2 revisions</q>",
	} {
		want = strings.TrimSuffix(want, "</q>")
		if w := get(handler(t, source, ""), http.MethodGet, target); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	if body := get(handler(t, &fake{repository: &Repository{}}, ""), http.MethodGet, "/").Body.String(); !strings.Contains(body, "This repository is empty") {
		t.Error(body)
	}
	for _, url := range []string{"images.example.org", "ftp://x/", "http://", "%"} {
		if _, err := New(small(), Options{URL: url}); err == nil {
			t.Errorf("%q is an address", url)
		}
	}
}

func TestTheAddressIsTheRequestsOrTheOneGiven(t *testing.T) {
	for host, want := range map[string]string{"a.example:8080": "http://a.example:8080", "[::1]:80": "http://[::1]:80", `x"; reboot`: "http://localhost", "": "http://localhost"} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		if got := handler(t, small(), "").address(r); got != want {
			t.Errorf("%q: %s", host, got)
		}
	}
	body := get(handler(t, small(), "https://front.example/herd/"), http.MethodGet, "/-/images/web").Body.String()
	for _, want := range []string{`href="/herd/"`, `href="/herd/-/images/web/2"`, `action="/herd/-/compare/web"`, "uri=https://front.example/herd/index.asc"} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

// found are the images that a search finds, in order.
func found(t *testing.T, h *Handler, query string) string {
	t.Helper()
	body := get(h, http.MethodGet, "/?q="+strings.ReplaceAll(query, " ", "+")).Body.String()
	var names []string
	for _, m := range regexp.MustCompile(`<h2><a href="/-/images/([^"]*)"`).FindAllStringSubmatch(body, -1) {
		names = append(names, m[1])
	}
	return strings.Join(names, " ")
}

func TestSearchLooksEverywhere(t *testing.T) {
	h := handler(t, sample(), "")
	for query, want := range map[string]string{
		"web": "web", "WEB": "web", "bookworm": "bookworm web", "debian12": "bookworm ceph-osd web", "testing": "ceph-osd web", "previous_quarter": "web", "aarch64": "web",
		"nginx-common": "web", "openssh-server": "bookworm ceph-osd web", "openssh ceph": "ceph-osd", "testing nginx": "web", "osd": "ceph-osd", "its own installer": "bookworm",
		"nonesuch": "", "web nonesuch": "", "  ": "bookworm ceph-osd web",
	} {
		if got := found(t, h, query); got != want {
			t.Errorf("%q finds %q, want %q", query, got, want)
		}
	}
	if body := get(h, http.MethodGet, "/?q=nginx-com").Body.String(); !strings.Contains(body, "<code>nginx-common</code>") {
		t.Error("which package was found is not said")
	}
	if got := get(h, http.MethodGet, "/-/images/web/8?q=LIBC").Body.String(); !strings.Contains(got, "2 of 95 packages") && !strings.Contains(got, "of 9") {
		t.Error(got)
	}
}

// many is a repository with as many revisions, and a manifest for each.
func manyRevisions(n int) *fake {
	h := herd{fake{&Repository{Version: 1}, map[string]Manifest{}, nil}}
	packages := base(false)
	for len(packages) < 300 {
		packages = append(packages, packages...)
	}
	for i := range n {
		r := Revision{Image: fmt.Sprintf("image-%05d", i/2), Title: "An image", System: "debian12", Arch: "x86_64", Number: 2 - i%2, Size: 1 << 32, Published: noon, Notes: strings.Repeat("words ", 20)}
		if i%2 == 0 {
			r.Channels = []Channel{{"stable", noon, true}}
		}
		h.publish(r, Manifest{Packages: append(packages[:300:300], Package{Name: fmt.Sprintf("only-in-%05d", i/2)})})
	}
	return &h.fake
}

func TestTenThousandEntriesAreFast(t *testing.T) {
	const entries = 10_000
	h := handler(t, manyRevisions(entries), "")
	get(h, http.MethodGet, "/") // makes the catalogue
	for n := 0; strings.Contains(get(h, http.MethodGet, "/?q=x").Body.String(), "were not looked through"); n++ {
		if n > 400 {
			t.Fatal("the packages are never read to an end")
		}
	}
	for target, want := range map[string]string{"/": "Page 1 of 100", "/?page=100": "image-04999", "/?page=999": "image-04999", "/?q=only-in-04321": "image-04321", "/?q=debian12": "Page 1 of 100", "/?q=openssh": "5,000 images have"} {
		best := time.Hour
		for range 3 {
			start := processor(t)
			body := get(h, http.MethodGet, target).Body.String()
			best = min(best, processor(t)-start)
			if !strings.Contains(body, want) {
				t.Errorf("%s does not have %s", target, want)
			}
		}
		t.Logf("%s: %v", target, best)
		if best > 500*time.Millisecond {
			t.Errorf("%s took %v", target, best)
		}
	}
}

// processor is the time that this process has had on processors. A busy machine
// makes the time on a clock mean nothing.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	peer.Must(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// slow is a source whose manifests take their time, until the context ends.
type slow struct{ *fake }

func (s slow) Manifest(ctx context.Context, _ string) (Manifest, error) {
	<-ctx.Done()
	return Manifest{}, ctx.Err()
}

func TestASearchDoesNotWaitForEver(t *testing.T) {
	body := get(handler(t, slow{sample()}, ""), http.MethodGet, "/?q=nginx").Body.String()
	if !strings.Contains(body, "were not looked through yet") || !strings.Contains(body, "1 image has") {
		t.Error(body)
	}
}

func TestContentsAreBoundedAndForgotten(t *testing.T) {
	source := manyRevisions(6)
	var c contents
	files := slices.Sorted(maps.Keys(source.manifests))
	if left := c.read(t.Context(), source, files); left != 0 || c.total != 6*301 || len(c.of) != 6 {
		t.Errorf("%d are left, %d packages of %d", left, c.total, len(c.of))
	}
	if left := c.read(t.Context(), source, files[:2]); left != 0 || c.total != 2*301 || len(c.of) != 2 {
		t.Errorf("%d are left, %d packages of %d", left, c.total, len(c.of))
	}
	c.total = maxContents - 2*301 + 1
	if left := c.read(t.Context(), source, files[:4]); left != 1 || c.total != maxContents-301+1 {
		t.Errorf("%d are left, %d packages", left, c.total)
	}
}

func TestHostileTextStaysText(t *testing.T) {
	h := handler(t, cruel(), "")
	name := strings.NewReplacer("?", "%3F", "#", "%23").Replace(escaped("x" + hostile)[1:])
	name = strings.ReplaceAll(name, "/", "%2F")
	for _, target := range []string{"/", "/?q=" + strings.NewReplacer("%2F", "/", "+", "%2B").Replace(name), "/-/images/" + name, "/-/images/" + name + "/2", "/-/compare/" + name + "/1/2", "/-/images/" + name + "x"} {
		body := get(h, http.MethodGet, target).Body.String()
		if strings.Contains(body, "<script>") || strings.Contains(body, "<img") || strings.Contains(body, "\u202e") || strings.Contains(body, "\x1b") || strings.Contains(body, "ZgotmplZ") {
			t.Errorf("%s: text of the repository became more than text", target)
		}
		if !strings.Contains(body, "&lt;script&gt;") && !strings.HasSuffix(target, "x") {
			t.Errorf("%s does not show the text", target)
		}
	}
	for file, want := range map[string]string{"//evil.example/x": "/evil.example/x", "../../x": "/x", "javascript:alert(1)": "/javascript:alert%281%29", "a b?c#d": "/a%20b%3Fc%23d"} {
		link := h.functions()["file"].(func(string) string)(file)
		if link != want {
			t.Errorf("%q links to %s", file, link)
		}
	}
}

func TestCommandsSurviveAnyName(t *testing.T) {
	for _, word := range []string{"web", "", "a b", "it's", `"$(reboot)"`, "`id`", "a\\", "*", "~", "é", "!x", "a;b&c|d>e", hostile} {
		out, err := exec.Command("sh", "-c", "printf %s "+quote(word)).Output()
		if err != nil || string(out) != oneLine(word) {
			t.Errorf("%q becomes %q: %v", word, out, err)
		}
		e, diags := hclsyntax.ParseExpression([]byte(hclString(word)), "", hcl.InitialPos)
		if diags.HasErrors() {
			t.Errorf("%q: %v", word, diags)
			continue
		}
		if v, diags := e.Value(nil); diags.HasErrors() || v.AsString() != oneLine(word) {
			t.Errorf("%q becomes %v: %v", word, v, diags)
		}
	}
	if got := oneLine("a\nreboot\n"); got != "a reboot" {
		t.Errorf("%q", got)
	}
	q := &request{catalogue: newCatalogue(&Repository{})}
	if places(q, &Revision{Image: "--delete", ID: "--delete"}, false) != nil {
		t.Error("an image can be named like an option")
	}
	for base, want := range map[string]string{"http://127.0.0.1:8080": "127-0-0-1", "https://images.example.org/herd": "images-example-org", "http://[::1]": "1", "://": "herdbook"} {
		if got := repositoryID(base); got != want {
			t.Errorf("%s: %s", base, got)
		}
	}
}

func TestPlacesAreThoseOfTheRevision(t *testing.T) {
	q := &request{catalogue: newCatalogue(&Repository{}), base: "https://images.example.org"}
	tell := func(r Revision) string {
		var words []string
		for _, p := range places(q, &r, false) {
			words = append(words, p.ID)
			for _, c := range p.Commands {
				if p.ID == "vagrant" || p.ID == "herdbook" && c.Label == "Download" {
					fields := strings.Fields(c.Text)
					words = append(words, fields[2], fields[3])
					if p.ID == "vagrant" {
						words = append(words, fields[5])
					}
				}
			}
		}
		return strings.Join(words, " ")
	}
	stable, testing := []Channel{{"testing", noon, true}, {"stable", noon, true}}, []Channel{{"stable", noon, false}, {"testing", noon, true}}
	files := []Artefact{{Kind: "qcow2", File: "images/a"}, {Kind: "box.libvirt"}, {Kind: "box.virtualbox"}, {Kind: "kernel"}}
	for want, r := range map[string]Revision{
		"virt-builder herdbook web \\": {Image: "web", ID: "web", Number: 3, Channels: stable},
		"virt-builder herdbook web@3 \\ openstack libvirt vagrant add https://images.example.org/vagrant/web-testing.json libvirt add https://images.example.org/vagrant/web-testing.json virtualbox ipxe curl": {Image: "web", ID: "web-r3", Number: 3, Channels: testing, Artefacts: files},
		"virt-builder herdbook web \\ openstack libvirt vagrant add https://images.example.org/vagrant/web.json libvirt add https://images.example.org/vagrant/web.json virtualbox ipxe curl":                   {Image: "web", ID: "web", Number: 3, Channels: stable, Artefacts: files},
		"virt-builder herdbook web@3 \\ openstack libvirt ipxe curl": {Image: "web", ID: "web-r3", Number: 3, Artefacts: files},
	} {
		if got := tell(r); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestTheDefinitionIsOne(t *testing.T) {
	for _, fingerprint := range []string{"", strings.Repeat("0123456789abcdef", 4)[:40]} {
		q := &request{catalogue: newCatalogue(&Repository{Fingerprint: fingerprint}), base: "https://images.example.org/herd"}
		path := filepath.Join(t.TempDir(), "herdbook.hcl")
		peer.Must(t, os.WriteFile(path, []byte(ours(q, &Revision{Image: "web", Number: 7, Arch: "x86_64"}, fingerprint == "").Commands[1].Text), 0o644))
		d, err := definition.Load(path, definition.Options{})
		if err != nil || len(d.Images) != 1 || d.Images[0].Template == nil || d.Images[0].Template.Revision != 7 {
			t.Errorf("%+v: %v", d, err)
		}
	}
}

// TestCommandsWork runs what the pages tell people to run.
func TestCommandsWork(t *testing.T) {
	peer.NeedTool(t, "gpg", "gpgv", "curl", "sha512sum", "virt-builder")
	dir, work := t.TempDir(), t.TempDir()
	t.Setenv("GNUPGHOME", t.TempDir())
	peer.Run(t, "gpg", "--batch", "--passphrase", "", "--quick-generate-key", "Herd <herd@example.org>", "rsa3072", "sign", "never")
	r := Revision{Image: "web", ID: "web", Title: "Web server", Arch: "x86_64", Number: 1, Size: 4 << 30, Artefacts: []Artefact{{"qcow2", "images/web.qcow2", 5, sum("image")}}}
	index := "[web]\nname=Web server\narch=x86_64\nfile=images/web.qcow2\nchecksum[sha512]=" + sum("image") + "\nrevision=1\nformat=qcow2\nsize=4294967296\n"
	peer.Must(t, errors.Join(os.Mkdir(filepath.Join(dir, "images"), 0o755), os.WriteFile(filepath.Join(dir, "images/web.qcow2"), []byte("image"), 0o644), os.WriteFile(filepath.Join(dir, "index"), []byte(index), 0o644)))
	peer.Run(t, "gpg", "--batch", "--clearsign", filepath.Join(dir, "index"))
	peer.Run(t, "gpg", "--batch", "--armor", "--output", filepath.Join(dir, "key.asc"), "--export")
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	run := func(text string) (string, error) {
		cmd := exec.Command("sh", "-ec", text)
		cmd.Dir = work
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	commands := append(trust(server.URL), download(server.URL, r.Artefacts[0])...)
	for _, c := range commands {
		if out, err := run(c.Text); err != nil {
			t.Errorf("%s: %v\n%s\n%s", c.Label, err, c.Text, out)
		}
	}
	// virt-builder reads the repository as the page has it configured.
	q := &request{catalogue: newCatalogue(&Repository{Fingerprint: "x"}), base: server.URL}
	config := filepath.Join(work, "virt-builder", "repos.d")
	peer.Must(t, os.MkdirAll(config, 0o755))
	vb := virtBuilder(q, &r, false).Commands
	for i := range vb {
		vb[i].Text = strings.ReplaceAll(vb[i].Text, "/etc/virt-builder/repos.d", config)
	}
	out, err := run(vb[0].Text)
	peer.Must(t, errors.Join(err, os.WriteFile(filepath.Join(config, "x.conf"), []byte(vb[1].Text), 0o644)))
	t.Setenv("VIRT_BUILDER_DIRS", work)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(work, "none"))
	if out := out + peer.Run(t, "virt-builder", "--no-cache", "--list"); !regexp.MustCompile(`web +x86_64 +Web server`).MatchString(out) {
		t.Error(out)
	}
	// And what was altered is refused.
	peer.Must(t, os.WriteFile(filepath.Join(work, "web.qcow2"), []byte("other"), 0o644))
	for _, c := range download(server.URL, r.Artefacts[0])[1:] {
		if out, err := run(c.Text); err == nil {
			t.Errorf("%s passes for a file that was altered: %s", c.Label, out)
		}
	}
}

func TestManyAskWhileARepositoryChanges(t *testing.T) {
	source := &changing{fake: manyRevisions(40)}
	h := handler(t, source, "")
	var wait sync.WaitGroup
	for n := range 8 {
		wait.Go(func() {
			for i := range 20 {
				target := []string{"/", "/?q=openssh", "/-/images/image-00003", "/-/compare/image-00003/1/2"}[(n+i)%4]
				if w := get(h, http.MethodGet, target); w.Code != 200 {
					t.Errorf("%s: %d", target, w.Code)
				}
			}
		})
	}
	wait.Wait()
}

// changing is a repository that is another one whenever it is asked for.
type changing struct{ *fake }

func (c *changing) Repository(context.Context) (*Repository, error) {
	changed := *c.repository
	return &changed, nil
}

func TestAnImageOfManyRevisionsIsPaged(t *testing.T) {
	h := herd{fake{&Repository{}, map[string]Manifest{}, nil}}
	for n := 10_000; n > 0; n-- {
		r := Revision{Image: "web", ID: "web", Arch: "x86_64", Number: n, Published: noon}
		if n == 17 {
			r.Channels = []Channel{{"stable", noon, true}}
		}
		h.publish(r, Manifest{})
	}
	body := get(handler(t, &h.fake, ""), http.MethodGet, "/-/images/web?page=2").Body.String()
	for _, want := range []string{"Page 2 of 100", `/-/images/web/9900">9,900<`, "<option selected>17</option>", "<option selected>10000</option>"} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if len(body) > 100_000 {
		t.Errorf("the page has %d bytes", len(body))
	}
}

// FuzzPages asks for anything: it is answered, and what was asked is text.
func FuzzPages(f *testing.F) {
	for _, target := range pages {
		path, query, _ := strings.Cut(target, "?")
		f.Add(path, query)
	}
	f.Add("/-/compare/web/-1/9223372036854775808", "arch=<script>")
	f.Add("/", "q="+hostile+"&page=99999999999999999999")
	h := handler(f, sample(), "")
	f.Fuzz(func(t *testing.T, path, query string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL = &url.URL{Path: path, RawQuery: query}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if !slices.Contains([]int{200, 301, 303, 307, 400, 404}, w.Code) || strings.Contains(w.Body.String(), "<script>") {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
	})
}

func TestPackagesAreCompared(t *testing.T) {
	p := func(name, version string) Package { return Package{name, version, "amd64", 10} }
	a := []Package{p("bash", "1"), p("kernel", "5.1"), p("kernel", "5.2"), p("nano", "1"), p("same", "1")}
	b := []Package{p("bash", "2"), p("kernel", "5.2"), p("kernel", "5.3"), p("same", "1"), p("vim", "1")}
	want := differences{
		rows[Package]{[]Package{p("kernel", "5.3"), p("vim", "1")}, 2}, rows[Package]{[]Package{p("kernel", "5.1"), p("nano", "1")}, 2}, rows[Change]{[]Change{{"bash", "amd64", "1", "2", 0}}, 1},
	}
	got := comparePackages(a, b)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if s := got.Summary(); s != "2 added, 2 removed, 1 changed" {
		t.Error(s)
	}
	if d := comparePackages(a, a); !d.None() || d.Summary() != "no packages" {
		t.Error(d)
	}
	if common, list := comparedLayers([]Layer{{Digest: "a"}, {Digest: "b"}}, []Layer{{Digest: "a"}, {Digest: "c"}}, 1, 2); common != 1 || len(list) != 2 || list[1].In != 2 {
		t.Error(common, list)
	}
	room := maxRows + 5
	if r := firstOf(make([]Package, maxRows+7), &room); r.Left() != 7 || room != 5 {
		t.Error(r.Left(), room)
	}
	if r := firstOf(make([]Package, 7), &room); r.Left() != 2 || room != 0 {
		t.Error(r.Left(), room)
	}
}

func TestALongPedigreeIsDrawnFromItsEnd(t *testing.T) {
	d := draw(make([]Layer, maxDrawn+3))
	if d.Left != 3 || len(d.Nodes) != maxDrawn || !d.Nodes[maxDrawn-1].Newest {
		t.Errorf("%d left, %d drawn", d.Left, len(d.Nodes))
	}
	if d := draw(nil); d.Nodes != nil {
		t.Error(d)
	}
}

func TestNumbersAreForPeople(t *testing.T) {
	for got, want := range map[string]string{
		bytesOf(0): "0\u00a0B", bytesOf(1023): "1023\u00a0B", bytesOf(1024): "1\u00a0KiB", bytesOf(1536): "1.5\u00a0KiB", bytesOf(6 << 30): "6\u00a0GiB", bytesOf(312_345_678): "298\u00a0MiB", bytesOf(math.MaxInt64): "8\u00a0EiB",
		more(2048): "+2\u00a0KiB", more(-2048): "−2\u00a0KiB", more(0): "±0", exact(-1234567): "-1,234,567", exact(-123): "-123", exact(123): "123", exact(1000): "1,000",
		took(40 * time.Millisecond): "40\u00a0ms", took(2900 * time.Millisecond): "2.9\u00a0s", took(74 * time.Second): "74\u00a0s", took(20 * time.Minute): "20\u00a0min", took(3 * time.Hour): "3.0\u00a0h",
		many(1, "image", "images"): "1 image", many(2000, "image", "images"): "2,000 images", short("sha256:0123456789abcdef"): "0123456789ab", short("x"): "x",
		groups("0123456789ab"): "0123 4567 89AB", clip("häuser", 4): "häu…", clip("abc", 3): "abc", plain("a\u202eb\x1bc\nd"): "a\ufffdb\ufffdc\nd",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// luminance is that of a colour such as #fdfcfa, after WCAG 2.
func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(colour, "#"), 16, 32)
	peer.Must(t, err)
	channel := func(shift int) float64 {
		c := float64(n>>shift&255) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*channel(16) + 0.7152*channel(8) + 0.0722*channel(0)
}

func TestColoursHaveContrast(t *testing.T) {
	css, err := files.ReadFile("page/style.css")
	peer.Must(t, err)
	schemes := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatch(string(css), 2)
	if len(schemes) != 2 {
		t.Fatal("there are no two schemes")
	}
	for i, scheme := range schemes {
		colours := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(scheme[1], -1) {
			colours[m[1]] = m[2]
		}
		contrast := func(text, ground string, least float64) {
			a, b := luminance(t, colours[text]), luminance(t, colours[ground])
			if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < least {
				t.Errorf("scheme %d: %s on %s has a contrast of %.2f, less than %.1f", i, text, ground, ratio, least)
			}
		}
		for _, text := range []string{"ink", "quiet", "link", "added", "removed", "changed"} {
			for _, ground := range []string{"paper", "panel"} {
				contrast(text, ground, 4.5)
			}
		}
		contrast("ink", "caution", 4.5)
		contrast("on-accent", "accent", 4.5)
		contrast("accent", "paper", 3) // outlines and drawings
		contrast("accent", "panel", 3)
		contrast("quiet", "paper", 3) // the edges of fields
	}
}

// TestPagesAreWellFormed reads the outline of each page: its headings, and what
// refers to what.
func TestPagesAreWellFormed(t *testing.T) {
	h := handler(t, sample(), "")
	for _, target := range pages {
		body := get(h, http.MethodGet, target).Body.String()
		level := 0
		for i, m := range regexp.MustCompile(`<h([1-6])`).FindAllStringSubmatch(body, -1) {
			n, _ := strconv.Atoi(m[1])
			if i == 0 && n != 1 || i > 0 && (n == 1 || n > level+1) {
				t.Errorf("%s: heading %d has level %d behind %d", target, i+1, n, level)
			}
			level = n
		}
		ids := map[string]int{}
		for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(body, -1) {
			if ids[m[1]]++; ids[m[1]] > 1 {
				t.Errorf("%s: two elements have the id %s", target, m[1])
			}
		}
		for _, m := range regexp.MustCompile(` (?:for|aria-labelledby)="([^"]*)"`).FindAllStringSubmatch(body, -1) {
			for id := range strings.FieldsSeq(m[1]) {
				if ids[id] == 0 {
					t.Errorf("%s: nothing has the id %s", target, id)
				}
			}
		}
		for _, bad := range []string{" style=", " onclick", "<style", "http-equiv", `src="http`, "<th>"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s has %s", target, bad)
			}
		}
		for _, m := range regexp.MustCompile(`href="(/[^"#]*)`).FindAllStringSubmatch(body, -1) {
			link := strings.ReplaceAll(m[1], "&amp;", "&")
			if plainFile := strings.HasPrefix(link, "/images/") || regexp.MustCompile(`^/[a-zA-Z0-9.]+$`).MatchString(link); plainFile {
				continue
			}
			if w := get(h, http.MethodGet, link); w.Code != 200 {
				t.Errorf("%s links to %s, which gives %d", target, link, w.Code)
			}
		}
	}
}

// pages are one of each kind.
var pages = []string{"/", "/?q=nginx", "/?q=nonesuch", "/-/images/web", "/-/images/web?arch=aarch64", "/-/images/web/8", "/-/images/web/8?q=lib", "/-/images/bookworm/4", "/-/compare/web/7/8", "/-/compare/web/7/7", "/nothing"}

func TestServedOverHTTP(t *testing.T) {
	server := httptest.NewServer(handler(t, sample(), ""))
	defer server.Close()
	response, err := http.Get(server.URL + "/-/images/web")
	peer.Must(t, err)
	body, err := io.ReadAll(response.Body)
	peer.Must(t, errors.Join(err, response.Body.Close()))
	if !strings.Contains(string(body), "herdbook pull web --arch x86_64 \\\n  --source "+server.URL+"/index.asc") {
		t.Errorf("%s", body)
	}
}
