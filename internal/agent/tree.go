package agent

import (
	"io/fs"

	"herdbook/internal/guest"
)

// tree is a mounted guest as an fs.FS: links are followed inside its root, and what
// is neither a file nor a directory does not open.
type tree struct{ root *guest.Root }

// Open implements fs.FS.
func (t tree) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	f, err := t.root.Open("/" + name)
	if err != nil {
		return nil, err // not f: an interface of a nil file is not nil
	}
	return f, nil
}
