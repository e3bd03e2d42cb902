package guest

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"herdbook/internal/op"
)

// copy lays the files of its payload into the guest. A payload that is a single
// file has the name of the payload itself.
func (g *Guest) copy(o *op.Copy) error {
	if g.Files == nil {
		return errors.New("no disk with files came with the job")
	}
	uid, gid, err := g.ids(o.Owner, o.Group)
	if err != nil {
		return fmt.Errorf("copy to %s: %w", o.Destination, err)
	}
	found := false
	for r := tar.NewReader(io.NewSectionReader(g.Files, 0, g.FilesSize)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("copy to %s: read the files: %w", o.Destination, err)
		}
		name := path.Clean(h.Name)
		rest, inside := strings.CutPrefix(name, o.Payload+"/")
		if name == o.Payload {
			rest, inside = "", true
		}
		if !inside {
			continue
		}
		found = true
		if rest == "" && o.Name != "" && h.Typeflag != tar.TypeDir {
			if st, err := g.Root.Stat(o.Destination); err == nil && isDir(st) {
				rest = o.Name
			}
		}
		if err := g.lay(path.Join(o.Destination, rest), h, r, Attributes{uint32(h.Mode) & 0o7777, uid, gid}); err != nil {
			return fmt.Errorf("copy to %s: %w", o.Destination, err)
		}
	}
	if !found {
		return fmt.Errorf("copy to %s: its files are not on the disk that came with the job", o.Destination)
	}
	return nil
}

// lay makes one file, directory or link.
func (g *Guest) lay(name string, h *tar.Header, r io.Reader, a Attributes) error {
	// Parents that the guest lacks are nobody's: not of the tree's mode and owner.
	if err := g.Root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if st, err := g.Root.Stat(name); err == nil && isDir(st) {
			return nil // its mode and owner are the guest's
		}
		if err := g.Root.MkdirAll(name, a.Mode); err != nil {
			return err
		}
		return g.Root.Chown(name, a.UID, a.GID)
	case tar.TypeSymlink:
		if err := g.Root.Symlink(h.Linkname, name); err != nil {
			return err
		}
		return g.Root.Chown(name, a.UID, a.GID)
	case tar.TypeReg:
		return g.Root.WriteFrom(name, r, a)
	}
	return fmt.Errorf("%s: a file of kind %q cannot be copied", name, h.Typeflag)
}
