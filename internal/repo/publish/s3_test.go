package publish

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"herdbook/internal/bucket"
	"herdbook/internal/bucket/buckettest"
	"herdbook/internal/peer"
	"herdbook/internal/repo"
)

// inS3 is an empty repository in a real server of S3, by way of a proxy that every
// third request fails at: before it has an effect, or behind it.
func inS3(t *testing.T, prefix string, faulty bool) Repository {
	t.Helper()
	address, access, secret := peer.S3(t)
	u, err := url.Parse(address)
	peer.Must(t, err)
	query := u.Query()
	if faulty {
		query.Set("endpoint", everyThird(t, query.Get("endpoint")))
	}
	u.Path, u.RawQuery = "/"+prefix, query.Encode()
	b, err := bucket.At(u.String(), bucket.Options{AccessKey: access, SecretKey: bucket.Secret(secret)})
	peer.Must(t, err)
	r := repository(t)
	r.Bucket, r.Address = b, u.String()
	return r
}

// everyThird is the address of the proxy.
func everyThird(t *testing.T, endpoint string) string {
	t.Helper()
	to, err := url.Parse(endpoint)
	peer.Must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(to) // the host stays, since it is signed
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	var faults buckettest.EveryThird
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch turn, fails := faults.Fails(r); {
		case fails && turn%2 == 1:
			_, _ = io.Copy(io.Discard, r.Body)
			http.Error(w, "busy", http.StatusServiceUnavailable)
		case fails:
			proxy.ServeHTTP(httptest.NewRecorder(), r) // it is done, and the answer is lost
			panic(http.ErrAbortHandler)
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestABucketIsARepository(t *testing.T) {
	for _, faulty := range []bool{false, true} {
		t.Run(fmt.Sprintf("faulty %v", faulty), func(t *testing.T) {
			r := inS3(t, "herd", faulty)
			one := publish(t, r, revision(t, "web", "one"))
			var group sync.WaitGroup
			for i := range 4 {
				n := revision(t, fmt.Sprint("image", i), "one")
				group.Go(func() {
					if _, err := r.Publish(t.Context(), n, nil); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			two := publish(t, r, revision(t, "web", "two"))
			if _, err := r.Rollback(t.Context(), repo.Selector{Image: "web"}); err != nil {
				t.Error(err)
			}
			if _, err := r.Promote(t.Context(), repo.Selector{Image: "web", Revision: 2}, repo.Stable); err != nil {
				t.Error(err)
			}
			done, err := r.Prune(t.Context(), repo.Policy{Keep: 1}, false)
			if err != nil || len(done.Files) != 1 || done.Files[0] != one.File {
				t.Errorf("%+v %v", done, err)
			}
			x := isWhole(t, r)
			if e, err := x.Find(repo.Selector{Image: "web"}); err != nil || e.File != two.File || len(x.Entries) != 5 {
				t.Errorf("%+v %v", x.Entries, err)
			}
		})
	}
}

func TestABucketThatIsNotThereIsNamed(t *testing.T) {
	r := inS3(t, "herd", false)
	address := strings.Replace(r.Address, "s3://herd/", "s3://nowhere/", 1)
	var err error
	r.Bucket, err = bucket.At(address, bucket.Options{AccessKey: "x", SecretKey: "y"})
	peer.Must(t, err)
	if _, err := r.Publish(t.Context(), revision(t, "web", "one"), nil); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Error(err)
	}
}
