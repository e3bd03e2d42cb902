package readertest

import (
	"bytes"
	"io"
	"io/fs"
	"math/rand"
	"runtime"

	"herdbook/internal/filesystem"
)

// Reader is a file system that a reader has opened.
type Reader interface {
	Walk(fn func(name string, e *filesystem.Entry) error) error
	UsedRanges(fn func(start, length int64) error) error
	Stat(name string) (fs.FileInfo, error)
}

// ReadAll reads everything in a file system, each file up to a bound, and finds some
// files by their names; errors are as good as bytes.
func ReadAll(f Reader, names ...string) {
	_ = f.Walk(func(name string, e *filesystem.Entry) error {
		_, _ = e.ReadLink()
		_, _ = e.Xattrs()
		if file, err := e.Open(); err == nil {
			_ = file.Data(func(int64, int64) error { return nil })
			_, _ = io.Copy(io.Discard, io.LimitReader(file, 1<<20))
		}
		return nil
	})
	_ = f.UsedRanges(func(int64, int64) error { return nil })
	for _, name := range names {
		_, _ = f.Stat(name)
	}
}

// ReadImage is ReadAll of an image that may not even open. It returns how many bytes
// were read of it.
func ReadImage[F Reader](image []byte, open func(io.ReaderAt, int64) (F, error), names ...string) int64 {
	r := &counter{Reader: bytes.NewReader(image)}
	if f, err := open(r, int64(len(image))); err == nil {
		ReadAll(f, names...)
	}
	return r.read
}

// counter counts what is read of an image.
type counter struct {
	*bytes.Reader
	read int64
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.Reader.ReadAt(p, off)
	c.read += int64(n)
	return n, err
}

// Break changes a bit, a byte, or some bytes to others of the whole image.
func Break(random *rand.Rand, broken []byte, at int, image []byte) {
	switch random.Intn(3) {
	case 0:
		broken[at] ^= 1 << random.Intn(8)
	case 1:
		broken[at] = 0xff
	default:
		copy(broken[at:], image[random.Intn(len(image)):][:min(64, len(image)-at)/2])
	}
}

// Lie writes the largest and the smallest numbers into some fields of a superblock.
func Lie(random *rand.Rand, super []byte) {
	for range 1 + random.Intn(4) {
		at := random.Intn(len(super)) &^ 3
		copy(super[at:], [][]byte{{0xff, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 0x7f}, {0, 0, 0, 0}, {0, 0, 0, 1}}[random.Intn(4)])
	}
}

// Allocated is how many bytes a function has allocated, with those that it gave back.
func Allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
