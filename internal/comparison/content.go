package comparison

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"

	"herdbook/internal/filesystem"
)

// chunk is how much of two files is compared at once, in bytes.
const chunk = 256 << 10

// reader compares contents.
type reader struct {
	ctx    context.Context
	a, b   []byte             // of chunk bytes
	linked map[[2]uint64]bool // pairs of inodes with several names: whether they are the same
}

// same tells whether two regular files of one size hold the same bytes.
func (r *reader) same(a, b node) (bool, error) {
	if a.stat.Size == 0 {
		return true, nil
	}
	key, several := [2]uint64{a.stat.Ino, b.stat.Ino}, a.stat.Nlink > 1 && b.stat.Nlink > 1
	if same, ok := r.linked[key]; ok && several {
		return same, nil
	}
	same, err := r.compare(a, b)
	if several && err == nil {
		r.linked[key] = same
	}
	return same, err
}

func (r *reader) compare(a, b node) (same bool, err error) {
	fileA, err := a.entry.Open()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, fileA.Close()) }()
	fileB, err := b.entry.Open()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, fileB.Close()) }()
	if r.a == nil {
		r.a, r.b = make([]byte, chunk), make([]byte, chunk)
	}
	if a.stat.Size <= chunk { // most files: where their holes are costs more than reading them
		return r.equal(fileA, fileB, run{0, a.stat.Size})
	}
	return r.compareData(fileA, fileB, a.stat.Size)
}

// errEnough ends a walk through a file of which no more is wanted.
var errEnough = errors.New("enough")

// run is bytes of a file that are not a hole.
type run struct{ start, end int64 }

// runs are those of a file, up to its size.
func runs(f *filesystem.File, size int64) iter.Seq2[run, error] {
	return func(yield func(run, error) bool) {
		err := f.Data(func(start, length int64) error {
			if !yield(run{start, min(start+length, size)}, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(run{}, err)
		}
	}
}

// compareData compares where either file has data: a hole of terabytes in both
// costs nothing.
func (r *reader) compareData(fileA, fileB *filesystem.File, size int64) (bool, error) {
	nextA, stopA := iter.Pull2(runs(fileA, size))
	defer stopA()
	nextB, stopB := iter.Pull2(runs(fileB, size))
	defer stopB()
	a, errA, okA := nextA()
	b, errB, okB := nextB()
	for done := int64(0); okA || okB; {
		if err := errors.Join(errA, errB); err != nil {
			return false, err
		}
		var next run
		if !okB || okA && a.start <= b.start {
			next = a
			a, errA, okA = nextA()
		} else {
			next = b
			b, errB, okB = nextB()
		}
		same, err := r.equal(fileA, fileB, run{max(done, next.start), next.end})
		if err != nil || !same {
			return false, err
		}
		done = max(done, next.end)
	}
	return true, nil
}

// equal compares a run of both files.
func (r *reader) equal(a, b io.ReaderAt, in run) (bool, error) {
	for at := in.start; at < in.end; {
		if err := r.ctx.Err(); err != nil {
			return false, err
		}
		n := int(min(chunk, in.end-at))
		for _, side := range []struct {
			file io.ReaderAt
			into []byte
		}{{a, r.a[:n]}, {b, r.b[:n]}} {
			if got, err := side.file.ReadAt(side.into, at); got < n {
				return false, errors.Join(err, io.ErrUnexpectedEOF)
			}
		}
		if !bytes.Equal(r.a[:n], r.b[:n]) {
			return false, nil
		}
		at += int64(n)
	}
	return true, nil
}
