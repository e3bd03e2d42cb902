package bucket_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"herdbook/internal/bucket"
	"herdbook/internal/bucket/buckettest"
	"herdbook/internal/peer"
	"herdbook/internal/serve"
)

// served is a server of an empty directory, and what stands between.
func served(t *testing.T, between func(http.Handler) http.Handler) *httptest.Server {
	t.Helper()
	s, err := serve.New(serve.Options{
		Dir: filepath.Join(t.TempDir(), "not/there/yet"), Now: time.Now, Uploaders: []serve.Credential{serve.Token("secret")},
	})
	peer.Must(t, err)
	server := httptest.NewServer(between(s))
	t.Cleanup(server.Close)
	return server
}

func straight(h http.Handler) http.Handler { return h }

// client speaks to a server and does not wait.
func client(t *testing.T, address string, token bucket.Secret) bucket.Bucket {
	t.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true
	t.Cleanup(transport.CloseIdleConnections)
	b, err := bucket.HTTP(address, bucket.HTTPOptions{
		Token: token, Transport: transport, Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	})
	peer.Must(t, err)
	return b
}

func TestHTTP(t *testing.T) {
	defer goleak.VerifyNone(t)
	buckettest.Run(t, func(t *testing.T) bucket.Bucket { return client(t, served(t, straight).URL, "secret") })
}

// flaky lets every third call fail, in one of several ways.
type flaky struct {
	http.Handler
	faults *buckettest.EveryThird
}

func (f flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	turn, fails := f.faults.Fails(r)
	if !fails {
		f.Handler.ServeHTTP(w, r)
		return
	}
	switch turn % 4 {
	case 0: // before the effect
		panic(http.ErrAbortHandler)
	case 1: // behind it
		f.Handler.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	case 2:
		http.Error(w, "overloaded", http.StatusServiceUnavailable)
	default: // in the middle of the answer
		f.Handler.ServeHTTP(&cut{w, 1 << 20}, r)
	}
}

// cut drops the connection when so many bytes were sent.
type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(p)
}

func TestHTTPWhereEveryThirdCallFails(t *testing.T) {
	buckettest.Run(t, func(t *testing.T) bucket.Bucket {
		server := served(t, func(h http.Handler) http.Handler {
			return flaky{h, new(buckettest.EveryThird)}
		})
		return client(t, server.URL, "secret")
	})
}
