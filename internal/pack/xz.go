package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"herdbook/internal/disk"
	"herdbook/internal/event"
)

// ErrNoXZ says that xz is not installed.
var ErrNoXZ = errors.New("xz is not installed: apt-get install xz-utils")

// xzBlock is what is packed at a time and can be unpacked at a time, in bytes.
const xzBlock = 16 << 20

// xzOptions are those of xz --best but for the time that it takes: a dictionary beyond
// the block is of no use, and a search that goes on for longer finds next to nothing
// (under 1 % of the size for a third of the time). There is no filter before it: not
// every reader of xz has them.
var xzOptions = []string{
	"--compress", "--stdout", "--format=xz", "--check=crc64", fmt.Sprintf("--block-size=%d", xzBlock),
	"--lzma2=preset=9,dict=16MiB,nice=32,depth=12",
	"--memlimit-compress=50%", // of the machine's; xz starts fewer threads then
}

// XZ writes the disk of a qcow2 chain, raw and packed by xz on all cores, at dst. Its
// blocks of 16 MiB can be unpacked side by side; one of zeros is neither read nor
// packed more than once.
func XZ(ctx context.Context, src, dst string, sink event.Sink) (File, error) {
	sink.Emit(event.Event{Kind: event.Phase, Text: "compress as xz"})
	f, err := write(ctx, dst, func(w io.Writer) (err error) {
		image, err := disk.Open(src, disk.QCOW2)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, image.Close()) }()
		return packXZ(ctx, image, w, &progress{sink: sink, total: image.Size()})
	})
	if err != nil {
		return File{}, fmt.Errorf("pack %s as xz: %w", src, err)
	}
	return f, nil
}

// packXZ lets xz pack what is not zeros, and puts its blocks and those of zeros in
// their order into one stream.
func packXZ(ctx context.Context, image *disk.Image, w io.Writer, p *progress) error {
	data := &dataBlocks{image: image, alive: ctx.Err}
	out := &xzWriter{w: w}
	ahead := func(zeros []int64) error { // of a block of data
		for _, size := range zeros {
			if err := out.zeros(ctx, size); err != nil {
				return err
			}
			p.add(size)
		}
		return nil
	}
	err := runXZ(ctx, data, func(from *xzReader) error {
		if err := out.begin(from.header); err != nil {
			return err
		}
		for {
			more, err := from.next()
			if err != nil || !more {
				return err
			}
			if err := ahead(data.passed()); err != nil {
				return err
			}
			r, err := from.copy(w)
			if err != nil {
				return err
			}
			out.index = append(out.index, r)
			p.add(r.size)
		}
	})
	if err != nil {
		return err
	}
	if err := ahead(data.passed()); err != nil {
		return err
	}
	return out.end()
}

// runXZ starts xz with an input and reads what it makes of that.
func runXZ(ctx context.Context, in io.Reader, read func(*xzReader) error) error {
	path, err := exec.LookPath("xz")
	if err != nil {
		return ErrNoXZ
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// With a single thread it would not say in a block how long that is.
	cmd := exec.CommandContext(ctx, path, append(xzOptions, fmt.Sprintf("--threads=%d", max(2, runtime.GOMAXPROCS(0))))...)
	var said bytes.Buffer
	cmd.Env = []string{} // such as XZ_OPT
	cmd.Stdin, cmd.Stderr, cmd.WaitDelay = in, &said, 5*time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	from, failed := newXZReader(out)
	if failed == nil {
		failed = read(from)
	}
	if failed != nil {
		stop()
	} else if _, err := io.Copy(io.Discard, out); err != nil { // its index
		failed = err
	}
	err = cmd.Wait()
	switch {
	case failed != nil && !errors.Is(failed, io.ErrUnexpectedEOF):
		return failed
	case err != nil && said.Len() > 0:
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	case err != nil:
		return fmt.Errorf("xz: %w", err)
	}
	return failed
}

// dataBlocks reads a disk's blocks without those that are zeros.
type dataBlocks struct {
	image *disk.Image
	alive func() error
	at    int64 // next byte
	left  int64 // of the block that is read

	lock  sync.Mutex
	zeros [][]int64 // sizes of the blocks of zeros before each block of data, and at the end
}

// passed are the sizes of the blocks of zeros before the next block of data, or before
// the end.
func (d *dataBlocks) passed() []int64 {
	d.lock.Lock()
	defer d.lock.Unlock()
	if len(d.zeros) == 0 {
		return nil
	}
	first := d.zeros[0]
	d.zeros = d.zeros[1:]
	return first
}

// Read implements io.Reader.
func (d *dataBlocks) Read(p []byte) (int, error) {
	if d.left == 0 {
		d.left = d.advance()
	}
	if d.left == 0 {
		return 0, io.EOF
	}
	if err := d.alive(); err != nil {
		return 0, err
	}
	p = p[:min(int64(len(p)), d.left)]
	n, err := d.image.ReadAt(p, d.at)
	d.at, d.left = d.at+int64(n), d.left-int64(n)
	if n == len(p) {
		err = nil
	} else if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// advance goes to the next block of data and returns its size; 0 at the end.
func (d *dataBlocks) advance() (size int64) {
	var zeros []int64
	for {
		size = min(xzBlock, d.image.Size()-d.at)
		// What cannot be read is no zeros: reading it says why.
		if size == 0 || d.alive() != nil || disk.ReadsZero(d.image, []disk.Range{{Start: d.at, Size: size}}) != nil {
			break
		}
		zeros, d.at = append(zeros, size), d.at+size
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	d.zeros = append(d.zeros, zeros)
	return size
}

// zeros writes a block of zeros, which xz packs once for each size.
func (x *xzWriter) zeros(ctx context.Context, size int64) error {
	b, ok := x.known[size]
	if !ok {
		var packed bytes.Buffer
		err := runXZ(ctx, io.LimitReader(zeros{}, size), func(from *xzReader) error {
			more, err := from.next()
			if err == nil && !more {
				err = errors.New("xz made no block")
			}
			if err == nil {
				b.record, err = from.copy(&packed)
			}
			return err
		})
		if err != nil {
			return err
		}
		b.bytes = packed.Bytes()
		if x.known == nil {
			x.known = map[int64]xzPacked{}
		}
		x.known[size] = b
	}
	x.index = append(x.index, b.record)
	_, err := x.w.Write(b.bytes)
	return err
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
