package cacher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"herdbook/internal/peer"
	"herdbook/internal/program"
)

// archive serves files and counts who asks for them.
type archive struct {
	*httptest.Server
	mu    sync.Mutex
	asked map[string]int
}

func newArchive(t *testing.T, files map[string]string) *archive {
	a := &archive{asked: map[string]int{}}
	a.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.asked[r.URL.Path]++
		a.mu.Unlock()
		if files[r.URL.Path] == "" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, files[r.URL.Path])
	}))
	peer.Must(t, a.Listener.Close())
	a.Listener = lowPort(t)
	a.Start()
	t.Cleanup(a.Close)
	return a
}

// lowPort listens on a port below 32768: apt-cacher-ng 3.7.4 takes higher ones for
// negative numbers.
func lowPort(t *testing.T) net.Listener {
	t.Helper()
	for port := 20000; port < 32768; port++ {
		if listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return listener
		}
	}
	t.Fatal("every port from 20000 to 32767 is taken")
	return nil
}

func (a *archive) times(path string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[path]
}

func start(t *testing.T, dir string) *Cacher {
	t.Helper()
	peer.NeedTool(t, "/usr/sbin/"+proxy)
	c, err := Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// get fetches through a proxy, as apt does.
func get(t *testing.T, c *Cacher, address string) (status int, body string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", c.Port())})}}
	defer client.CloseIdleConnections()
	response, err := client.Get(address)
	peer.Must(t, err)
	text, err := io.ReadAll(response.Body)
	peer.Must(t, errors.Join(err, response.Body.Close()))
	return response.StatusCode, string(text)
}

func TestAPackageIsFetchedOnce(t *testing.T) {
	deb := strings.Repeat("a package\n", 100_000)
	a := newArchive(t, map[string]string{"/debian/pool/a_1_all.deb": deb, "/debian/dists/b/InRelease": "signed", "/late.sh": "a script"})
	// A path that no socket could have.
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30), "packages")
	for build := range 2 {
		c := start(t, dir)
		for range 2 {
			for path, want := range map[string]string{"/debian/pool/a_1_all.deb": deb, "/debian/dists/b/InRelease": "signed", "/late.sh": "a script"} {
				if status, body := get(t, c, a.URL+path); status != http.StatusOK || body != want {
					t.Errorf("%s: %d, %.40q", path, status, body)
				}
			}
			if status, _ := get(t, c, a.URL+"/debian/pool/none_1_all.deb"); status != http.StatusNotFound {
				t.Errorf("what is not there: %d", status)
			}
		}
		if n := a.times("/debian/pool/a_1_all.deb"); n != 1 {
			t.Errorf("build %d: the package was asked for %d times", build, n)
		}
		if n := a.times("/debian/dists/b/InRelease"); n < build+1 {
			t.Errorf("build %d: what changes was asked for %d times", build, n)
		}
		run := c.run
		peer.Must(t, c.Close())
		if _, err := os.Stat(run); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it left %s: %v", run, err)
		}
	}
}

func TestATunnelPasses(t *testing.T) {
	a := newArchive(t, nil)
	c := start(t, t.TempDir())
	defer func() { peer.Must(t, c.Close()) }()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", c.Port()))
	peer.Must(t, err)
	defer conn.Close()
	host := strings.TrimPrefix(a.URL, "http://")
	_, err = fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", host, host)
	peer.Must(t, err)
	answer := make([]byte, 12)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.0 200" {
		t.Errorf("%q, %v", answer, err)
	}
}

// A connection that nobody ends does not keep the proxy from its end.
func TestCloseEndsConnections(t *testing.T) {
	c := start(t, t.TempDir())
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", c.Port()))
	peer.Must(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET http://")
	peer.Must(t, err)
	peer.Must(t, c.Close())
	if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	select {
	case <-c.process.Done():
	default:
		t.Error("the program runs still")
	}
}

func TestOneProxyToADirectory(t *testing.T) {
	dir := t.TempDir()
	c := start(t, dir)
	if _, err := Start(t.Context(), dir); !errors.Is(err, ErrInUse) {
		t.Errorf("a second one: %v", err)
	}
	peer.Must(t, c.Close())
	peer.Must(t, start(t, dir).Close())
}

func TestAProxyThatCannotStart(t *testing.T) {
	fake := func(script string) {
		dir := t.TempDir()
		peer.Must(t, os.WriteFile(filepath.Join(dir, proxy), []byte("#!/bin/sh\n"+script), 0o755))
		t.Setenv("PATH", dir+":/usr/bin:/bin")
	}
	fake("echo this is no good >&2; exit 3\n")
	if _, err := Start(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "has ended: exit status 3: this is no good") {
		t.Error(err)
	}
	fake("exec sleep 600\n")
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	cancel(interrupted)
	if _, err := Start(ctx, t.TempDir()); !errors.Is(err, interrupted) {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	peer.Must(t, os.WriteFile(file, nil, 0o644))
	if _, err := Start(t.Context(), file); err == nil {
		t.Error("a file serves as a directory")
	}
}

func TestWithoutTheProgram(t *testing.T) {
	if _, err := program.Find(proxy); err == nil {
		// It lies where every PATH leads.
		return
	}
	var missing *program.MissingError
	if _, err := Start(t.Context(), t.TempDir()); !errors.As(err, &missing) {
		t.Error(err)
	}
}
