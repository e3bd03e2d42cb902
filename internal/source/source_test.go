package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"go.uber.org/goleak"

	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/pin"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

var content = bytes.Repeat([]byte("herdbook "), 300000)

func TestFileFetchesAndVerifies(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	defer server.Close()
	local := filepath.Join(t.TempDir(), "served")
	if err := os.WriteFile(local, content, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{server.URL + "/x", "file://" + local} {
		for _, have := range []int{0, 1, 1 << 20, len(content)} {
			path := filepath.Join(t.TempDir(), "x")
			if have > 0 {
				if err := os.WriteFile(path+".part", content[:have], 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := (&Fetcher{}).File(context.Background(), address, path, digest.Of(content).Checksum(), maxImage); err != nil {
				t.Errorf("%s, %d bytes there: %v", address, have, err)
				continue
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s, %d bytes there: content differs (%v)", address, have, err)
			}
		}
	}
}

func TestFileGoesOnWhereItWasCut(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("Range"))
		if len(asked) == 1 { // the connection breaks half-way
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			w.Write(content[:1<<20])
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	defer server.Close()
	path := filepath.Join(t.TempDir(), "x")
	f := &Fetcher{}
	if err := f.File(context.Background(), server.URL, path, digest.Of(content).Checksum(), maxImage); err == nil {
		t.Fatal("a transfer that was cut is no error")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("half a file appeared under its name")
	}
	if err := f.File(context.Background(), server.URL, path, digest.Of(content).Checksum(), maxImage); err != nil {
		t.Fatal(err)
	}
	if len(asked) != 2 || !strings.HasPrefix(asked[1], "bytes=") || asked[1] == "bytes=0-" {
		t.Errorf("asked for the ranges %q", asked)
	}
}

func TestFileRefusesWhatDoesNotMatch(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(content) // knows no ranges
	}))
	defer server.Close()
	path := filepath.Join(t.TempDir(), "x")
	if err := (&Fetcher{}).File(context.Background(), server.URL, path, digest.Of(nil).Checksum(), maxImage); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{path, path + ".part"} {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was left behind", name)
		}
	}
	// A server without ranges: what was there is not doubled.
	if err := os.WriteFile(path+".part", content[:5], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := (&Fetcher{}).File(context.Background(), server.URL, path, digest.Of(content).Checksum(), maxImage); err != nil {
		t.Error(err)
	}
}

// What a server has meanwhile is another thing than what was begun.
func TestFileBeginsAgainWhereItCannotGoOn(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"shorter now": func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		},
		"another range": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", "bytes 1-2/3")
				w.WriteHeader(http.StatusPartialContent)
				return
			}
			w.Write(content)
		},
	} {
		asked := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked++
			if r.Header.Get("Accept-Encoding") != "identity" {
				t.Errorf("%s: takes %q", name, r.Header.Get("Accept-Encoding"))
			}
			answer(w, r)
		}))
		defer server.Close()
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path+".part", append([]byte("more"), content...), 0o644); err != nil {
			t.Fatal(err)
		}
		err := (&Fetcher{}).File(context.Background(), server.URL, path, digest.Of(content).Checksum(), maxImage)
		if err != nil || asked != 2 {
			t.Errorf("%s: %v, asked %d times", name, err, asked)
		}
	}
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.Error(w, "never", http.StatusRequestedRangeNotSatisfiable)
	}))
	defer server.Close()
	err := (&Fetcher{}).File(context.Background(), server.URL, filepath.Join(t.TempDir(), "x"), digest.Of(content).Checksum(), maxImage)
	if !errors.Is(err, errRange) || asked != 2 {
		t.Errorf("%v, asked %d times", err, asked)
	}
}

// Too much is refused before it fills the disk, whether it is announced or not.
func TestFileHasALimit(t *testing.T) {
	announced := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	defer announced.Close()
	sudden := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(content) }))
	defer sudden.Close()
	local := filepath.Join(t.TempDir(), "served")
	if err := os.WriteFile(local, content, 0o644); err != nil {
		t.Fatal(err)
	}
	size := int64(len(content))
	for _, address := range []string{announced.URL, sudden.URL, "file://" + local} {
		for _, c := range []struct{ have, limit int64 }{{0, size - 1}, {size / 2, size - 1}, {size / 2, 1000}, {size, size - 1}} {
			path := filepath.Join(t.TempDir(), "x")
			if err := os.WriteFile(path+".part", content[:c.have], 0o644); err != nil {
				t.Fatal(err)
			}
			err := (&Fetcher{}).File(context.Background(), address, path, digest.Of(content).Checksum(), c.limit)
			_, there := os.Stat(path + ".part")
			if !errors.Is(err, errTooLarge) || !errors.Is(there, os.ErrNotExist) {
				t.Errorf("%s, %+v: %v; its part: %v", address, c, err, there)
			}
		}
		path := filepath.Join(t.TempDir(), "x")
		if err := (&Fetcher{}).File(context.Background(), address, path, digest.Of(content).Checksum(), size); err != nil {
			t.Errorf("%s: as large as it may be: %v", address, err)
		}
	}
}

func TestGetErrors(t *testing.T) {
	release := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/gone", http.NotFound)
	mux.HandleFunc("/secret", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "x", http.StatusUnauthorized) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "x", http.StatusBadGateway) })
	mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) { w.Write(content) })
	mux.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("a little"))
		w.(http.Flusher).Flush()
		<-release
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	defer close(release)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()

	f := &Fetcher{Stall: 100 * time.Millisecond}
	for _, c := range []struct {
		address, want string
		is            error
	}{
		{server.URL + "/gone", "404", ErrNotFound},
		{server.URL + "/secret", "refused: the server says 401", errRefused},
		{server.URL + "/broken", "502", ErrUnreachable},
		{server.URL + "/large", "more than the 1000 bytes", nil},
		{server.URL + "/hang", "sent nothing for too long", errStalled},
		{"http://" + closed.Addr().String(), "connection refused", ErrUnreachable},
		{"ftp://example.org/x", "only http:, https:, s3: and file:", nil},
		{"file:///no/such/file", "not found", ErrNotFound},
		{"://", "not a URL", nil},
	} {
		_, err := f.Get(context.Background(), c.address, 1000)
		if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v, want %q", c.address, err, c.want)
		}
	}
}

// archive signs InRelease texts with a key of its own.
type archive struct {
	key     *openpgp.Entity
	keyring string
	release string // what is served; signed by key unless raw
	raw     bool
	now     time.Time
}

func newArchive(t *testing.T) *archive {
	t.Helper()
	key, err := openpgp.NewEntity("test archive", "", "archive@example.org", nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := key.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	a := &archive{key: key, keyring: filepath.Join(t.TempDir(), "keys.gpg"), now: time.Now().Add(time.Hour)}
	if err := os.WriteFile(a.keyring, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	a.release = "Suite: stable\nCodename: bookworm\nDate: Sat, 06 Sep 2025 11:22:40 UTC\n"
	return a
}

func (a *archive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/debian/dists/bookworm/InRelease" {
		http.NotFound(w, r)
		return
	}
	if a.raw {
		fmt.Fprint(w, a.release)
		return
	}
	s, err := clearsign.Encode(w, a.key.PrivateKey, nil)
	if err != nil {
		panic(err)
	}
	fmt.Fprint(s, a.release)
	s.Close()
}

func TestRelease(t *testing.T) {
	a := newArchive(t)
	server := httptest.NewServer(a)
	defer server.Close()
	suite := Suite{Mirror: server.URL + "/debian/", Name: "bookworm", Keyring: a.keyring}
	good := a.release
	other := newArchive(t)
	for _, c := range []struct {
		name, want string // want "" is success
		change     func(*archive, *Suite)
	}{
		{"good", "", func(*archive, *Suite) {}},
		{"stable by its other name", "", func(a *archive, _ *Suite) {
			a.release = strings.Replace(good, "bookworm", "oldstable", 1) + "Codename: bookworm\n"
		}},
		{"wrong key", "bad signature", func(_ *archive, s *Suite) { s.Keyring = other.keyring }},
		{"no signature", "not a clear-signed text", func(a *archive, _ *Suite) { a.raw = true }},
		{"another suite", "calls itself", func(a *archive, _ *Suite) { a.release = strings.ReplaceAll(good, "bookworm", "trixie") }},
		{"expired", "a stale mirror", func(a *archive, _ *Suite) { a.release = good + "Valid-Until: Sat, 13 Sep 2025 11:22:40 UTC\n" }},
		{"not there", `does the mirror carry the suite "sarge"`, func(_ *archive, s *Suite) { s.Name = "sarge" }},
		{"no keyring", "read the archive's keys", func(_ *archive, s *Suite) { s.Keyring = "/no/such/keys" }},
	} {
		mine, s := *a, suite
		c.change(&mine, &s)
		*a, mine = mine, *a
		p, err := (&Fetcher{}).Release(context.Background(), s, a.now)
		*a = mine
		switch {
		case c.want == "" && (err != nil || p.Dated == "" || p.Checksum == "" || p.Name != "apt "+server.URL+"/debian bookworm"):
			t.Errorf("%s: %+v, %v", c.name, p, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestReleaseRefusesTextOutsideTheSignature(t *testing.T) {
	a := newArchive(t)
	var signed bytes.Buffer
	w, err := clearsign.Encode(&signed, a.key.PrivateKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, a.release)
	w.Close()
	server := httptest.NewServer(a)
	defer server.Close()
	a.raw = true
	for _, text := range []string{"Codename: evil\n" + signed.String(), signed.String() + "\nCodename: evil\n"} {
		a.release = text
		_, err := (&Fetcher{}).Release(context.Background(), Suite{Mirror: server.URL + "/debian", Name: "bookworm", Keyring: a.keyring}, a.now)
		if err == nil || !strings.Contains(err.Error(), "outside the signature") {
			t.Errorf("got %v", err)
		}
	}
}

func TestResolveAsksWhenItIsDue(t *testing.T) {
	a := newArchive(t)
	asked := 0
	down := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		a.ServeHTTP(w, r)
	}))
	defer server.Close()
	suite := Suite{Mirror: server.URL + "/debian", Name: "bookworm", Keyring: a.keyring}
	notices := 0
	r := &Resolver{Seen: t.TempDir(), Now: a.now, Sink: func(e event.Event) { notices++ }}
	resolve := func(lock pin.Lock, policy Refresh, wantAsked int) pin.Lock {
		t.Helper()
		asked = 0
		lock, err := r.Resolve(context.Background(), lock, []Wanted{{Suite: suite, Refresh: policy}})
		if err != nil {
			t.Fatal(err)
		}
		if asked != wantAsked {
			t.Errorf("%s: asked %d times, want %d", policy, asked, wantAsked)
		}
		return lock
	}
	stray := pin.Pin{Name: "apt elsewhere sid", URL: "u", Checksum: digest.Of(nil).Checksum()}
	lock := resolve(pin.Lock{}.With(stray), Never, 1)
	if _, ok := lock.Get(stray.Name); ok {
		t.Error("a pin that nothing wants was kept")
	}
	resolve(lock, Never, 0)
	resolve(lock, Daily, 0)
	resolve(lock, Always, 1)
	r.Now = a.now.Add(25 * time.Hour)
	resolve(lock, Daily, 1)
	r.Force = true
	resolve(lock, Never, 1)
	r.Force = false
	down = true
	if got := resolve(lock, Always, 1); string(got.Format()) != string(lock.Format()) || notices != 1 {
		t.Errorf("a mirror that is down should leave the pin and give one notice, gave %d", notices)
	}
	if _, err := r.Resolve(context.Background(), pin.Lock{}, []Wanted{{Suite: suite, Refresh: Daily}}); err == nil {
		t.Error("a mirror that is down and not pinned is no error")
	}
}

// A template's repository is asked as a suite is, by whoever knows how; a change of
// what it is trusted for asks anew.
func TestResolveAsksForATemplate(t *testing.T) {
	asked := 0
	var err error
	w := Wanted{Refresh: Daily, Template: Template{Name: pin.TemplateName("http://a", "web", "", ""), Trust: "key", Look: func(context.Context) (pin.Pin, error) {
		asked++
		return pin.Pin{Name: pin.TemplateName("http://a", "web", "", ""), URL: "u", Checksum: digest.Of(nil).Checksum(), Revision: asked}, err
	}}}
	notices := 0
	r := &Resolver{Seen: t.TempDir(), Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Sink: func(e event.Event) { notices++ }}
	lock := pin.Lock{}
	resolve := func(wantAsked, wantRevision int) {
		t.Helper()
		fresh, err := r.Resolve(context.Background(), lock, []Wanted{w})
		if err != nil {
			t.Fatal(err)
		}
		lock = fresh
		if p, _ := lock.Get(w.Template.Name); asked != wantAsked || p.Revision != wantRevision {
			t.Errorf("asked %d times for revision %d, want %d and %d", asked, p.Revision, wantAsked, wantRevision)
		}
	}
	resolve(1, 1)
	resolve(1, 1)
	w.Template.Trust = "another key"
	resolve(2, 2)
	r.Now = r.Now.Add(24 * time.Hour)
	err = fmt.Errorf("%w: down", ErrUnreachable)
	resolve(3, 2)
	if notices != 1 {
		t.Errorf("%d notices", notices)
	}
	err = errors.New("bad signature")
	if _, got := r.Resolve(context.Background(), lock, []Wanted{w}); !errors.Is(got, err) {
		t.Errorf("a bad signature: %v", got)
	}
}

func TestWhatIsNoFileIsNotWaitedFor(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, t.TempDir()} {
		if _, err := new(Fetcher).Get(t.Context(), "file://"+path, 100); err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
