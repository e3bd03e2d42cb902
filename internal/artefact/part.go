package artefact

import (
	"context"
	"errors"
	"io"
	"os"
)

// Part returns a file that artefacts of the image have in common: store.Store.Part.
func (i *Image) Part(ctx context.Context, name string, fill func(path string) error) (string, error) {
	return i.Store.Part(ctx, i.Layer, name, fill)
}

// Place puts a part where an artefact has it: as a link, where file systems allow.
func Place(part, path string) (err error) {
	if os.Link(part, path) == nil {
		return nil
	}
	in, err := os.Open(part)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
