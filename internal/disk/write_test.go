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

// QEMU and Growable refuse the same.
func TestGrowable(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	for _, c := range []struct {
		compat   string
		snapshot bool
		good     bool
	}{{"0.10", false, true}, {"0.10", true, false}, {"1.1", true, true}} {
		path := filepath.Join(t.TempDir(), "disk")
		peer.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat="+c.compat, path, "4M")
		if c.snapshot {
			peer.Run(t, "qemu-img", "snapshot", "-c", "one", path)
		}
		if err := Growable(path, QCOW2); (err == nil) != c.good {
			t.Errorf("%+v: %v", c, err)
		}
		if err := Resize(t.Context(), path, QCOW2, 8<<20); (err == nil) != c.good {
			t.Errorf("%+v: QEMU: %v", c, err)
		}
		if c.snapshot && !c.good {
			peer.Run(t, "qemu-img", "amend", "-f", "qcow2", "-o", "compat=1.1", path)
			if err := Growable(path, QCOW2); err != nil {
				t.Errorf("amended: %v", err)
			}
			peer.Must(t, Resize(t.Context(), path, QCOW2, 8<<20))
		}
	}
}
