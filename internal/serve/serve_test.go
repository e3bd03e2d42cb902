package serve

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"herdbook/internal/event"
	"herdbook/internal/peer"
)

// start serves on the loopback until stop, which must give no error.
func start(t *testing.T, s *Server) (address string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	peer.Must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	return l.Addr().String(), sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// client has connections of its own.
func client(t *testing.T, config *tls.Config) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func fetch(t *testing.T, c *http.Client, url string) (*http.Response, []byte) {
	t.Helper()
	r, err := c.Get(url)
	peer.Must(t, err)
	body, err := io.ReadAll(r.Body)
	peer.Must(t, errors.Join(err, r.Body.Close()))
	return r, body
}

// large is a repository with objects of all ways to send.
func large(t testing.TB, size int) (dir string, objects map[string][]byte) {
	t.Helper()
	dir = repository(t)
	objects = map[string][]byte{
		"images/large.qcow2": noise(size), "images/small.xz": noise(10), "tiny": []byte("tiny"), "short": bytes.Repeat([]byte("short "), 1000),
		"long": bytes.Repeat([]byte("a longer text\n"), 50_000), "border": noise(sendFrom), "below": noise(sendFrom - 1), "beyond": noise(maxBody + 1), "full": noise(maxBody), "one": noise(4096), "nothing": {},
	}
	for name, content := range objects {
		peer.Must(t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
	}
	return dir, objects
}

func TestObjectsOverConnections(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir, objects := large(t, 3<<20)
	cert, key, pool := certificateFiles(t, "one")
	for _, protocol := range []string{"HTTP/1.1", "HTTP/1.1 over TLS", "HTTP/2.0"} {
		s := newServer(t, dir, func(o *Options) {
			if protocol != "HTTP/1.1" {
				o.Cert, o.Key = cert, key
			}
		})
		address, stop := start(t, s)
		config := &tls.Config{RootCAs: pool}
		base := "https://" + address + "/"
		if protocol == "HTTP/1.1" {
			base = "http://" + address + "/"
		}
		c := client(t, config)
		if protocol == "HTTP/1.1 over TLS" {
			c.Transport.(*http.Transport).ForceAttemptHTTP2 = false
		}
		for range 2 {
			for name, content := range objects {
				r, body := fetch(t, c, base+name)
				if r.StatusCode != 200 || !bytes.Equal(body, content) || r.ContentLength != int64(len(content)) || !strings.HasPrefix(protocol, r.Proto) {
					t.Errorf("%s of %s: %s %s, %d bytes of %d", name, protocol, r.Proto, r.Status, len(body), len(content))
				}
			}
		}
		if got := gathered(t, s, "herdbook_sent_bytes_total"); got < 2*3<<20 {
			t.Errorf("%s: %v bytes were sent", protocol, got)
		}
		c.CloseIdleConnections()
		stop()
		if got := gathered(t, s, "herdbook_connections"); got != 0 {
			t.Errorf("%s: %v connections are left", protocol, got)
		}
	}
}

// gathered is one of the figures.
func gathered(t *testing.T, s *Server, name string) (value float64) {
	t.Helper()
	for line := range strings.Lines(said(t, ask(s.metrics.handler, "GET", "/metrics"))) {
		if n, err := fmt.Sscanf(line, name+" %g", &value); n == 1 && err == nil {
			return value
		}
	}
	t.Fatalf("there is no figure %s", name)
	return 0
}

func TestADownloadMayEnd(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir, objects := large(t, 24<<20)
	for _, grace := range []time.Duration{time.Minute, time.Millisecond} {
		var notices []string
		s := newServer(t, dir, func(o *Options) {
			o.Grace = grace
			o.Sink = func(e event.Event) { notices = append(notices, e.Text) }
		})
		address, stop := start(t, s)
		c := client(t, nil)
		r, err := c.Get("http://" + address + "/images/large.qcow2")
		peer.Must(t, err)
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		if grace < time.Second {
			<-stopped
		} else {
			// Nobody else gets in any more.
			for {
				other, err := net.Dial("tcp", address)
				if err != nil {
					break
				}
				peer.Must(t, other.Close())
			}
		}
		body, err := io.ReadAll(r.Body)
		whole := err == nil && bytes.Equal(body, objects["images/large.qcow2"])
		if whole != (grace > time.Second) || (len(notices) == 0) != whole {
			t.Errorf("%d bytes within %v: %v, %q", len(body), grace, err, notices)
		}
		<-stopped
		peer.Must(t, r.Body.Close())
		c.CloseIdleConnections()
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	defer goleak.VerifyNone(t)
	s := newServer(t, repository(t), func(o *Options) { o.MaxConnections = 2 })
	address, stop := start(t, s)
	defer stop()
	one := func() net.Conn {
		c, err := net.Dial("tcp", address)
		peer.Must(t, err)
		_, err = c.Write([]byte("HEAD /index HTTP/1.1\r\nHost: x\r\n\r\n"))
		peer.Must(t, err)
		return c
	}
	answered := func(c net.Conn) {
		line := make([]byte, 12)
		_, err := io.ReadFull(c, line)
		if peer.Must(t, err); string(line) != "HTTP/1.1 200" {
			t.Errorf("%q", line)
		}
	}
	first, second := one(), one()
	answered(first)
	answered(second)
	third := one()
	if got := gathered(t, s, "herdbook_connections"); got != 2 {
		t.Errorf("%v connections", got)
	}
	peer.Must(t, first.Close())
	answered(third)
	peer.Must(t, errors.Join(second.Close(), third.Close()))
}

// certificateFiles makes a certificate that names 127.0.0.1, and the pool that trusts it.
func certificateFiles(t *testing.T, name string) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	dir := t.TempDir()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	peer.Must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &secret.PublicKey, secret)
	peer.Must(t, err)
	secretDER, err := x509.MarshalPKCS8PrivateKey(secret)
	peer.Must(t, err)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	peer.Must(t, os.WriteFile(cert, text, 0o644))
	peer.Must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secretDER}), 0o600))
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return cert, key, pool
}

func TestACertificateIsReadAnew(t *testing.T) {
	cert, key, _ := certificateFiles(t, "one")
	now := time.Now()
	var notices []string
	s, err := New(Options{
		Dir: repository(t), Now: func() time.Time { return now }, Cert: cert, Key: key,
		Sink: func(e event.Event) { notices = append(notices, e.Text) },
	})
	peer.Must(t, err)
	name := func() string {
		now = now.Add(2 * certificateAge)
		c, err := s.certs.get(nil)
		peer.Must(t, err)
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		peer.Must(t, err)
		return leaf.Subject.CommonName
	}
	otherCert, otherKey, _ := certificateFiles(t, "two")
	if got := name(); got != "one" {
		t.Errorf("at first: %s", got)
	}
	peer.Must(t, os.Rename(otherCert, cert)) // and the key only later
	if got := name(); got != "one" || len(notices) != 1 || !strings.Contains(notices[0], "goes on to be used") {
		t.Errorf("with half of it: %s, %q", got, notices)
	}
	if got := name(); got != "one" || len(notices) != 1 {
		t.Errorf("told again: %s, %q", got, notices)
	}
	peer.Must(t, os.Rename(otherKey, key))
	if got := name(); got != "two" {
		t.Errorf("changed: %s", got)
	}
	peer.Must(t, os.Remove(key))
	if got := name(); got != "two" || len(notices) != 2 {
		t.Errorf("removed: %s, %q", got, notices)
	}
	if _, err := New(Options{Dir: t.TempDir(), Now: time.Now, Cert: cert, Key: key}); err == nil {
		t.Error("a server without its key")
	}
}

func TestOutcomesAreRememberedForAWhile(t *testing.T) {
	var c outcomes
	failed, err := c.claim(t.Context(), "failed")
	peer.Must(t, err)
	waiting := make(chan *outcome)
	go func() {
		o, _ := c.claim(t.Context(), "failed")
		waiting <- o
	}()
	c.settle("failed", failed)
	if o := <-waiting; o == failed || o.made {
		t.Error("an upload that failed is not made anew")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.claim(over, "failed"); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for ever: %v", err)
	}
	for i := range maxOutcomes + 10 {
		key := fmt.Sprint(i)
		o, err := c.claim(t.Context(), key)
		peer.Must(t, err)
		o.made = true
		c.settle(key, o)
	}
	if o, err := c.claim(t.Context(), fmt.Sprint(maxOutcomes)); err != nil || !o.made || len(c.known) > maxOutcomes || len(c.order) > maxOutcomes {
		t.Errorf("%d remembered: %v", len(c.known), err)
	}
}
