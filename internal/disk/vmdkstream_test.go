package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/peer"
)

// streamOf writes the disk of a raw file as a stream.
func streamOf(t *testing.T, raw string) string {
	t.Helper()
	image, err := Open(raw, Raw)
	peer.Must(t, err)
	path := filepath.Join(t.TempDir(), "disk.vmdk")
	out, err := os.Create(path)
	peer.Must(t, err)
	var told int64
	err = WriteStream(t.Context(), out, image, Stream{ID: [16]byte{0: 0xab, 15: 3}, Progress: func(done int64) { told = done }})
	peer.Must(t, errors.Join(err, out.Close(), image.Close()))
	if told != image.Size() {
		t.Errorf("it told of %d bytes, the disk has %d", told, image.Size())
	}
	return path
}

// sparseDisk makes a raw disk with data here and there, and what does not compress.
func sparseDisk(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	peer.Must(t, err)
	peer.Must(t, f.Truncate(size))
	random := rand.NewChaCha8([32]byte{1})
	for _, r := range []Range{{0, 512}, {65536 - 3, 7}, {1 << 20, 300 << 10}, {40 << 20, 1 << 20}, {size - 700, 700}} {
		if r.Start+r.Size > size || r.Start < 0 {
			continue
		}
		p := make([]byte, r.Size)
		if r.Size > 1000 {
			_, err := random.Read(p)
			peer.Must(t, err)
		} else {
			copy(p, strings.Repeat("moo", int(r.Size)))
		}
		_, err = f.WriteAt(p, r.Start)
		peer.Must(t, err)
	}
	peer.Must(t, f.Close())
	return path
}

func TestAStreamIsTheDiskForTwoReaders(t *testing.T) {
	peer.NeedTool(t, "qemu-img")
	for _, size := range []int64{512, 64 << 10, 1<<20 + 512, 32 << 20, 128<<20 + 65536, 2 << 30} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			raw := sparseDisk(t, size)
			path := streamOf(t, raw)
			if out := peer.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "vmdk", raw, path); !strings.Contains(out, "identical") {
				t.Error(out)
			}
			peer.Run(t, "qemu-img", "check", "-f", "vmdk", path)
			if info := peer.Run(t, "qemu-img", "info", "-f", "vmdk", path); !strings.Contains(info, "streamOptimized") {
				t.Error(info)
			}
			ours, err := Open(path, VMDK)
			peer.Must(t, err)
			want, err := Open(raw, Raw)
			peer.Must(t, err)
			if err := sameContent(want, ours); err != nil {
				t.Error(err)
			}
			peer.Must(t, errors.Join(ours.Close(), want.Close()))
			again, err := os.ReadFile(streamOf(t, raw))
			peer.Must(t, err)
			first, err := os.ReadFile(path)
			peer.Must(t, err)
			if !bytes.Equal(first, again) {
				t.Error("the same disk made other bytes")
			}
		})
	}
}

// sameContent compares two disks.
func sameContent(a, b *Image) error {
	if a.Size() != b.Size() {
		return fmt.Errorf("%d and %d bytes", a.Size(), b.Size())
	}
	p, q := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); at < a.Size(); at += int64(len(p)) {
		n := min(int64(len(p)), a.Size()-at)
		if err := errors.Join(readFull(a, p[:n], at), readFull(b, q[:n], at)); err != nil {
			return err
		}
		if !bytes.Equal(p[:n], q[:n]) {
			return fmt.Errorf("they differ within 1 MiB of byte %d", at)
		}
	}
	return nil
}

func TestAStreamEndsWithItsContextAndItsWriter(t *testing.T) {
	image, err := Open(sparseDisk(t, 64<<20), Raw)
	peer.Must(t, err)
	defer image.Close()
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := WriteStream(ctx, io.Discard, image, Stream{}); !errors.Is(err, why) {
		t.Errorf("the error: %v", err)
	}
	if err := WriteStream(t.Context(), &fullWriter{room: 1 << 20}, image, Stream{}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("the error: %v", err)
	}
}

// fullWriter is a disk without room.
type fullWriter struct{ room int }

func (w *fullWriter) Write(p []byte) (int, error) {
	if w.room -= len(p); w.room < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}
