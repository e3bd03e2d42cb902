// Package bucket keeps the objects of a repository: named bytes, each whole or not
// there, in a directory, in a bucket of S3's kind, or behind herdbook's own server.
// What the objects mean is left to others.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

// Bucket is a place for objects. Its methods may be called side by side, and by
// several processes. An object that is not there gives an error that wraps
// fs.ErrNotExist; a name that CheckName refuses is an error, another one. A context
// that has ended ends a method with its error, before anything is changed or as if
// nothing had been. In some buckets a name that others go on from, as "a" of "a/b",
// cannot be an object beside them: Put says so.
type Bucket interface {
	// Open opens an object to be read from its start. The caller closes it. It goes
	// on to give the same bytes when the object is replaced or removed meanwhile, or
	// an error that wraps ErrChanged, but never a mixture.
	Open(ctx context.Context, name string) (io.ReadCloser, Object, error)
	// Put writes an object, in place of the one that is there, if the condition
	// holds; otherwise the error wraps ErrChanged. A reader, and a later process
	// after a crash at any moment, has the old object or the new one. When it
	// returns, the new one is on stable storage. Over a network an answer may get
	// lost, and another Put come before it is found out that this one was made: then
	// it says ErrChanged, too. So who puts again looks first what is there.
	Put(ctx context.Context, name string, content Content, condition Condition) (Object, error)
	// List returns the objects whose names begin with prefix, in byte order of the
	// names; none where no name can begin so. What is put or removed meanwhile may
	// be listed or not; what stays is.
	List(ctx context.Context, prefix string) ([]Object, error)
	// Remove removes an object; one that is not there is removed already.
	Remove(ctx context.Context, name string) error
}

// Object is what is known of an object without reading it.
type Object struct {
	Name     string
	Size     int64     // bytes
	Version  string    // changes whenever the content may have changed
	Modified time.Time // by the bucket's clock; zero where a Put does not learn it
}

// Content is what is put: a *bytes.Reader, a *strings.Reader, an *io.SectionReader
// of a file. It may be read more than once.
type Content interface {
	io.ReaderAt
	Size() int64
}

// Condition is when a Put may be made. The zero value is always.
type Condition struct {
	Absent  bool   // only if no such object is there
	Version string // only if the object is there in this version; "" does not say
}

// check refuses a condition that never holds.
func (c Condition) check() error {
	if c.Absent && c.Version != "" {
		return fmt.Errorf("a condition of version %.80q and of no version at once never holds", c.Version)
	}
	return nil
}

// ErrChanged is wrapped by the error of a Put whose condition does not hold, and of
// reading what cannot be read to its end because of another Put.
var ErrChanged = errors.New("somebody else has changed it meanwhile")

// ErrNoList is wrapped by the error of a List that only those may have who write.
var ErrNoList = errors.New("objects are listed for those who upload only")

// The length of a name in bytes, after S3, and of one of its elements, after the
// file systems.
const (
	maxName    = 1024
	maxElement = 255
)

// CheckName refuses what cannot be the name of an object: what is no relative path
// in its shortest form, and what has an element that begins with a dot, which a
// directory keeps for what is not whole yet, or characters below the space, or is too
// long for some place.
func CheckName(name string) error {
	switch {
	case len(name) > maxName:
		return fmt.Errorf("name of an object: %d bytes, more than the %d it may have", len(name), maxName)
	case !fs.ValidPath(name) || strings.HasPrefix(name, ".") || strings.Contains(name, "/."):
		return fmt.Errorf("name of an object: %.80q does not stay below the repository", name)
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }):
		return fmt.Errorf("name of an object: %.80q has characters that no name may have", name)
	}
	for element := range strings.SplitSeq(name, "/") {
		if len(element) > maxElement {
			return fmt.Errorf("name of an object: %.80q has %d bytes between slashes, more than the %d it may have", name, len(element), maxElement)
		}
	}
	return nil
}

// mayBegin tells whether a name can begin with a prefix.
func mayBegin(prefix string) bool {
	return prefix == "" || CheckName(prefix) == nil || CheckName(prefix+"x") == nil
}
