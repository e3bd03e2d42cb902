package client

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/peer"
	"herdbook/internal/repo"
	"herdbook/internal/signed"
	"herdbook/internal/source"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// farm is a repository that is served, and a client that reads it.
type farm struct {
	t      *testing.T
	dir    string // of the repository
	signer *signed.Signer
	url    string
	serve  func(http.ResponseWriter, *http.Request) bool // before the files; true if it has answered
	mu     sync.Mutex
	asked  []string
	c      *Client
	said   []string // notices
}

func newSigner(t testing.TB, name string) *signed.Signer {
	t.Helper()
	secret, err := signed.NewKey(name, noon.Add(-time.Hour))
	peer.Must(t, err)
	s, err := signed.NewSigner(secret, noon)
	peer.Must(t, err)
	return s
}

func newFarm(t *testing.T) *farm {
	f := &farm{t: t, dir: t.TempDir(), signer: newSigner(t, "farm")}
	files := http.FileServer(http.Dir(f.dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.asked = append(f.asked, r.URL.Path)
		serve := f.serve
		f.mu.Unlock()
		if serve == nil || !serve(w, r) {
			files.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	f.url = server.URL
	store := t.TempDir()
	sink := func(e event.Event) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if e.Kind == event.Notice {
			f.said = append(f.said, e.Text)
		}
	}
	f.c = &Client{
		Dir: filepath.Join(store, "repositories"), Media: source.Media{Dir: filepath.Join(store, "media")}, Now: noon, Sink: sink,
		Export: func(context.Context, []string) ([]byte, error) {
			return nil, errors.New("gpg is not asked in this test")
		},
	}
	return f
}

// source is the farm's, by its address.
func (f *farm) source() Source { return Source{Name: "farm", URL: f.url, Keys: f.signer.Keys()} }

// write puts an index into the repository, signed and plain.
func (f *farm) write(x repo.Index) {
	f.t.Helper()
	f.put(repo.IndexName, repo.Format(x))
	f.put(repo.SignedIndexName, f.sign(repo.Format(x)))
}

func (f *farm) sign(text []byte) []byte {
	f.t.Helper()
	message, err := f.signer.Sign(text, noon.Add(-time.Minute))
	peer.Must(f.t, err)
	return message
}

func (f *farm) put(name string, text []byte) {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	peer.Must(f.t, os.MkdirAll(filepath.Dir(path), 0o755))
	peer.Must(f.t, os.WriteFile(path, text, 0o644))
}

func (f *farm) read() (*Catalogue, error) { return f.c.Read(context.Background(), f.source()) }

// heard tells whether a notice was given, and forgets all.
func (f *farm) heard(text string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := strings.Join(f.said, "\n")
	f.said = nil
	return strings.Contains(all, text)
}

func version(n int, names ...string) repo.Index {
	x := repo.Index{Header: repo.Header{Version: n, Signed: noon.Add(-time.Minute), Expires: noon.Add(time.Hour)}}
	for _, name := range names {
		x.Entries = append(x.Entries, repo.Entry{ID: name, Arch: "x86_64", File: "images/" + name, Revision: 1, Size: 1 << 20, Aliases: nil})
	}
	return x
}

func TestARepositoryIsReadFromWhereverItIs(t *testing.T) {
	f := newFarm(t)
	want := version(1, "web")
	f.write(want)
	local := "file://" + f.dir
	for _, address := range []string{f.url, f.url + "/", f.url + "/index.asc", local, local + "/", local + "/index.asc"} {
		s := f.source()
		s.URL = address
		got, err := f.c.Read(context.Background(), s)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		if diff := cmp.Diff(want, got.Index); diff != "" || !strings.HasSuffix(got.URL, "/index.asc") {
			t.Error(address, got.URL, diff)
		}
	}
	// An index by another name, below an address that says nothing.
	f.put("other", f.sign(repo.Format(want)))
	s := f.source()
	s.URL += "/other"
	if got, err := f.c.Read(context.Background(), s); err != nil || got.URL != s.URL {
		t.Error(err)
	}
	s.URL, s.Index = f.url+"/index", true
	if _, err := f.c.Read(context.Background(), s); err == nil || !strings.Contains(err.Error(), "it is not a clear-signed text") {
		t.Error(err)
	}
}

func TestAnUnsignedRepositoryIsReadOnlyOnPurpose(t *testing.T) {
	f := newFarm(t)
	f.put(repo.IndexName, repo.Format(version(1, "web")))
	for name, c := range map[string]struct {
		change func(*Source)
		want   string
	}{
		"nothing is said":   {func(s *Source) { s.Keys = nil }, "nothing says whose signature it must have"},
		"a key":             {func(s *Source) {}, "index.asc: not found"},
		"a key and no need": {func(s *Source) { s.Unsigned = true }, "index.asc: not found"},
		"no key, no need":   {func(s *Source) { s.Keys, s.Unsigned = nil, true }, ""},
	} {
		s := f.source()
		c.change(&s)
		got, err := f.c.Read(context.Background(), s)
		if c.want == "" && (err != nil || len(got.Index.Entries) != 1) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever was changed, nothing of it is parsed.
func TestAnIndexThatIsNotSignedAsItShouldIsRefused(t *testing.T) {
	f := newFarm(t)
	other := newSigner(t, "other")
	text := repo.Format(version(1, "web"))
	good := f.sign(text)
	foreign, err := other.Sign(text, noon.Add(-time.Minute))
	peer.Must(t, err)
	late, err := f.signer.Sign(text, noon.Add(24*time.Hour))
	peer.Must(t, err)
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"another key":         {foreign, "it must be signed by " + f.signer.Fingerprint()},
		"signed tomorrow":     {late, "bad signature"},
		"no signature":        {text, "it is not a clear-signed text"},
		"nothing":             {nil, "it is not a clear-signed text"},
		"changed":             {bytes.Replace(good, []byte("[web]"), []byte("[wob]"), 1), "bad signature"},
		"text before it":      {append([]byte("[x]\n"), good...), "text outside the signature"},
		"a comment before it": {append([]byte("# x\n"), good...), "text outside the signature"},
		"text behind it":      {append(bytes.Clone(good), "[x]\n"...), "text outside the signature"},
		"two messages":        {append(bytes.Clone(good), good...), "text outside the signature"},
		"cut off":             {good[:len(good)-40], "verify"},
	} {
		f.put(repo.SignedIndexName, c.text)
		if _, err := f.read(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Blanks at the ends of lines are not covered, and so are not there.
	f.put(repo.SignedIndexName, bytes.ReplaceAll(good, []byte("arch=x86_64\n"), []byte("arch=x86_64 \t\n")))
	if got, err := f.read(); err != nil || got.Index.Entries[0].Arch != "x86_64" {
		t.Errorf("blanks: %v", err)
	}
	// An error of the index comes after its signature.
	f.put(repo.SignedIndexName, f.sign([]byte("[web]\narch=x86_64\nfile=../web\n")))
	if _, err := f.read(); err == nil || !strings.Contains(err.Error(), "does not stay below the index") {
		t.Error(err)
	}
}

func TestAnIndexDoesNotGoBack(t *testing.T) {
	f := newFarm(t)
	step := func(what string, x repo.Index, want string) {
		t.Helper()
		f.write(x)
		_, err := f.read()
		if want == "" && err != nil || want != "" && (!errors.Is(err, ErrNotFresh) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--accept-old")) {
			t.Errorf("%s: %v", what, err)
		}
	}
	plain := version(0, "web")
	plain.Header = repo.Header{}
	step("no header", plain, "")
	step("the first", version(5, "web"), "")
	step("the same", version(5, "web"), "")
	step("older", version(4, "web"), "version 5 was seen here before, and this is version 4")
	step("no header any more", plain, "version 5 was seen here before, and this one tells no version")
	step("another of the same version", version(5, "app"), "another text of the same version 5")
	step("newer", version(6, "app"), "")
	expired := version(7, "app")
	expired.Expires = noon.Add(-time.Second)
	step("expired", expired, "it was valid until Fri, 02 Jan 2026 11:59:59 UTC")

	f.c.AcceptOld = true
	step("older on purpose", version(2, "web"), "")
	if !f.heard("version 6 was seen here before, and this is version 2") {
		t.Error("nothing is said of it")
	}
	f.c.AcceptOld = false
	step("the one after it", version(3, "web"), "")
	step("the older again", version(2, "web"), "and this is version 2")

	// What is unsigned can tell anything, and is not held against anything but the clock.
	s := f.source()
	s.Keys, s.Unsigned = nil, true
	for _, n := range []int{9, 8} {
		f.write(version(n, "web"))
		if _, err := f.c.Read(context.Background(), s); err != nil {
			t.Error(err)
		}
	}
	f.write(expired)
	if _, err := f.c.Read(context.Background(), s); !errors.Is(err, ErrNotFresh) {
		t.Error(err)
	}
}

// Many at once leave one record, of the highest version that any of them took.
func TestSeveralReadersRememberTogether(t *testing.T) {
	f := newFarm(t)
	f.write(version(1, "web"))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := f.read(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	r, err := f.c.memory(f.source(), f.signer.Keys()).read()
	if err != nil || r.Version != 1 || !r.Fetched.Equal(noon) {
		t.Errorf("%+v %v", r, err)
	}
	left, err := filepath.Glob(filepath.Join(f.c.Dir, "*"))
	if err != nil || len(left) != 3 {
		t.Errorf("%q %v", left, err)
	}
}

func TestWithoutAnAnswerTheLastIndexIsUsed(t *testing.T) {
	f := newFarm(t)
	f.c.Offline = true
	if _, err := f.read(); !errors.Is(err, source.ErrUnreachable) || !strings.Contains(err.Error(), "nothing is kept from an earlier time") {
		t.Error(err)
	}
	f.c.Offline = false
	f.write(version(3, "web"))
	if _, err := f.read(); err != nil {
		t.Fatal(err)
	}
	f.c.Now = noon.Add(45 * time.Minute)
	broken := func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	}
	cut := func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "-----BEGIN")
		return true
	}
	for name, serve := range map[string]func(http.ResponseWriter, *http.Request) bool{"502": broken, "cut off": cut, "offline": nil} {
		f.serve, f.c.Offline = serve, serve == nil
		got, err := f.read()
		if err != nil || got.Index.Version != 3 || !f.heard("going on with what was fetched 45 minutes ago") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// It is verified again, and its expiry counts.
	s := f.source()
	s.Keys = newSigner(t, "other").Keys()
	if _, err := f.c.Read(context.Background(), s); err == nil {
		t.Error("the index of another key is read")
	}
	f.c.Now = noon.Add(2 * time.Hour)
	if _, err := f.read(); !errors.Is(err, ErrNotFresh) {
		t.Error(err)
	}
	// A damaged one is none.
	f.c.Now = noon
	kept, err := filepath.Glob(filepath.Join(f.c.Dir, "*.text"))
	peer.Must(t, err)
	peer.Must(t, os.WriteFile(kept[0], []byte("x"), 0o644))
	if _, err := f.read(); err == nil || !strings.Contains(err.Error(), "nothing is kept") {
		t.Error(err)
	}
	// What is served wrongly is not replaced by what was right before.
	f.c.Offline, f.serve = false, nil
	f.put(repo.SignedIndexName, []byte("x"))
	if _, err := f.read(); err == nil {
		t.Error("a broken index is read")
	}
}

func TestAPasswordIsNotRemembered(t *testing.T) {
	f := newFarm(t)
	f.write(version(1, "web"))
	f.serve = func(w http.ResponseWriter, r *http.Request) bool {
		if user, word, _ := r.BasicAuth(); user != "ann" || word != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return false
	}
	s := f.source()
	s.URL = strings.Replace(f.url, "http://", "http://ann:secret@", 1)
	for _, offline := range []bool{false, true} {
		f.c.Offline = offline
		got, err := f.c.Read(context.Background(), s)
		if err != nil || got.URL != s.URL+"/index.asc" {
			t.Errorf("%+v %v", got, err)
		}
	}
	files, err := filepath.Glob(filepath.Join(f.c.Dir, "*"))
	peer.Must(t, err)
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil || bytes.Contains(text, []byte("secret")) {
			t.Errorf("%s: %s %v", path, text, err)
		}
	}
	if f.heard("secret") {
		t.Error("a notice tells the password")
	}
	f.c.Offline = false
	s.URL = strings.Replace(s.URL, "secret", "sacred", 1)
	if _, err := f.c.Read(context.Background(), s); err == nil || strings.Contains(err.Error(), "sacred") || !strings.Contains(err.Error(), "401") {
		t.Error(err)
	}
}

func TestADeadSourceIsAWarning(t *testing.T) {
	f := newFarm(t)
	f.write(version(1, "web"))
	dead := Source{Name: "dead", URL: "http://127.0.0.1:1", Keys: f.signer.Keys()}
	got, err := f.c.ReadAll(context.Background(), []Source{dead, f.source(), dead})
	if err != nil || len(got) != 1 || !f.heard("read repository dead (http://127.0.0.1:1): fetch http://127.0.0.1:1/index.asc: no answer") {
		t.Error(got, err)
	}
	if _, err := f.c.ReadAll(context.Background(), []Source{dead, dead}); !errors.Is(err, source.ErrUnreachable) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.c.ReadAll(ctx, []Source{f.source()}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestTheHighestRevisionWins(t *testing.T) {
	entry := func(id, arch string, revision int, file string) repo.Entry {
		return repo.Entry{ID: id, Arch: arch, Revision: revision, File: file}
	}
	all := Catalogues{
		{URL: "file:///a/index", Index: repo.Index{Entries: []repo.Entry{
			entry("web", "x86_64", 1, "a"), entry("app", "amd64", 2, "a"), entry("db", "x86_64", 3, "a"), entry("old", "i686", 1, "a")}}},
		{URL: "file:///b/index", Index: repo.Index{Entries: []repo.Entry{
			entry("db", "aarch64", 1, "b"), entry("app", "x86_64", 2, "b"), entry("web", "x86_64", 2, "b"), entry("app", "aarch64", 9, "b")}}},
	}
	var got []string
	for _, o := range all.Offers() {
		got = append(got, fmt.Sprintf("%s %s %d %s", o.ID, o.Arch, o.Revision, o.address(o.Entry.File)))
	}
	want := []string{
		"app amd64 2 file:///a/a", "db x86_64 3 file:///a/a", "old i686 1 file:///a/a",
		"db aarch64 1 file:///b/b", "web x86_64 2 file:///b/b", "app aarch64 9 file:///b/b",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, c := range []struct{ image, arch, want string }{
		{"web", "x86_64", "file:///b/b"}, {"app", "x86_64", "file:///a/a"}, {"app", "amd64", "file:///a/a"},
		{"app", "arm64", "file:///b/b"}, {"old", "i386", "file:///a/a"},
		{"nosuch", "x86_64", "no such image: nosuch"}, {"old", "x86_64", "for x86_64"},
	} {
		o, err := all.Find(repo.Selector{Image: c.image, Arch: c.arch})
		if err == nil && o.address(o.Entry.File) != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v", c.image, c.arch, err)
		}
	}
}

// image makes a small disk in a file and returns its SHA-512.
func (f *farm) image(name, pack string) string {
	f.t.Helper()
	raw := filepath.Join(f.t.TempDir(), "disk")
	peer.Must(f.t, os.WriteFile(raw, bytes.Repeat([]byte("herd"), 256<<10), 0o644))
	path := filepath.Join(f.dir, name)
	peer.Must(f.t, os.MkdirAll(filepath.Dir(path), 0o755))
	switch pack {
	case "xz":
		peer.NeedTool(f.t, "xz")
		text, err := exec.Command("xz", "-c", raw).Output()
		peer.Must(f.t, err)
		peer.Must(f.t, os.WriteFile(path, text, 0o644))
	case "qcow2":
		peer.NeedTool(f.t, "qemu-img")
		peer.Run(f.t, "qemu-img", "convert", "-q", "-O", "qcow2", raw, path)
	default:
		peer.Must(f.t, os.Rename(raw, path))
	}
	text, err := os.ReadFile(path)
	peer.Must(f.t, err)
	sum := sha512.Sum512(text)
	return hex.EncodeToString(sum[:])
}

// offer reads the farm's index and returns its first entry.
func (f *farm) offer() Offer {
	f.t.Helper()
	got, err := f.read()
	peer.Must(f.t, err)
	return Offer{got.Index.Entries[0], got}
}

func TestADiskIsFetchedOnceWhateverItIsPackedIn(t *testing.T) {
	for pack, format := range map[string]disk.Format{"": disk.Raw, "xz": disk.Raw, "qcow2": disk.QCOW2} {
		f := newFarm(t)
		x := version(1, "web")
		e := &x.Entries[0]
		e.Checksum, e.Format = f.image("images/web", pack), string(format)
		f.write(x)
		o := f.offer()
		var paths []string
		for i := range 3 {
			if i == 2 { // now without the server
				f.c.Offline = true
			}
			d, err := f.c.Disk(context.Background(), o)
			if err != nil {
				t.Fatalf("%q: %v", pack, err)
			}
			paths = append(paths, d.Path)
			if d.Format != format || d.Size != 1<<20 || d.Path != paths[0] {
				t.Errorf("%q: %+v", pack, d)
			}
		}
		if asked := strings.Join(f.asked, " "); asked != "/index.asc /images/web" {
			t.Errorf("%q: asked for %s", pack, asked)
		}
		image, err := disk.Open(paths[0], format)
		peer.Must(t, err)
		got := make([]byte, 8)
		_, err = image.ReadAt(got, 1<<20-8)
		if err := errors.Join(err, image.Close()); err != nil || string(got) != "herdherd" {
			t.Errorf("%q: %q %v", pack, got, err)
		}
		// What was unpacked and then changed is made again.
		if pack == "xz" {
			peer.Must(t, os.WriteFile(paths[0], []byte("x"), 0o644))
			if d, err := f.c.Disk(context.Background(), o); err != nil || d.Size != 1<<20 {
				t.Errorf("%+v %v", d, err)
			}
		}
	}
}

func TestWhatIsWrongWithADownloadIsTold(t *testing.T) {
	f := newFarm(t)
	sum := f.image("images/web", "")
	packed := f.image("images/packed", "xz")
	for name, c := range map[string]struct {
		change func(*repo.Entry)
		serve  func(http.ResponseWriter, *http.Request) bool
		want   string
	}{
		"another checksum": {change: func(e *repo.Entry) { e.Checksum = strings.Repeat("0", 128) }, want: "content does not match its digest"},
		"no checksum":      {change: func(e *repo.Entry) { e.Checksum = "" }, want: "neither a checksum nor a signature"},
		"half a checksum":  {change: func(e *repo.Entry) { e.Checksum = "00" }, want: "parse checksum"},
		"not there":        {change: func(e *repo.Entry) { e.File = "images/none" }, want: "not found: the server says 404"},
		"a signature that leads away": {change: func(e *repo.Entry) {
			e.Checksum, e.Other = "", []repo.Field{{Key: "sig", Value: "../x"}}
		}, want: "does not stay below the index"},
		"another format": {change: func(e *repo.Entry) { e.Format = "qcow2" }, want: "it is no qcow2 image"},
		"an unknown one": {change: func(e *repo.Entry) { e.Format = "ova" }, want: "format \"ova\" is none that herdbook imports"},
		"a larger disk":  {change: func(e *repo.Entry) { e.Size-- }, want: "more than the 1048575 that the index tells"},
		"a bomb":         {change: func(e *repo.Entry) { e.File, e.Checksum, e.Size = "images/packed", packed, 4096 }, want: "more than the limit"},
		"more than the index says": {change: func(e *repo.Entry) {
			e.Artefacts = []repo.Artefact{{Kind: "xz", File: e.File, Size: 1000, SHA256: sum[:64], SHA512: sum}}
		}, want: "more than the 1000 bytes that it may have"},
		"cut off by the server": {serve: func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Length", fmt.Sprint(1<<20))
			w.Write([]byte("herdherd"))
			return true
		}, want: "after 8 bytes: unexpected EOF; run the command again"},
		"shorter than it is": {serve: func(w http.ResponseWriter, r *http.Request) bool {
			w.Write([]byte("herdherd"))
			return true
		}, want: "what is served there is not what the index vouches for"},
		"a server that says nothing more": {serve: func(w http.ResponseWriter, r *http.Request) bool {
			w.Write([]byte("herdherd"))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return true
		}, want: "the server sent nothing for too long"},
	} {
		t.Run(name, func(t *testing.T) {
			f.c.Dir, f.c.Media.Dir, f.c.Media.Fetcher.Stall = t.TempDir(), t.TempDir(), 200*time.Millisecond
			f.serve = nil
			x := version(1, "web")
			x.Entries[0].Checksum, x.Entries[0].Format = sum, "raw"
			if c.change != nil {
				c.change(&x.Entries[0])
			}
			f.write(x)
			o := f.offer()
			f.mu.Lock()
			f.serve = c.serve
			f.mu.Unlock()
			_, err := f.c.Disk(context.Background(), o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Error(err)
			}
			// Nothing half has the name of something whole.
			left, globErr := filepath.Glob(filepath.Join(f.c.Media.Dir, "*.disk"))
			if globErr != nil || len(left) != 0 {
				t.Errorf("%q is left", left)
			}
		})
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	stat, err := os.Stat(path)
	peer.Must(t, err)
	return stat.Size()
}
