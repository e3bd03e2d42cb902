package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herdbook/internal/digest"
	"herdbook/internal/event"
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
	stat, err := os.Stat(path + NoteSuffix)
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

// What a disk has lost meanwhile is not started.
func TestDamagedMediaAreFetchedAgain(t *testing.T) {
	asked, down := 0, false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; down {
			http.NotFound(w, r)
			return
		}
		w.Write(content)
	}))
	defer server.Close()
	sum := digest.Of(content).Checksum()
	notices := 0
	m := &Media{Dir: t.TempDir(), Fetcher: Fetcher{Sink: func(e event.Event) {
		if e.Kind == event.Notice {
			notices++
		}
	}}}
	path := filepath.Join(m.Dir, sum.FileName())
	for _, text := range [][]byte{content[:len(content)-1], append([]byte("x"), content[1:]...), nil} {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := m.Boot(context.Background(), server.URL, sum)
		if back, readErr := os.ReadFile(path); err != nil || readErr != nil || got != path || !bytes.Equal(back, content) {
			t.Errorf("%.5q: %s, %v, %v", text, got, err, readErr)
		}
	}
	if asked != 3 || notices != 3 {
		t.Errorf("asked %d times, %d notices", asked, notices)
	}
	down = true
	if _, err := m.Boot(context.Background(), server.URL, sum); err != nil || asked != 3 {
		t.Errorf("what is whole was asked for: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Boot(context.Background(), server.URL, sum); !errors.Is(err, ErrNotFound) {
		t.Errorf("what is damaged and gone: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("what is damaged is left")
	}
}

// A kept file is hashed again when something was done to it, and only then.
func TestKeptMediaAreNotHashedAtEachUse(t *testing.T) {
	served := filepath.Join(t.TempDir(), "served")
	if err := os.WriteFile(served, content, 0o644); err != nil {
		t.Fatal(err)
	}
	sum := digest.Of(content).Checksum()
	m := &Media{Dir: t.TempDir()}
	keep := func(sum digest.Checksum) error {
		_, err := m.Keep(context.Background(), "file://"+served, sum, maxImage)
		return err
	}
	if err := keep(sum); err != nil {
		t.Fatal(err)
	}
	path := m.Path(sum)
	if path == served || !m.vouched(path) {
		t.Errorf("%s is not vouched for", path)
	}
	// Where the note is right nothing is read: the file can even have another name.
	other := digest.Of(nil).Checksum()
	for _, suffix := range []string{"", NoteSuffix} {
		if err := os.Rename(path+suffix, m.Path(other)+suffix); err != nil {
			t.Fatal(err)
		}
	}
	m.vouch(m.Path(other)) // the new name has changed it
	if err := keep(other); err != nil {
		t.Errorf("it was read again: %v", err)
	}
	if err := os.WriteFile(m.Path(other), append([]byte("x"), content[1:]...), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := keep(other); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("changed content of the same size: %v", err)
	}
}

func TestHashingEndsWhenNobodyWaits(t *testing.T) {
	m := &Media{Dir: t.TempDir()}
	sum := digest.Of(content).Checksum()
	path := filepath.Join(m.Dir, sum.FileName())
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, address := range []string{"file://" + path, "http://mirror.invalid"} {
		if _, err := m.File(ctx, address, sum); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := (&Fetcher{}).part(ctx, "file://"+path, "", ""); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("what was not verified to its end is gone: %v", err)
	}
}

func TestMoved(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false}, {ErrUnreachable, false}, {context.Canceled, false},
		{fmt.Errorf("x: %w", ErrNotFound), true}, {fmt.Errorf("x: %w", digest.ErrMismatch), true},
	} {
		got := Moved(c.err)
		if errors.Is(got, ErrMoved) != c.want || !errors.Is(got, c.err) {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}
