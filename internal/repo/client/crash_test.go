package client

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/disk"
	"herdbook/internal/peer"
	"herdbook/internal/signed"
)

// TestMain lets the test program be a reader that can be killed.
func TestMain(m *testing.M) {
	dir, ok := os.LookupEnv("HERDBOOK_TEST_READER")
	if !ok {
		os.Exit(m.Run())
	}
	keys, err := ReadKeyFile(filepath.Join(dir, "key"))
	c := Client{Dir: filepath.Join(dir, "repositories"), Now: noon}
	c.Media.Dir = filepath.Join(dir, "media")
	if err == nil {
		_, err = c.first(os.Getenv("HERDBOOK_TEST_URL"), keys)
	}
	if err != nil {
		panic(err)
	}
	os.Exit(0)
}

// first gets the first image of a repository.
func (c *Client) first(address string, keys signed.Keys) (Disk, error) {
	got, err := c.Read(context.Background(), Source{URL: address, Keys: keys})
	if err != nil {
		return Disk{}, err
	}
	return c.Disk(context.Background(), Offer{got.Index.Entries[0], got})
}

// A reader that is killed in the middle of a download leaves what the next one goes on
// with, and nothing that looks whole.
func TestADownloadIsGoneOnWithAfterAKill(t *testing.T) {
	f := newFarm(t)
	x := version(1, "web")
	x.Entries[0].Checksum, x.Entries[0].Format = f.image("images/web", ""), "raw"
	f.write(x)
	dir := t.TempDir()
	key, err := f.signer.PublicKey()
	peer.Must(t, err)
	peer.Must(t, os.WriteFile(filepath.Join(dir, "key"), key, 0o644))
	content, err := os.ReadFile(filepath.Join(f.dir, "images/web"))
	peer.Must(t, err)
	reader := exec.Command(os.Args[0])
	reader.Env = append(os.Environ(), "HERDBOOK_TEST_READER="+dir, "HERDBOOK_TEST_URL="+f.url)
	f.mu.Lock() // who asks is another process
	f.serve = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/images/") {
			return false
		}
		w.Header().Set("Content-Length", "1048576")
		w.Write(content[:300000])
		w.(http.Flusher).Flush()
		parts := filepath.Join(dir, "media", "*.part")
		for r.Context().Err() == nil { // until it has some of it
			found, _ := filepath.Glob(parts)
			if len(found) == 1 && fileSize(t, found[0]) > 0 {
				break
			}
		}
		if err := reader.Process.Kill(); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
		return true
	}
	f.mu.Unlock()
	peer.Must(t, reader.Start())
	if err := reader.Wait(); err == nil {
		t.Fatal("it was not killed")
	}
	var whole string
	f.mu.Lock()
	f.asked = nil
	f.serve = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/images/") {
			whole = r.Header.Get("Range")
		}
		return false
	}
	f.mu.Unlock()
	found, err := filepath.Glob(filepath.Join(dir, "media", "sha512-*"))
	if err != nil || len(found) != 2 { // the part and its lock
		t.Errorf("%q %v", found, err)
	}
	f.c.Dir, f.c.Media.Dir = filepath.Join(dir, "repositories"), filepath.Join(dir, "media")
	d, err := f.c.first(f.url, f.signer.Keys())
	if err != nil || d.Format != disk.Raw || fileSize(t, d.Path) != 1<<20 {
		t.Errorf("%+v %v", d, err)
	}
	if !strings.HasPrefix(whole, "bytes=") || whole == "bytes=0-" {
		t.Errorf("asked for the range %q", whole)
	}
}
