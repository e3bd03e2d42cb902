package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"

	"herdbook/internal/bucket"
	"herdbook/internal/repo"
	"herdbook/internal/repo/doors"
	"herdbook/internal/repo/streams"
	"herdbook/internal/signed"
)

// openDoors writes all that is derived from an index, and again if the index is
// another one by then: so the last one who writes leaves what belongs to the newest.
func (r Repository) openDoors(ctx context.Context, s state) error {
	for range maxAttempts {
		if err := r.writeDoors(ctx, s.index); err != nil {
			return fmt.Errorf("the index is published, but not all that is derived from it: %w; run the command again", err)
		}
		newest, err := r.load(ctx)
		if errors.Is(err, bucket.ErrChanged) { // while it was read
			continue
		}
		if err != nil || newest.version == s.version {
			return err
		}
		s = newest
	}
	return errBusy
}

func (r Repository) writeDoors(ctx context.Context, x repo.Index) error {
	files, err := doors.Files(x)
	if err != nil {
		return err
	}
	if r.Signer != nil {
		if err := r.putKey(ctx); err != nil {
			return err
		}
		files = append(files, doors.File{Name: repo.IndexName, Text: repo.Format(x)})
	}
	wanted := map[string]bool{}
	for _, f := range files {
		if f.Sign && r.Signer == nil {
			continue
		}
		wanted[f.Name] = true
		put := r.putChanged
		if f.Sign {
			put = r.putSigned
		}
		if err := put(ctx, f.Name, f.Text); err != nil {
			return err
		}
	}
	return r.closeDoors(ctx, wanted)
}

// putSigned writes a text clear-signed, unless it is there already, signed.
func (r Repository) putSigned(ctx context.Context, name string, text []byte) error {
	message, _, err := r.read(ctx, name)
	if err == nil {
		there, err := signed.VerifySole(message, r.Signer.Keys(), r.Now)
		if err == nil && bytes.Equal(there, text) {
			return nil
		}
	}
	if message, err = r.Signer.Sign(text, r.Now); err != nil {
		return err
	}
	_, err = r.Bucket.Put(ctx, name, bytes.NewReader(message), bucket.Condition{})
	return err
}

// closeDoors removes those of images that are gone.
func (r Repository) closeDoors(ctx context.Context, wanted map[string]bool) error {
	for _, prefix := range []string{doors.VagrantDir + "/", path.Dir(streams.IndexName) + "/", doors.MenuName} {
		objects, err := r.Bucket.List(ctx, prefix)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if wanted[o.Name] || !doors.Is(o.Name) {
				continue
			}
			if err := r.Bucket.Remove(ctx, o.Name); err != nil {
				return err
			}
		}
	}
	return nil
}
