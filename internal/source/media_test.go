package source

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herdbook/internal/digest"
)

func TestMediaAreFetchedOnceAndKept(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Write(content)
	}))
	defer server.Close()
	dir := filepath.Join(t.TempDir(), "media")
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			m := &Media{Dir: dir, Now: now}
			path, err := m.File(context.Background(), server.URL+"/disc.iso", digest.Of(content).Checksum())
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s: %v", path, err)
			}
		})
	}
	group.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("the server was asked %d times", n)
	}
	m := &Media{Dir: dir, Now: now.Add(time.Hour)}
	path, err := m.File(context.Background(), server.URL+"/moved.iso", digest.Of(content).Checksum())
	if err != nil {
		t.Fatal(err)
	}
	stat, err := os.Stat(path)
	if err != nil || !stat.ModTime().Equal(now.Add(time.Hour)) {
		t.Errorf("the use of %s was not noted: %v", path, err)
	}
	if _, err := m.File(context.Background(), server.URL, ""); err == nil {
		t.Error("fetched what no checksum names")
	}
}

func TestMediaOfThisMachineAreVerified(t *testing.T) {
	path := filepath.Join(t.TempDir(), "with space.iso")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	m := &Media{Dir: filepath.Join(t.TempDir(), "media")}
	address := "file://" + filepath.Dir(path) + "/with%20space.iso"
	for _, sum := range []digest.Checksum{"", digest.Of(content).Checksum()} {
		if got, err := m.File(context.Background(), address, sum); err != nil || got != path {
			t.Errorf("%q: %q, %v", sum, got, err)
		}
	}
	if _, err := m.File(context.Background(), address, digest.Of(nil).Checksum()); !errors.Is(err, digest.ErrMismatch) {
		t.Error(err)
	}
}
