package bucket

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"herdbook/internal/peer"
)

func TestReadIsBounded(t *testing.T) {
	b := Dir(t.TempDir())
	put, err := b.Put(t.Context(), "index", strings.NewReader("text"), Condition{})
	peer.Must(t, err)
	for limit, want := range map[int64]string{4: "text", 5: "text", 3: ""} {
		text, o, err := Read(t.Context(), b, "index", limit)
		if string(text) != want || o.Version != put.Version || (err == nil) != (want != "") || err != nil && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d: %q %v", limit, text, err)
		}
	}
	if _, _, err := Read(t.Context(), b, "nothing", 4); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
