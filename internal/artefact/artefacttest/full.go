package artefacttest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"herdbook/internal/artefact"
	"herdbook/internal/peer"
	"herdbook/internal/store"
)

// page is what a file system in memory counts in.
const page = 4096

// resize gives a volume another size.
func resize(t testing.TB, dir string, size int64) {
	t.Helper()
	peer.Must(t, unix.Mount("", dir, "", unix.MS_REMOUNT, fmt.Sprintf("size=%d", size)))
}

// noRoom makes it where half of it has room, and then where all has.
func noRoom(t *testing.T, order artefact.Order, image *artefact.Image, first artefact.Manifest) {
	size := int64(0) // without holes
	for _, f := range first.Files {
		var stat unix.Stat_t
		peer.Must(t, unix.Stat(filepath.Join(order.Dir, f.Name), &stat))
		size += stat.Blocks * 512
	}
	order.Dir = t.TempDir()
	peer.Volume(t, order.Dir, fmt.Sprintf("size=%d", max(page, size/2/page*page)))
	_, err := order.Make(t.Context(), image, nil)
	if err == nil || !strings.Contains(err.Error(), "no space is left in "+order.Dir) || strings.Count(err.Error(), "free some there") != 1 {
		t.Errorf("the error: %v", err)
	}
	if names := left(t, order.Dir); len(names) > 0 {
		t.Errorf("what is left: %q", names)
	}
	resize(t, order.Dir, 1<<30)
	again(t, order, image, first)
}

// noRoomInStore makes it when its parts have no room, and then when they have.
func noRoomInStore(t *testing.T, order artefact.Order, image *artefact.Image, first artefact.Manifest) {
	layers := filepath.Join(image.Store.Dir(), "layers")
	parts, err := filepath.Glob(filepath.Join(layers, "*", "part-*"))
	peer.Must(t, err)
	if len(parts) == 0 {
		return // it has none
	}
	for _, part := range parts {
		peer.Must(t, os.Remove(part))
	}
	copied := filepath.Join(t.TempDir(), "layers")
	peer.Run(t, "cp", "-a", layers, copied)
	peer.Volume(t, layers, "size=1g")
	peer.Run(t, "cp", "-a", copied+"/.", layers)
	var stat unix.Statfs_t
	peer.Must(t, unix.Statfs(layers, &stat))
	resize(t, layers, int64(stat.Blocks-stat.Bfree)*page+2*page)
	order.Dir = t.TempDir()
	_, err = order.Make(t.Context(), image, nil)
	var full *store.FullError
	if !errors.As(err, &full) || full.Dir != image.Store.Dir() || strings.Contains(err.Error(), order.Dir) {
		t.Errorf("the error: %v", err)
	}
	if err != nil && !errors.Is(err, syscall.ENOSPC) && !strings.Contains(err.Error(), "No space left on device") {
		t.Errorf("it does not tell the cause: %v", err)
	}
	half, err := filepath.Glob(filepath.Join(layers, "*", ".*"))
	peer.Must(t, err)
	if names := append(left(t, order.Dir), half...); len(names) > 0 {
		t.Errorf("what is left: %q", names)
	}
	resize(t, layers, 1<<30)
	again(t, order, image, first)
}

// again makes it when it can be made.
func again(t *testing.T, order artefact.Order, image *artefact.Image, first artefact.Manifest) {
	t.Helper()
	m, err := order.Make(t.Context(), image, nil)
	peer.Must(t, err)
	if diff := cmp.Diff(first.Files, m.Files); diff != "" {
		t.Errorf("with room: %s", diff)
	}
}
