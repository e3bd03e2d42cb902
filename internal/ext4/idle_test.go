package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"herdbook/internal/filesystem"
	"herdbook/internal/filesystem/readertest"
	"herdbook/internal/peer"
)

// What is idle can be zeroed: the file system is as sound as before, what is in
// use stays, and nothing is left of what was deleted, not even in the journal.
func TestIdleRangesMeanNothing(t *testing.T) {
	for _, options := range []string{"-t ext4", "-t ext4 -b 1024 -O ^metadata_csum", "-t ext3", "-t ext2", "-t ext4 -O bigalloc -C 16384"} {
		t.Run(strings.ReplaceAll(options, " ", "_"), func(t *testing.T) {
			peer.NeedTool(t, "e2fsck")
			image := makeImage(t, "", options, "100M")
			deleted := []byte("what was deleted and must not be found again")
			// Data goes through the journal, too, where there is one.
			mode := "data=journal"
			if strings.Contains(options, "ext2") {
				mode = "rw"
			}
			dir := mount(t, image, mode)
			for i := range 50 {
				name := filepath.Join(dir, strings.Repeat("x", i+1))
				f, err := os.Create(name)
				peer.Must(t, err)
				_, err = f.Write(bytes.Repeat(deleted, 1000*(i%7+1)))
				peer.Must(t, errors.Join(err, f.Sync(), f.Close()))
			}
			for i := range 20 {
				peer.Must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), bytes.Repeat([]byte{byte(i)}, i*5000), 0o600))
			}
			for i := range 50 {
				peer.Must(t, os.Remove(filepath.Join(dir, strings.Repeat("x", i+1))))
			}
			peer.Must(t, unix.Unmount(dir, 0))
			before, err := os.ReadFile(image)
			peer.Must(t, err)
			if !bytes.Contains(before, deleted) {
				t.Fatal("nothing of it is in the image anyway")
			}
			after := bytes.Clone(before)
			peer.Must(t, openImage(t, image).IdleRanges(func(start, length int64) error {
				clear(after[start:][:length])
				return nil
			}))
			if bytes.Contains(after, deleted) {
				t.Error("something of it is left")
			}
			trimmed := filepath.Join(t.TempDir(), "trimmed")
			peer.Must(t, os.WriteFile(trimmed, after, 0o600))
			peer.Run(t, "e2fsck", "-fn", trimmed)
			compareWithKernel(t, openImage(t, image), mount(t, trimmed))
		})
	}
}

func TestADirtyFileSystemIsNotIdle(t *testing.T) {
	image := makeImage(t, "", "-t ext4", "100M")
	dir := mount(t, image)
	f, err := os.Create(filepath.Join(dir, "file"))
	peer.Must(t, err)
	peer.Must(t, errors.Join(f.Sync(), f.Close()))
	err = openImage(t, readertest.CutOff(t, image)).IdleRanges(func(int64, int64) error { return errors.New("a range") })
	if !errors.Is(err, filesystem.ErrDirty) {
		t.Error(err)
	}
	peer.Must(t, unix.Unmount(dir, 0))
}
