package build

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/peer"
	"herdbook/internal/source"
	"herdbook/internal/store"
)

// What the lock says of a tree that has changed meanwhile is pinned anew; what the
// definition says itself is not.
func TestAKernelThatTheTreeHasNoMoreHasMoved(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gone" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, r.URL.Path)
	}))
	defer server.Close()
	s, err := store.Open(t.TempDir())
	peer.Must(t, err)
	r := &run{Builder: &Builder{Store: s, Now: time.Now}}
	medium := func(path, text string) definition.Medium {
		return definition.Medium{URL: server.URL + path, Checksum: digest.Of([]byte(text)).Checksum()}
	}
	tree := definition.Medium{URL: server.URL}
	for name, c := range map[string]struct {
		install definition.Install
		moved   bool
		want    error
	}{
		"as pinned":          {definition.Install{Location: tree, Kernel: medium("/linux", "/linux"), Initrd: medium("/initrd", "/initrd")}, false, nil},
		"another kernel":     {definition.Install{Location: tree, Kernel: medium("/linux", "before"), Initrd: medium("/initrd", "/initrd")}, true, digest.ErrMismatch},
		"no initrd":          {definition.Install{Location: tree, Kernel: medium("/linux", "/linux"), Initrd: medium("/gone", "before it went")}, true, source.ErrNotFound},
		"given another":      {definition.Install{Kernel: medium("/linux", "before"), Initrd: medium("/initrd", "/initrd")}, false, digest.ErrMismatch},
		"given what is gone": {definition.Install{Kernel: medium("/gone", "never"), Initrd: medium("/initrd", "/initrd")}, false, source.ErrNotFound},
	} {
		o, err := r.origin(context.Background(), c.install, t.TempDir(), nil)
		if !errors.Is(err, c.want) || errors.Is(err, source.ErrMoved) != c.moved {
			t.Errorf("%s: %v", name, err)
		}
		if c.want != nil {
			continue
		}
		if text, err := os.ReadFile(o.kernel); err != nil || string(text) != "/linux" {
			t.Errorf("%s: the kernel is %q, %v", name, text, err)
		}
	}
}
