package bucket_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"herdbook/internal/bucket"
	"herdbook/internal/bucket/buckettest"
	"herdbook/internal/peer"
)

// server is a real S3 server.
type server struct {
	endpoint string
	options  bucket.Options
}

func startS3(t *testing.T) server {
	t.Helper()
	address, access, secret := peer.S3(t)
	u, err := url.Parse(address)
	peer.Must(t, err)
	return server{u.Query().Get("endpoint"), bucket.Options{AccessKey: access, SecretKey: bucket.Secret(secret)}}
}

// at is a bucket of the server's.
func (s server) at(t *testing.T, path string) bucket.Bucket {
	t.Helper()
	b, err := bucket.At("s3://"+path+"?region=us-east-1&endpoint="+url.QueryEscape(s.endpoint), s.options)
	peer.Must(t, err)
	return b
}

func TestS3(t *testing.T) {
	buckettest.Run(t, func(t *testing.T) bucket.Bucket { return startS3(t).at(t, "herd/a/repo") })
}

func TestWithoutPrefixS3IsAllOfTheBucket(t *testing.T) {
	s := startS3(t)
	buckettest.Put(t, s.at(t, "herd/a"), "index", "i")
	buckettest.Put(t, s.at(t, "herd/ab"), "index", "other")
	for path, name := range map[string]string{"herd": "a/index", "herd/": "a/index", "herd/a/": "index"} {
		if text, _ := buckettest.Get(t, s.at(t, path), name); text != "i" {
			t.Errorf("%s: %q", path, text)
		}
	}
	if found, err := s.at(t, "herd/a").List(t.Context(), ""); err != nil || len(found) != 1 || found[0].Name != "index" {
		t.Errorf("list: %+v %v", found, err)
	}
}

// proxy stands before a server. A way of failing answers a request that forward
// would answer.
type proxy func(w http.ResponseWriter, r *http.Request, forward http.Handler)

// before puts it there. Pauses between attempts are short meanwhile.
func (s server) before(t *testing.T, p proxy) server {
	t.Helper()
	target, err := url.Parse(s.endpoint)
	peer.Must(t, err)
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // which is signed
	}, ErrorLog: log.New(io.Discard, "", 0)}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p(w, r, forward) }))
	t.Cleanup(front.Close)
	unit := minio.DefaultRetryUnit
	minio.DefaultRetryUnit = time.Millisecond
	t.Cleanup(func() { minio.DefaultRetryUnit = unit })
	return server{front.URL, s.options}
}

func status(code int, body string) proxy {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// drop closes the connection without an answer.
func drop(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }

// dropAfter does so when the request has had its effect.
func dropAfter(_ http.ResponseWriter, r *http.Request, forward http.Handler) {
	forward.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// badGateway says that it cannot be reached when the request has had its effect.
func badGateway(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	forward.ServeHTTP(httptest.NewRecorder(), r)
	http.Error(w, "<html>upstream</html>", http.StatusBadGateway)
}

// cutAnswer closes the connection within the answer.
func cutAnswer(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	recorder := httptest.NewRecorder()
	forward.ServeHTTP(recorder, r)
	for key, values := range recorder.Header() {
		w.Header()[key] = values
	}
	w.WriteHeader(recorder.Code)
	_, _ = w.Write(recorder.Body.Bytes()[:recorder.Body.Len()/2])
	if recorder.Body.Len() > 0 {
		_ = http.NewResponseController(w).Flush() // what is written so far
		panic(http.ErrAbortHandler)
	}
}

var ways = map[string]proxy{
	"500":          status(500, "<Error><Code>InternalError</Code></Error>"),
	"503":          status(503, "<Error><Code>SlowDown</Code></Error>"),
	"drop":         drop,
	"drop after":   dropAfter,
	"bad gateway":  badGateway,
	"cut":          cutAnswer,
	"502 of a web": status(502, "<html>"),
}

func TestAnS3ThatFailsEveryThirdTimeWorks(t *testing.T) {
	s := startS3(t)
	kinds := []string{"500", "drop", "drop after", "cut", "503", "bad gateway"}
	var faults buckettest.EveryThird
	failing := s.before(t, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if turn, fails := faults.Fails(r); fails {
			ways[kinds[turn%len(kinds)]](w, r, forward)
			return
		}
		forward.ServeHTTP(w, r)
	})
	prefix := 0
	buckettest.Run(t, func(t *testing.T) bucket.Bucket {
		prefix++
		return failing.at(t, fmt.Sprint("herd/", prefix))
	})
	if n := faults.Requests(); n < 1000 {
		t.Errorf("only %d requests came by", n)
	}
}

// TestAPutWhoseAnswerWasLostIsNobodyElses has each request of a Put fail once, in
// every way.
func TestAPutWhoseAnswerWasLostIsNobodyElses(t *testing.T) {
	s := startS3(t)
	for kind, way := range ways {
		for size, text := range map[string]string{"small": "new", "large": string(buckettest.Bytes(buckettest.Large, 1))} {
			if size == "large" && !slices.Contains([]string{"drop after", "cut"}, kind) {
				continue
			}
			for at, met := int64(1), true; met; at++ {
				met = false
				t.Run(fmt.Sprintf("%s of request %d, %s", kind, at, size), func(t *testing.T) {
					path := fmt.Sprintf("herd/%s/%s/%d", strings.ReplaceAll(kind, " ", "-"), size, at)
					count := atomic.Int64{}
					failing := s.before(t, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
						if count.Add(1) == at {
							way(w, r, forward)
							return
						}
						forward.ServeHTTP(w, r)
					}).at(t, path)
					putWithout(t, s.at(t, path), failing, text, func() { met = count.Swap(0) >= at || met })
				})
			}
		}
	}
}

// putWithout puts by a bucket that fails once after each start.
func putWithout(t *testing.T, b, failing bucket.Bucket, text string, start func()) {
	old := buckettest.Put(t, b, "index", "old")
	made, err := failing.Put(t.Context(), "new", strings.NewReader(text), bucket.Condition{Absent: true})
	peer.Must(t, err)
	start()
	swapped, err := failing.Put(t.Context(), "index", strings.NewReader(text), bucket.Condition{Version: old.Version})
	peer.Must(t, err)
	for name, put := range map[string]bucket.Object{"new": made, "index": swapped} {
		if got, o := buckettest.Get(t, b, name); got != text || o.Version != put.Version || o.Size != put.Size {
			t.Errorf("%s: %+v was put, %+v is there", name, put, o)
		}
	}
	// The same content of somebody else is no mistake.
	for _, c := range []bucket.Condition{{Absent: true}, {Version: old.Version}} {
		start()
		if _, err := failing.Put(t.Context(), "index", strings.NewReader(text), c); !errors.Is(err, bucket.ErrChanged) {
			t.Errorf("against %+v: %v", c, err)
		}
	}
	start()
	peer.Must(t, failing.Remove(t.Context(), "new"))
	start()
	if found, err := failing.List(t.Context(), ""); err != nil || len(found) != 1 {
		t.Errorf("list: %+v %v", found, err)
	}
	start()
}

// TestAConflictIsTriedAgain has the service see two writers at once, as Amazon may.
func TestAConflictIsTriedAgain(t *testing.T) {
	s := startS3(t)
	count := atomic.Int64{}
	b := s.before(t, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		joining := r.Method == http.MethodPut || r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
		if joining && !r.URL.Query().Has("partNumber") && count.Add(1)%3 != 0 {
			_, _ = io.Copy(io.Discard, r.Body)
			status(409, "<Error><Code>ConditionalRequestConflict</Code></Error>")(w, r, forward)
			return
		}
		forward.ServeHTTP(w, r)
	}).at(t, "herd")
	for _, text := range []string{"small", string(buckettest.Bytes(buckettest.Large, 1))} {
		o, err := b.Put(t.Context(), "index", strings.NewReader(text), bucket.Condition{Absent: true})
		peer.Must(t, err)
		if got, there := buckettest.Get(t, b, "index"); got != text || there.Version != o.Version {
			t.Errorf("%d bytes are there", len(got))
		}
		peer.Must(t, b.Remove(t.Context(), "index"))
	}
}

// TestAVersionIsThatOfItsContent has a service tell the version of a Put that comes
// between, as versitygw may, and one whose versions are no sums.
func TestAVersionIsThatOfItsContent(t *testing.T) {
	s := startS3(t)
	b := s.at(t, "herd/repo")
	buckettest.Put(t, b, "index", "old")
	between := true
	racing := s.before(t, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if !between {
			forward.ServeHTTP(w, r)
			return
		}
		between = false
		recorder := httptest.NewRecorder()
		forward.ServeHTTP(recorder, r)
		o := buckettest.Put(t, b, "index", "new")
		for key, values := range recorder.Header() {
			w.Header()[key] = values
		}
		w.Header().Set("ETag", `"`+o.Version+`"`)
		_, _ = w.Write(recorder.Body.Bytes())
	}).at(t, "herd/repo")
	r, _, err := racing.Open(t.Context(), "index")
	peer.Must(t, err)
	if text, err := io.ReadAll(r); !errors.Is(err, bucket.ErrChanged) {
		t.Errorf("%q of another version: %v", text, err)
	}
	peer.Must(t, r.Close())
	if text, _ := buckettest.Get(t, racing, "index"); text != "new" {
		t.Errorf("%q is there", text)
	}
	version := strings.Repeat("0", 32)
	asked := 0
	random := s.before(t, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		asked++
		w.Header().Set("ETag", `"`+version+`"`)
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		_, _ = io.WriteString(w, "new")
	}).at(t, "herd/repo")
	if text, o := buckettest.Get(t, random, "index"); text != "new" || o.Version != version || asked != 2 {
		t.Errorf("where versions are no sums: %q %+v after %d requests", text, o, asked)
	}
}

// TestPartsOfFailedPutsAreRemoved looks for what would be paid for.
func TestPartsOfFailedPutsAreRemoved(t *testing.T) {
	s := startS3(t)
	b := s.at(t, "herd/repo")
	old := buckettest.Put(t, b, "index", "old")
	changed := false
	meddled := s.before(t, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if r.URL.Query().Has("partNumber") && !changed {
			changed = true
			buckettest.Put(t, b, "index", "somebody else's")
		}
		forward.ServeHTTP(w, r)
	}).at(t, "herd/repo")
	_, err := meddled.Put(t.Context(), "index", strings.NewReader(string(buckettest.Bytes(buckettest.Large, 1))), bucket.Condition{Version: old.Version})
	if !errors.Is(err, bucket.ErrChanged) || !changed {
		t.Errorf("put: %v", err)
	}
	if text, _ := buckettest.Get(t, b, "index"); text != "somebody else's" {
		t.Errorf("%.20q is there", text)
	}
	core := s.core(t)
	uploads, err := core.ListMultipartUploads(t.Context(), "herd", "", "", "", "", 100)
	if err != nil || len(uploads.Uploads) > 0 {
		t.Errorf("left: %+v %v", uploads.Uploads, err)
	}
}

func TestErrorsOfS3SayWhatToDo(t *testing.T) {
	s := startS3(t)
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }))
	defer page.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	buckettest.Put(t, s.at(t, "herd/repo"), "index", "i")
	fast := s.before(t, func(w http.ResponseWriter, r *http.Request, forward http.Handler) { forward.ServeHTTP(w, r) })
	says := func(name, message string) server {
		return s.before(t, status(403, "<Error><Code>"+name+"</Code><Message>"+message+"</Message></Error>"))
	}
	wrong := func(access, secret string) server {
		return server{s.endpoint, bucket.Options{AccessKey: access, SecretKey: bucket.Secret(secret)}}
	}
	for _, c := range []struct {
		what   string
		server server
		path   string
		want   string
	}{
		{"no such bucket", fast, "nowhere/repo", "has no bucket nowhere: make it there, or correct the address"},
		{"a wrong access key", wrong("nobody", "not so secret, but long"), "herd/repo", "the access key or its secret key is wrong"},
		{"a wrong secret key", wrong(s.options.AccessKey, "wrong-secret-of-ours"), "herd/repo", "the access key or its secret key is wrong"},
		{"nobody", server{s.endpoint, bucket.Options{}}, "herd/repo", "these credentials may not do that in bucket herd"},
		{"a web server", server{web.URL, s.options}, "herd/repo", "what answers there is not S3: HTTP status 404; is " + web.URL + " the endpoint?"},
		{"a web page", server{page.URL, s.options}, "herd/repo", "what answers there is not S3: HTTP status 200; is " + page.URL + " the endpoint?"},
		{"nobody there", server{gone.URL, s.options}, "herd/repo", "is " + gone.URL + " the endpoint?"},
		{"HTTP for HTTPS", server{strings.Replace(s.endpoint, "http:", "https:", 1), s.options}, "herd/repo", "the endpoint?"},
		{"a wrong clock", says("RequestTimeTooSkewed", "The difference is too large."), "herd/repo", "the clock of this machine and that of the service are too far apart: set this one right"},
		{"temporary credentials", says("ExpiredToken", "The token has expired."), "herd/repo", "get new ones"},
		{"another region", says("AuthorizationHeaderMalformed", "expecting eu-west-1"), "herd/repo", "?region="},
	} {
		b := c.server.at(t, c.path)
		errs := map[string]error{}
		_, _, errs["open"] = b.Open(t.Context(), "index")
		_, errs["put"] = b.Put(t.Context(), "index", strings.NewReader("x"), bucket.Condition{})
		_, errs["swap"] = b.Put(t.Context(), "index", strings.NewReader("x"), bucket.Condition{Version: "nonsense"})
		_, errs["list"] = b.List(t.Context(), "")
		errs["remove"] = b.Remove(t.Context(), "index")
		for method, err := range errs {
			switch {
			case err == nil:
				t.Errorf("%s: %s: done", c.what, method)
			case !strings.Contains(err.Error(), c.want) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, bucket.ErrChanged):
				t.Errorf("%s: %s: %v", c.what, method, err)
			case strings.Contains(err.Error(), "secret-of-ours") || strings.Contains(err.Error(), "not so secret"):
				t.Errorf("%s: %s: it tells the secret: %v", c.what, method, err)
			}
		}
	}
}

// core is the server without a bucket of ours before it.
func (s server) core(t *testing.T) *minio.Core {
	t.Helper()
	core, err := minio.NewCore(strings.TrimPrefix(s.endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(s.options.AccessKey, string(s.options.SecretKey), ""), Region: "us-east-1",
	})
	peer.Must(t, err)
	return core
}
