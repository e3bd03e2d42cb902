package filesystem

import "errors"

// Idler is a reader that knows which bytes of its file system mean nothing.
type Idler interface {
	// IdleRanges calls fn for every run of bytes that may be zeroed without any
	// loss, in no order: what is free, and what was journalled and written back.
	// A file system that was not unmounted cleanly is an error.
	IdleRanges(fn func(start, length int64) error) error
}

// ErrDirty is wrapped by the errors that say that a file system was not unmounted
// cleanly, so that its journal is to be written back first.
var ErrDirty = errors.New("the file system was not unmounted cleanly")

// ErrNotKnown says that the reader of a file system does not know what is idle.
var ErrNotKnown = errors.New("what of the file system is idle is not known")

// IdleRanges implements Idler with the driver, or returns ErrNotKnown.
func (f *FS) IdleRanges(fn func(start, length int64) error) error {
	if idler, ok := f.driver.(Idler); ok {
		return idler.IdleRanges(fn)
	}
	return ErrNotKnown
}

// Between calls fn for what lies between the ranges that each reports, in order
// and without overlap, within size bytes.
func Between(size int64, each func(fn func(start, length int64) error) error, fn func(start, length int64) error) error {
	end := int64(0)
	err := each(func(start, length int64) error {
		from := end
		end = start + length
		if start > from {
			return fn(from, start-from)
		}
		return nil
	})
	if err != nil || end >= size {
		return err
	}
	return fn(end, size-end)
}
