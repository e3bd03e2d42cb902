package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"herdbook/internal/bucket"
	"herdbook/internal/bucket/buckettest"
	"herdbook/internal/peer"
)

func TestAddressesOfRepositories(t *testing.T) {
	for _, test := range []struct {
		address string
		token   bucket.Secret
		plain   bool
		says    string // "": it may be
	}{
		{"https://repo.example.org/images", "secret", false, ""},
		{"http://repo.example.org/images/", "", false, ""},
		{"http://localhost:8080", "secret", false, ""},
		{"http://127.0.0.2:8080", "secret", false, ""},
		{"http://[::1]:8080/x", "secret", false, ""},
		{"http://repo.example.org", "secret", true, ""},
		{"http://repo.example.org", "secret", false, "everybody on the way can read it: use https"},
		{"http://localhost.example.org", "secret", false, "use https"},
		{"http://127.0.0.1.example.org", "secret", false, "use https"},
		{"https://user:hunter2@repo.example.org", "", false, "must have no password"},
		{"https://user:hun%zzter2@repo.example.org", "", false, "no URL"},
		{"ftp://repo.example.org", "", false, "is not like https://HOST/PATH"},
		{"repo", "", false, "is not like"},
		{"https://", "", false, "is not like"},
		{"https://repo.example.org?x=1", "", false, "is not like"},
	} {
		_, err := bucket.HTTP(test.address, bucket.HTTPOptions{Token: test.token, AllowPlain: test.plain})
		if (err == nil) != (test.says == "") || err != nil && (!strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: %v", test.address, err)
		}
	}
}

// answers is a server that answers so to everything, and counts.
func answers(t *testing.T, count *atomic.Int32, answer http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count.Add(1)
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	return server
}

func TestWhatAServerSays(t *testing.T) {
	for _, test := range []struct {
		status int
		tries  int32
		says   string
		is     error
	}{
		{401, 1, "give the token of this server", nil},
		{403, 1, "does not allow this", nil},
		{404, 1, "", fs.ErrNotExist},
		{410, 1, "", fs.ErrNotExist},
		{409, 1, `the server says "409 because of that"`, nil},
		{412, 1, "", bucket.ErrChanged},
		{413, 1, "413 because of that", nil},
		{507, 1, "what was there before still is", nil},
		{501, 1, "501 because of that", nil},
		{408, 10, "tried again and again", nil},
		{429, 10, "tried again and again", nil},
		{500, 10, "tried again and again", nil},
		{503, 10, "tried again and again", nil},
	} {
		var count atomic.Int32
		server := answers(t, &count, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(test.status)
			fmt.Fprintf(w, "%d because of that\n", test.status)
		})
		b := client(t, server.URL, "secret")
		_, err := b.Put(t.Context(), "index", strings.NewReader("x"), bucket.Condition{})
		if err == nil || !strings.Contains(err.Error(), test.says) || test.is != nil && !errors.Is(err, test.is) || strings.Contains(err.Error(), "secret") {
			t.Errorf("put, %d: %v", test.status, err)
		}
		if got := count.Load(); got != test.tries {
			t.Errorf("%d: asked %d times", test.status, got)
		}
		if _, err := b.List(t.Context(), ""); err == nil {
			t.Errorf("list, %d: %v", test.status, err)
		}
		if err := b.Remove(t.Context(), "index"); (err == nil) != errors.Is(test.is, fs.ErrNotExist) {
			t.Errorf("remove, %d: %v", test.status, err)
		}
	}
}

func TestATokenGoesNowhereElse(t *testing.T) {
	var here, there atomic.Int32
	other := answers(t, &there, func(http.ResponseWriter, *http.Request) {})
	server := answers(t, &here, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.Path+"?token=hunter2", http.StatusTemporaryRedirect)
	})
	b := client(t, server.URL, "secret")
	_, _, openErr := b.Open(t.Context(), "index")
	_, putErr := b.Put(t.Context(), "index", strings.NewReader("x"), bucket.Condition{})
	_, listErr := b.List(t.Context(), "")
	for what, err := range map[string]error{"open": openErr, "put": putErr, "list": listErr, "remove": b.Remove(t.Context(), "index")} {
		if err == nil || !strings.Contains(err.Error(), "leads to "+other.URL) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if there.Load() != 0 || here.Load() != 4 {
		t.Errorf("asked %d times here, %d there", here.Load(), there.Load())
	}
}

// forgetful drops the connection of the first PUT behind its effect, and takes away
// by what the server would know it again.
type forgetful struct {
	http.Handler
	puts atomic.Int32
	then func()
}

func (f *forgetful) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		r.Header.Del("Idempotency-Key")
		if f.puts.Add(1) == 1 {
			f.Handler.ServeHTTP(httptest.NewRecorder(), r)
			f.then()
			panic(http.ErrAbortHandler)
		}
	}
	f.Handler.ServeHTTP(w, r)
}

func TestAPutOfUnknownResultIsLookedAt(t *testing.T) {
	for _, test := range []struct {
		what  string
		other string // what somebody else writes in between
		is    error
	}{
		{"ours", "", nil},
		{"theirs", "other", bucket.ErrChanged},
	} {
		f := &forgetful{}
		server := served(t, func(h http.Handler) http.Handler {
			f.Handler = h
			return f
		})
		b := client(t, server.URL, "secret")
		f.then = func() {
			if test.other != "" {
				buckettest.Put(t, b, "index", test.other)
			}
		}
		o, err := b.Put(t.Context(), "index", strings.NewReader("content"), bucket.Condition{Absent: true})
		text, now := buckettest.Get(t, b, "index")
		if !errors.Is(err, test.is) || test.is == nil && (text != "content" || o != now) {
			t.Errorf("%s: %+v, %v; %q is there as %+v", test.what, o, err, text, now)
		}
	}
}

// dropping drops the connection of a GET in the middle, as often as left says, and
// does something before.
type dropping struct {
	http.Handler
	left   atomic.Int32
	before func()
}

func (d *dropping) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && d.left.Add(-1) >= 0 {
		d.before()
		w = &cut{w, 100_000}
	}
	d.Handler.ServeHTTP(w, r)
}

func TestReadingGoesOnWhereAConnectionBroke(t *testing.T) {
	content := string(buckettest.Bytes(1<<20, 1))
	for _, test := range []struct {
		what    string
		drops   int32
		replace bool
		ok      bool
	}{
		{"now and then", 4, false, true},
		{"and another object is there", 1, true, false},
	} {
		d := &dropping{}
		server := served(t, func(h http.Handler) http.Handler {
			d.Handler = h
			return d
		})
		b := client(t, server.URL, "secret")
		buckettest.Put(t, b, "images/web", content)
		d.before = func() {}
		d.left.Store(test.drops)
		r, _, err := b.Open(t.Context(), "images/web")
		peer.Must(t, err)
		if test.replace {
			buckettest.Put(t, b, "images/web", strings.Repeat("x", 1<<20))
		}
		got, err := io.ReadAll(r)
		if (err == nil) != test.ok || !strings.HasPrefix(content, string(got)) || test.ok && len(got) != len(content) {
			t.Errorf("%s: %d bytes: %v", test.what, len(got), err)
		}
		if !test.ok && !errors.Is(err, bucket.ErrChanged) {
			t.Errorf("%s: %v", test.what, err)
		}
		peer.Must(t, r.Close())
	}
}

func TestWhatIsThereIsNotSentAgain(t *testing.T) {
	var received atomic.Int64
	server := served(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Body = counting{r.Body, &received}
			h.ServeHTTP(w, r)
		})
	})
	b := client(t, server.URL, "secret")
	content := bytes.NewReader(buckettest.Bytes(1<<20, 1))
	for i, want := range []error{nil, bucket.ErrChanged} {
		if _, err := b.Put(t.Context(), "images/web", content, bucket.Condition{Absent: true}); !errors.Is(err, want) {
			t.Errorf("time %d: %v", i+1, err)
		}
		if received.Load() != 1<<20 {
			t.Errorf("time %d: %d bytes", i+1, received.Load())
		}
	}
}

type counting struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c counting) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func TestWaitsGrowAndEnd(t *testing.T) {
	var count atomic.Int32
	server := answers(t, &count, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	var waits []time.Duration
	ctx, cancel := context.WithCancel(t.Context())
	b, err := bucket.HTTP(server.URL, bucket.HTTPOptions{Wait: func(ctx context.Context, d time.Duration) error {
		if waits = append(waits, d); len(waits) == 4 {
			cancel()
		}
		return ctx.Err()
	}})
	peer.Must(t, err)
	if _, _, err := b.Open(ctx, "index"); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "502 Bad Gateway") {
		t.Error(err)
	}
	for i, least := 0, 100*time.Millisecond; i < len(waits); i, least = i+1, least*2 {
		if waits[i] < least || waits[i] > 3*least {
			t.Errorf("wait %d: %v", i+1, waits[i])
		}
	}
	if len(waits) != 4 || count.Load() != 4 {
		t.Errorf("%d waits, asked %d times", len(waits), count.Load())
	}
}

func TestACertificateThatNobodyTrustsIsNotTriedAgain(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	server.Config.ErrorLog = nil
	b, err := bucket.HTTP(server.URL, bucket.HTTPOptions{Token: "secret", Wait: func(context.Context, time.Duration) error {
		t.Error("it waits")
		return nil
	}})
	peer.Must(t, err)
	if _, err := b.List(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
}

func TestServersThatTellLies(t *testing.T) {
	var count atomic.Int32
	for what, answer := range map[string]http.HandlerFunc{
		"no tag": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "[]") },
		"a weak tag": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Etag", `W/"1"`)
			fmt.Fprint(w, `{}`)
		},
		"another name": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `[{"name": "../../etc/passwd"}]`) },
		"no length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Etag", `"1"`)
			w.Header().Set("Last-Modified", "Thu, 26 Nov 2026 01:00:00 GMT")
			_ = http.NewResponseController(w).Flush()
			fmt.Fprint(w, "nonsense")
		},
	} {
		b := client(t, answers(t, &count, answer).URL, "")
		if _, _, err := b.Open(t.Context(), "index"); err == nil {
			t.Errorf("open, %s", what)
		}
		if found, err := b.List(t.Context(), "images/"); what != "no tag" && err == nil {
			t.Errorf("list, %s: %v", what, found)
		}
	}
}
