package cli

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"herdbook/internal/disk"
	"herdbook/internal/inspection"
	"herdbook/internal/volume"
	"herdbook/internal/workpiece"
)

// pieceFlags are those of every command that takes a disk image by its path.
type pieceFlags struct {
	format    string
	backing   bool
	selectors []string // of keys
	lookupEnv func(string) (string, bool)
}

func (f *pieceFlags) add(a *app, c *cobra.Command) {
	f.lookupEnv = a.LookupEnv
	c.Flags().StringArrayVar(&f.selectors, "key", nil, keyUsage)
	c.Flags().StringVar(&f.format, "format", "", "format of the image: raw, qcow2, vmdk, vhdx or vdi (default: what its first bytes prove)")
	c.Flags().BoolVar(&f.backing, "backing-files", false, "let a qcow2 image stand on other files, which it names: only for images of your own")
}

// find finds the image out.
func (f *pieceFlags) find(path string) (workpiece.Piece, error) {
	switch disk.Format(f.format) {
	case "", disk.Raw, disk.QCOW2, disk.VMDK, disk.VHDX, disk.VDI:
		return workpiece.Find(path, workpiece.Options{Format: disk.Format(f.format), Backing: f.backing})
	}
	return workpiece.Piece{}, usageError{fmt.Sprintf("--format=%s: want raw, qcow2, vmdk, vhdx or vdi", f.format)}
}

// look opens an image and calls fn with the system on it. It starts no machine.
func (f *pieceFlags) look(path string, fn func(*inspection.System) error) (err error) {
	piece, err := f.find(path)
	if err != nil {
		return err
	}
	r, err := piece.Read()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	system, err := f.system(r.Image)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return fn(system)
}

// system finds the system on a disk.
func (f *pieceFlags) system(image *disk.Image) (*inspection.System, error) {
	keys, err := f.readKeys()
	if err != nil {
		return nil, err
	}
	return inspection.Disk(image, image.Size(), keys...)
}

// readKeys gets the keys that were asked for.
func (f *pieceFlags) readKeys() ([]volume.Key, error) { return readKeys(f.selectors, f.lookupEnv) }

// inGuest is a path of a guest as package filesystem wants it.
func inGuest(name string) (string, error) {
	if !strings.HasPrefix(name, "/") {
		return "", usageError{fmt.Sprintf("%q is no path in a guest: those begin with /", name)}
	}
	if name = strings.TrimPrefix(path.Clean(name), "/"); name == "" {
		return ".", nil
	}
	return name, nil
}
