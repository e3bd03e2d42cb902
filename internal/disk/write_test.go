package disk

import (
	"bytes"
	"math/rand"
	"path/filepath"
	"testing"

	"herdbook/internal/peer"
)

func TestApply(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "qemu-io")
	path := filepath.Join(t.TempDir(), "a disk.qcow2")
	peer.Must(t, Create(t.Context(), path, 4<<20))
	random := make([]byte, 700)
	rand.New(rand.NewSource(1)).Read(random)
	writes := []Write{{0, random}, {1<<20 - 300, bytes.Repeat([]byte{0xee}, 70000)}, {1 << 20, make([]byte, 5)}, {4<<20 - 1, []byte{'\n'}}}
	want := make([]byte, 4<<20)
	for _, w := range writes {
		copy(want[w.Offset:], w.Bytes)
	}
	peer.Must(t, Apply(t.Context(), path, nil))
	peer.Must(t, Apply(t.Context(), path, writes))
	image, err := Open(path, QCOW2)
	peer.Must(t, err)
	defer image.Close()
	got := make([]byte, len(want))
	if _, err := image.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("other bytes, %v", err)
	}
	if err := Apply(t.Context(), path, []Write{{4 << 20, []byte{1}}}); err == nil {
		t.Error("written behind the end")
	}
}
