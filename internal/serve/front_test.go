package serve

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"herdbook/internal/event"
	"herdbook/internal/peer"
)

// plainly is a plain request with further lines.
func plainly(line string, more ...string) string {
	return line + " HTTP/1.1\r\nHost: x\r\n" + strings.Join(append(more, ""), "\r\n") + "\r\n"
}

// behind serves a directory without front, by net/http alone.
func behind(t testing.TB, s *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	peer.Must(t, err)
	served := make(chan error, 1)
	go func() { served <- s.HTTP.Serve(s.bound(l)) }()
	t.Cleanup(func() {
		peer.Must(t, s.HTTP.Close())
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// inFront serves it with front.
func inFront(t testing.TB, s *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	peer.Must(t, err)
	f := newFront(t.Context(), s, s.bound(l))
	served := make(chan error, 1)
	go func() { served <- s.HTTP.Serve(f) }()
	t.Cleanup(func() {
		peer.Must(t, errors.Join(s.HTTP.Close(), f.end(context.WithoutCancel(t.Context()))))
		<-served
	})
	return l.Addr().String()
}

var dateLine = regexp.MustCompile(`\r\nDate: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n`)

// converse sends pieces one after the other, waits for an answer to begin where a piece
// ends a request, and gives all that comes back, but for the time of day.
func converse(t testing.TB, address string, pieces ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	peer.Must(t, err)
	defer c.Close()
	peer.Must(t, c.SetDeadline(time.Now().Add(time.Minute)))
	var all []byte
	for _, piece := range pieces {
		if _, err := c.Write([]byte(piece)); err != nil {
			break // it was closed, which the other server has to do, too
		}
		if !strings.HasSuffix(piece, "\r\n\r\n") {
			continue
		}
		one := make([]byte, 1)
		if _, err := io.ReadFull(c, one); err != nil {
			break // likewise
		}
		all = append(all, one...)
	}
	_ = c.(*net.TCPConn).CloseWrite() // likewise
	rest, _ := io.ReadAll(c)          // a reset is an end, too
	return dateLine.ReplaceAllString(string(append(all, rest...)), "\r\nDate: now\r\n")
}

// requests are whole ones that are plain, and such that are not.
var (
	plainRequests = []string{
		plainly("GET /index"), plainly("HEAD /index"), plainly("GET /index", "Accept-Encoding: gzip"), plainly("HEAD /index", "Accept-Encoding: gzip"),
		plainly("GET /index", "accept-encoding: gzip;q=0, *"), plainly("GET /long", "User-Agent: curl/8 (\"x\")", "ACCEPT: */*", "Connection: Keep-Alive"),
		plainly("GET /long", "Accept-Encoding: br, gzip"), plainly("HEAD /long"), plainly("GET /tiny", "Cache-Control: no-cache", "Pragma: no-cache"),
		plainly("GET /nothing"), plainly("GET /border"), plainly("GET /below"), plainly("GET /beyond"), plainly("GET /full"),
		plainly("GET /streams/v1/index.json"), plainly("GET /images/web-0123456789ab.json"),
		"GET /index HTTP/1.1\r\nAccept-Language: de, en;q=0.5\r\nHOST: example.org:8080\r\n\r\n", "GET /index HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
		plainly("GET /lost"), plainly("GET /"), plainly("GET //index"), plainly("GET /./index"), plainly("GET /images/../index"), plainly("GET /.tmp/put-1"),
		plainly("GET /-/objects"), plainly("HEAD /root/index"), plainly("GET /images/web-0123456789ab.qcow2"), plainly("GET /" + strings.Repeat("x", 1500)),
	}
	otherRequests = []string{
		plainly("GET /index", "Range: bytes=1-5"), plainly("GET /index", "If-None-Match: *"), plainly("GET /index", "Connection: close"),
		plainly("GET /index", "Authorization: Basic eDp4"), plainly("GET /index", "Content-Length: 0"), plainly("GET /index", "X-Other: x"),
		plainly("GET /index?x"), plainly("GET /%69ndex"), plainly("GET /index", "User-Agent: a", "User-Agent: b"), plainly("GET /index", "Accept: a\xffb"),
		plainly("GET /index", "Accept:text/plain"), plainly("GET /index", "Accept: "), plainly("GET /index", "Accept:  x"), plainly("GET /index", "Accept: x "),
		plainly("PUT /index"), plainly("get /index"), plainly("POST /index"), plainly("GET http://x/index"),
		"GET /index HTTP/1.0\r\n\r\n", "GET /index HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", "GET /index HTTP/1.1\nHost: x\n\n",
		plainly("GET /index", "Accept-Encoding: gzip", "Accept-Encoding: br"), plainly("GET /index", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: x"),
		plainly("GET /index", "Expect: 100-continue"),
	}
	brokenRequests = []string{
		"GET /index HTTP/1.1\r\n\r\n", "GET /index\r\n\r\n", plainly("GET  /index"), plainly("GET /index "), plainly("GET /index", "Host: y"), plainly("GET /index", "Ho\u017ft: y"),
		plainly("GET /index", " folded"), "GET /index HTTP/1.1\r\nHost: x/y\r\n\r\n", "GET /index HTTP/1.1\r\nHost: a b\r\n\r\n", "\r\n\r\n", plainly("GET /index", "Accept : x"),
		plainly("GET /index", "Transfer-Encoding: chunked, gzip"), "PRI * HTTP/2.0\r\n\r\n", plainly("GET /index", "Accept: a\rb"), plainly("GET index"), plainly("GET *"),
	}
)

func TestFrontAnswersAsNetHTTPDoes(t *testing.T) {
	dir, _ := large(t, 100)
	one, other := inFront(t, newServer(t, dir, nil)), behind(t, newServer(t, dir, nil))
	conversations := map[string][]string{
		"in pieces": {"GET /in", "dex HTTP/1.1\r\nHost", ": x\r\n\r\n"}, "at once": {plainRequests[0] + plainRequests[1] + plainRequests[5]},
		"not whole": {"GET /index HTTP/1.1\r\nHost: x\r\n"}, "nothing": {""}, "a body": {plainly("GET /index", "Content-Length: 5") + "hello"},
		"one and a half": {plainRequests[0] + "GET /ind", "ex HTTP/1.1\r\nHost: x\r\n\r\n"},
		"others between": {plainRequests[0], otherRequests[0], plainRequests[5], otherRequests[1], plainRequests[1]},
		"a long one":     {plainly("GET /index", "Accept: "+strings.Repeat("x", 3000))},
		"many":           {plainRequests[5], plainRequests[5], plainRequests[12], plainRequests[2], plainRequests[6], plainRequests[1], plainRequests[10]},
	}
	for i, requests := range [][]string{plainRequests, otherRequests, brokenRequests} {
		for _, request := range requests {
			conversations[request] = []string{request}
			if _, plain := parsePlain([]byte(request)); plain != (i == 0) {
				t.Errorf("plain is %v: %q", plain, request)
			}
		}
	}
	for what, pieces := range conversations {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for range 2 { // what is kept and what is not
				got, want := converse(t, one, pieces...), converse(t, other, pieces...)
				if got != want {
					t.Errorf("%.200q: %d bytes, not %d:\n%.900q\n%.900q", what, len(got), len(want), got, want)
				}
				if slices.Contains(plainRequests[:18], what) && !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") {
					t.Errorf("%.200q: %.200q", what, got)
				}
			}
		})
	}
}

func FuzzPlain(f *testing.F) {
	dir, _ := large(f, 100)
	one, other := inFront(f, newServer(f, dir, nil)), behind(f, newServer(f, dir, nil))
	for _, request := range slices.Concat(plainRequests, otherRequests, brokenRequests) {
		f.Add([]byte(request))
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		if _, plain := parsePlain(request); !plain || bytes.Contains(request, []byte(metricsPath)) {
			return // net/http gets every byte of it, or figures that change
		}
		if got, want := converse(t, one, string(request)), converse(t, other, string(request)); got != want {
			t.Errorf("%q:\n%.900q\n%.900q", request, got, want)
		}
	})
}

func TestFrontIsWhereEverybodyMayRead(t *testing.T) {
	s := newServer(t, repository(t), func(o *Options) { o.Readers = []Credential{Token("secret")} })
	address, stop := start(t, s)
	defer stop()
	for range 2 {
		if got := converse(t, address, plainly("GET /index")); !strings.HasPrefix(got, "HTTP/1.1 401 ") {
			t.Errorf("%.200q", got)
		}
		if got := converse(t, address, plainly("GET /index", "Authorization: Bearer secret")); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
			t.Errorf("%.200q", got)
		}
	}
}

func TestFrontIsCountedAndLogged(t *testing.T) {
	dir, objects := large(t, 100)
	requests := []string{plainly("GET /long", "User-Agent: wget"), plainly("HEAD /long"), plainly("GET /long", "Accept-Encoding: gzip"), plainly("GET /tiny")}
	var logs, figures [2]string
	for i, serve := range []func(testing.TB, *Server) string{inFront, behind} {
		logged := make(chan Request, 1)
		s := newServer(t, dir, func(o *Options) { o.Log = func(r Request) { logged <- r } })
		address := serve(t, s)
		for _, request := range requests {
			converse(t, address, request)
			r := <-logged
			if host, _, err := net.SplitHostPort(r.Remote); err != nil || host != "127.0.0.1" || time.Since(r.Time) > time.Minute || r.Duration < 0 {
				t.Errorf("%+v", r)
			}
			r.Remote, r.Time, r.Duration = "", time.Time{}, 0
			logs[i] += fmt.Sprintf("%+v\n", r)
		}
		for line := range strings.Lines(said(t, ask(s.metrics.handler, "GET", "/metrics"))) {
			if strings.HasPrefix(line, "herdbook_requests") || strings.HasPrefix(line, "herdbook_sent") || strings.HasPrefix(line, "herdbook_request_seconds_count") {
				figures[i] += line
			}
		}
	}
	if logs[0] != logs[1] || figures[0] != figures[1] {
		t.Errorf("%s\n%s\n%s\n%s", logs[0], logs[1], figures[0], figures[1])
	}
	if size := fmt.Sprintf("Sent:%d ", len(objects["long"])); !strings.Contains(logs[0], size) || strings.Count(logs[0], "\n") != len(requests) {
		t.Errorf("no %q in %s", size, logs[0])
	}
}

func TestFrontGivesNoOldText(t *testing.T) {
	dir, _ := large(t, 100)
	c, err := net.Dial("tcp", inFront(t, newServer(t, dir, nil)))
	peer.Must(t, err)
	defer c.Close()
	answer := func(path string) string {
		_, err := c.Write([]byte(plainly("GET " + path)))
		peer.Must(t, err)
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		peer.Must(t, err)
		return said(t, r)
	}
	for i := range 100 {
		text := strings.Repeat("x", i/2*1000) + fmt.Sprint(i)
		path := filepath.Join(dir, "long")
		if i%2 == 0 { // in its place
			peer.Must(t, os.WriteFile(path+".next", []byte(text), 0o644))
			peer.Must(t, os.Rename(path+".next", path))
		} else { // in itself
			peer.Must(t, os.WriteFile(path, []byte(text), 0o644))
		}
		if got := answer("/long"); got != text {
			t.Fatalf("%d bytes of %d", len(got), len(text))
		}
	}
	// In the place of its directory; the next look at the path comes soon.
	text := strings.Repeat("new ", 10_000)
	old, next := filepath.Join(dir, "streams"), filepath.Join(dir, "next")
	peer.Must(t, os.MkdirAll(filepath.Join(next, "v1"), 0o755))
	peer.Must(t, os.WriteFile(filepath.Join(next, "v1/index.json"), []byte(text), 0o644))
	peer.Must(t, os.WriteFile(filepath.Join(old, "v1/index.json"), []byte(strings.Repeat("old ", 10_000)), 0o644))
	answer("/streams/v1/index.json")
	peer.Must(t, errors.Join(os.Rename(old, old+".old"), os.Rename(next, old)))
	for end := time.Now().Add(time.Minute); answer("/streams/v1/index.json") != text; {
		if time.Now().After(end) {
			t.Fatal("a directory that was exchanged is not seen")
		}
	}
}

// slowly asks for a text of many bytes, and has not read them when slowly returns.
func slowly(t *testing.T, address string) (c net.Conn, answer *http.Response) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	peer.Must(t, err)
	peer.Must(t, c.(*net.TCPConn).SetReadBuffer(64<<10))
	_, err = c.Write([]byte(plainly("GET /huge")))
	peer.Must(t, err)
	answer, err = http.ReadResponse(bufio.NewReader(c), nil)
	peer.Must(t, err)
	return c, answer
}

func TestFrontEndsWithTheServer(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir, _ := large(t, 100)
	text := bytes.Repeat([]byte("huge "), 5<<20)
	peer.Must(t, os.WriteFile(filepath.Join(dir, "huge"), text, 0o644))
	for _, grace := range []time.Duration{time.Minute, time.Millisecond} {
		var notices []string
		s := newServer(t, dir, func(o *Options) {
			o.Grace = grace
			o.Sink = func(e event.Event) { notices = append(notices, e.Text) }
		})
		address, stop := start(t, s)
		silent, err := net.Dial("tcp", address)
		peer.Must(t, err)
		idle, err := net.Dial("tcp", address)
		peer.Must(t, err)
		_, err = idle.Write([]byte(plainly("GET /tiny")))
		peer.Must(t, err)
		first, err := http.ReadResponse(bufio.NewReader(idle), nil)
		peer.Must(t, err)
		c, answer := slowly(t, address)
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		// Who waits is let go while the answer goes on.
		for _, other := range []net.Conn{silent, idle} {
			if _, err := other.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("a connection that waits: %v", err)
			}
		}
		if grace < time.Second {
			<-stopped
		}
		body, err := io.ReadAll(answer.Body)
		whole := err == nil && bytes.Equal(body, text)
		if whole != (grace > time.Second) || (len(notices) == 0) != whole {
			t.Errorf("%d bytes within %v: %v, %q", len(body), grace, err, notices)
		}
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Error("the connection goes on")
		}
		<-stopped
		if got := gathered(t, s, "herdbook_connections"); got != 0 {
			t.Errorf("%v connections are left", got)
		}
		peer.Must(t, errors.Join(first.Body.Close(), c.Close(), silent.Close(), idle.Close()))
	}
}

func TestFrontCutsWhoWastesTime(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir, _ := large(t, 100)
	peer.Must(t, os.WriteFile(filepath.Join(dir, "huge"), noise(25<<20), 0o644))
	answered := make(chan Request, 1)
	s := newServer(t, dir, func(o *Options) {
		o.Header, o.Idle = 200*time.Millisecond, 300*time.Millisecond
		o.Log = func(r Request) { answered <- r }
	})
	address, stop := start(t, s)
	defer stop()
	for _, request := range []string{"", plainly("GET /tiny"), "GET /ti"} {
		c, err := net.Dial("tcp", address)
		peer.Must(t, err)
		began := time.Now()
		_, err = c.Write([]byte(request))
		peer.Must(t, err)
		_, err = io.ReadAll(c)
		least := 200 * time.Millisecond
		if strings.HasSuffix(request, "\r\n\r\n") {
			least = 300 * time.Millisecond
		}
		if took := time.Since(began); err != nil || took < least {
			t.Errorf("%q: %v after %v", request, err, took)
		}
		peer.Must(t, c.Close())
	}
	<-answered // the tiny one
	c, _ := slowly(t, address)
	if r := <-answered; r.Path != "/huge" || r.Sent == 0 || r.Sent >= 25<<20 || r.Duration < 300*time.Millisecond {
		t.Errorf("%d bytes of %s were sent in %v", r.Sent, r.Path, r.Duration)
	}
	peer.Must(t, c.Close())
}
