package cli

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"herdbook/internal/bucket"
	"herdbook/internal/peer"
	"herdbook/internal/repo"
	"herdbook/internal/signed"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// orchard is a repository of ours behind a server that wants a token, and a
// definition that takes an image from it.
type orchard struct {
	t       *testing.T
	repo    string // directory that is served
	here    string // directory of the definition
	store   string
	signer  *signed.Signer
	index   repo.Index
	server  *httptest.Server
	address string // URL
	fields  string // of the repository's block
	asked   int
	now     time.Time

	environment map[string]string
}

func newOrchard(t *testing.T) *orchard {
	t.Helper()
	secret, err := signed.NewKey("orchard", noon.Add(-time.Hour))
	peer.Must(t, err)
	signer, err := signed.NewSigner(secret, noon)
	peer.Must(t, err)
	o := &orchard{t: t, repo: t.TempDir(), here: t.TempDir(), store: t.TempDir(), signer: signer, now: noon}
	public, err := signer.PublicKey()
	peer.Must(t, err)
	peer.Must(t, os.WriteFile(filepath.Join(o.here, "public.asc"), public, 0o644))
	o.server = httptest.NewServer(o)
	o.address, o.fields, o.environment = o.server.URL, `token = env("TOKEN")`, map[string]string{"TOKEN": "sesame"}
	t.Cleanup(func() { o.server.Close() })
	return o
}

// ServeHTTP implements http.Handler.
func (o *orchard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.asked++
	if r.Header.Get("Authorization") != "Bearer sesame" {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	http.FileServer(http.Dir(o.repo)).ServeHTTP(w, r)
}

// publish puts a disk with a text on it into the repository.
func (o *orchard) publish(text, channel string) {
	o.t.Helper()
	content := make([]byte, 1<<20)
	copy(content, text)
	copy(content[510:], "\x55\xaa")
	sum := sha512.Sum512(content)
	file := "images/web-" + hex.EncodeToString(sum[:6]) + ".raw"
	peer.Must(o.t, os.MkdirAll(filepath.Join(o.repo, "images"), 0o755))
	peer.Must(o.t, os.WriteFile(filepath.Join(o.repo, file), content, 0o644))
	x, _, err := o.index.Publish(repo.Entry{
		Name: "Web", Arch: "x86_64", File: file, Checksum: hex.EncodeToString(sum[:]), Format: "raw", Size: 1 << 20, Facts: repo.Facts{Image: "web", Layer: "l"},
	}, channel, o.now)
	peer.Must(o.t, err)
	o.sign(x)
}

// sign makes an index the newest.
func (o *orchard) sign(x repo.Index) {
	o.t.Helper()
	x.Version, x.Signed, x.Expires = o.index.Version+1, o.now, o.now.Add(90*24*time.Hour)
	text, err := o.signer.Sign(repo.Format(x), o.now)
	peer.Must(o.t, err)
	peer.Must(o.t, os.WriteFile(filepath.Join(o.repo, repo.SignedIndexName), text, 0o644))
	o.index = x
}

// run runs a command of herdbook on a definition with one template.
func (o *orchard) run(template string, args ...string) (status int, said string) {
	o.t.Helper()
	text := fmt.Sprintf(`repository "orchard" {
  url        = "%s"
  public_key = "public.asc"
  %s
}
image "web" {
  template "orchard" {
    name = "web"
    %s
  }
}
`, o.address, o.fields, template)
	peer.Must(o.t, os.WriteFile(filepath.Join(o.here, "herdbook.hcl"), []byte(text), 0o644))
	var out bytes.Buffer
	status = Main(o.t.Context(), World{
		Args:  append(args, "--file", filepath.Join(o.here, "herdbook.hcl"), "--store", o.store),
		Stdin: os.Stdin, Stdout: &out, Stderr: &out, Now: func() time.Time { return o.now },
		LookupEnv: func(name string) (string, bool) { value, ok := o.environment[name]; return value, ok },
	})
	return status, out.String()
}

func (o *orchard) lock() string {
	text, err := os.ReadFile(filepath.Join(o.here, lockName))
	peer.Must(o.t, err)
	return string(text)
}

// expect runs a command that must end with a status and say something.
func (o *orchard) expect(want int, says, template string, args ...string) string {
	o.t.Helper()
	status, said := o.run(template, args...)
	if status != want || !strings.Contains(said, says) {
		o.t.Fatalf("%q: status %d, want %d and %q in:\n%s", args, status, want, says, said)
	}
	return said
}

func TestATemplateFollowsItsChannel(t *testing.T) {
	o := newOrchard(t)
	o.publish("one", repo.Stable)
	o.publish("two", "testing")
	for template, want := range map[string]string{
		``:                                    "revision 1",
		`channel = "stable"`:                  "revision 1",
		`channel = "testing"`:                 "revision 2",
		`revision = 1`:                        "revision 1",
		"revision = 2\narch = \"x86_64\"":     "revision 2",
		"revision = 2\nrefresh = \"always\"":  "revision 2",
		"channel = \"testing\"\narch = null":  "revision 2",
		"channel = null\nrefresh = \"never\"": "revision 1",
	} {
		o.expect(exitDone, "  "+want+", dated Fri, 02 Jan 2026 12:00:00 UTC, from "+o.address+"/images/web-", template, "why", "web")
	}
	o.expect(exitDone, "  revision 1", ``, "why", "web")
	x, _, err := o.index.Promote(repo.Selector{Image: "web", Channel: "testing"}, repo.Stable, noon)
	peer.Must(t, err)
	o.sign(x)
	o.expect(exitDone, "  revision 1", ``, "why", "web") // which is not a day old
	o.now = o.now.Add(25 * time.Hour)
	o.expect(exitDone, "  revision 2", ``, "why", "web")
	o.expect(exitWrong, "no such image: web@beta", `channel = "beta"`, "plan")
}

// What is pinned and kept needs no server; what is not says so.
func TestATemplateWithoutItsServer(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	o := newOrchard(t)
	o.publish("one", repo.Stable)
	o.expect(exitDone, `template "web": done in`, `refresh = "always"`, "build")
	before, asked := o.lock(), o.asked
	if strings.Contains(before, "sesame") || !strings.Contains(before, "\ntemplate "+o.address+" web\n\turl      "+o.address+"/images/web-") {
		t.Errorf("the lock is\n%s", before)
	}
	o.expect(exitDone, `template "web": cached`, ``, "build")
	if o.asked != asked {
		t.Errorf("asked %d times for what was asked a moment before", o.asked-asked)
	}
	o.server.Close()
	o.expect(exitDone, "going on with what was fetched", `refresh = "always"`, "build")
	// The store is new, but the lock says what was meant.
	o.store = t.TempDir()
	o.expect(exitFailed, "connection refused", `refresh = "never"`, "build")
	said := o.expect(exitDone, "going on with what is pinned, dated Fri, 02 Jan 2026", `refresh = "always"`, "plan")
	if o.lock() != before || strings.Contains(said, "sesame") {
		t.Errorf("the lock is now\n%s\nand it says\n%s", o.lock(), said)
	}
}

// A signature that is wrong, or an index that is older than one that was seen, is
// never gone on from, pinned or not.
func TestATemplateOfARepositoryThatLies(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	o := newOrchard(t)
	o.publish("one", repo.Stable)
	old, err := os.ReadFile(filepath.Join(o.repo, repo.SignedIndexName))
	peer.Must(t, err)
	o.publish("two", repo.Stable)
	o.expect(exitDone, "revision 2", `refresh = "always"`, "why", "web")
	before := o.lock()
	put := func(text []byte) {
		peer.Must(t, os.WriteFile(filepath.Join(o.repo, repo.SignedIndexName), text, 0o644))
	}
	put(old)
	o.expect(exitFailed, "--accept-old", `refresh = "always"`, "build")
	put(bytes.Replace(old, []byte("revision=1"), []byte("revision=3"), 1))
	o.expect(exitFailed, "bad signature", `refresh = "always"`, "build")
	if o.lock() != before {
		t.Errorf("the lock is now\n%s", o.lock())
	}
	put(old)
	o.expect(exitDone, "taking it all the same", `refresh = "always"`, "build", "--accept-old")
	if !strings.Contains(o.lock(), "revision 1") {
		t.Errorf("the lock is now\n%s", o.lock())
	}
}

func TestATemplateWhoseFileIsGone(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	o := newOrchard(t)
	o.publish("one", repo.Stable)
	o.expect(exitDone, "to be made", ``, "plan")
	peer.Must(t, os.RemoveAll(filepath.Join(o.repo, "images")))
	o.expect(exitFailed, "the repository had it when it was pinned: herdbook build --refresh pins what it has now", ``, "build")
}

// A bucket that is not open to all is read with its keys, which stand nowhere.
func TestATemplateInABucket(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	address, access, secret := peer.S3(t)
	o := newOrchard(t)
	o.publish("one", repo.Stable)
	o.address = strings.Replace(address, "?", "/deep/down?", 1)
	place, err := bucket.At(o.address, bucket.Options{AccessKey: access, SecretKey: bucket.Secret(secret)})
	peer.Must(t, err)
	for _, name := range []string{repo.SignedIndexName, o.index.Entries[0].File} {
		content, err := os.ReadFile(filepath.Join(o.repo, name))
		peer.Must(t, err)
		_, err = place.Put(t.Context(), name, bytes.NewReader(content), bucket.Condition{})
		peer.Must(t, err)
	}
	o.fields = "access_key = env(\"ACCESS\")\n  secret_key = env(\"SECRET\")"
	o.environment = map[string]string{"ACCESS": access, "SECRET": secret}
	said := o.expect(exitDone, `template "web": done in`, ``, "build")
	said += o.expect(exitDone, "revision 1", `refresh = "always"`, "why", "web")
	if lock := o.lock(); strings.Contains(lock+said, secret) || strings.Contains(lock, access) || !strings.Contains(lock, "\turl      s3://"+peer.S3Bucket+"/deep/down/images/web-") {
		t.Errorf("the lock is\n%s\nand it says\n%s", lock, said)
	}
	before := o.lock()
	o.environment["SECRET"] = "wrong"
	o.store = t.TempDir()
	o.expect(exitFailed, "the access key or its secret key is wrong", `refresh = "always"`, "build")
	if o.lock() != before {
		t.Errorf("the lock is now\n%s", o.lock())
	}
}
