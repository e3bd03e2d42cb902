package artefact

import (
	"context"
	"io"
	"os"

	"herdbook/internal/disk"
)

// Part returns a file that artefacts of the image have in common: store.Store.Part.
func (i *Image) Part(ctx context.Context, name string, fill func(path string) error) (string, error) {
	return i.Store.Part(ctx, i.Layer, name, fill)
}

// Place puts a part where an artefact has it: as a link, where file systems allow, else as
// a copy with the same holes.
func Place(part, path string) error {
	if os.Link(part, path) == nil {
		return nil
	}
	return disk.Clone(part, path)
}

// within is a reader that ends with a context.
type within struct {
	ctx context.Context
	io.Reader
}

// Within is a reader of what r has until ctx is done.
func Within(ctx context.Context, r io.Reader) io.Reader { return within{ctx, r} }

// Read implements io.Reader.
func (w within) Read(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	return w.Reader.Read(p)
}
