package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"herdbook/internal/install"
	"herdbook/internal/iso"
	"herdbook/internal/tree"
)

// origin is what an installer starts from, as files of the host.
type origin struct {
	kernel, initrd string
	disc, volume   string // the disc in the drive and its name; "" if there is none
}

// bootFiles takes the kernel and the initrd of an installer off its disc, into dir.
func bootFiles(disc, kind, dir string) (o origin, err error) {
	file, err := os.Open(disc)
	if err != nil {
		return o, fmt.Errorf("open disc: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	stat, err := file.Stat()
	if err != nil {
		return o, fmt.Errorf("open disc: %w", err)
	}
	d, err := iso.Open(file, stat.Size())
	if err != nil {
		return o, fmt.Errorf("%s: %w; is it the ISO image of an installer?", disc, err)
	}
	t, err := tree.Find(tree.For(kind), disc, discFiles{d})
	if err = errors.Join(err, t.Runs()); err != nil {
		return o, fmt.Errorf("find the installer on %s: %w", disc, err)
	}
	o = origin{kernel: filepath.Join(dir, "kernel"), initrd: filepath.Join(dir, "initrd"), disc: disc, volume: d.Volume()}
	return o, errors.Join(copyOut(d, t.Kernel.Path, o.kernel), copyOut(d, t.Initrd.Path, o.initrd))
}

// maxBoot bounds a kernel or an initrd, in bytes.
const maxBoot = 1 << 30

// copyOut copies a file of a disc to a file of the host.
func copyOut(d fs.FS, name, path string) (err error) {
	from, err := d.Open(name)
	if err != nil {
		return fmt.Errorf("take %s off the disc: %w", name, err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("take %s off the disc: %w", name, err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	n, err := io.Copy(to, io.LimitReader(from, maxBoot+1))
	if err == nil && n > maxBoot {
		err = fmt.Errorf("it has more than %d bytes", maxBoot)
	}
	if err != nil {
		return fmt.Errorf("take %s off the disc: %w", name, err)
	}
	return nil
}

// discFiles looks into a tree on a disc.
type discFiles struct{ fs.FS }

// Read implements tree.Files.
func (d discFiles) Read(name string, limit int64) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("read %s: it has more than %d bytes", name, limit)
	}
	return data, err
}

// Exists implements tree.Files.
func (d discFiles) Exists(name string) (bool, error) {
	_, err := fs.Stat(d.FS, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// writeSeed writes the disc by which cloud-init gets its data. Only its owner may
// read it: there may be a password among the answers.
func writeSeed(path string, files []install.File) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the seed: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var list []iso.File
	for _, file := range files {
		list = append(list, iso.File{Name: file.Path, Data: file.Data})
	}
	if err := iso.Write(f, install.SeedVolume, list); err != nil {
		return fmt.Errorf("write the seed: %w", err)
	}
	return nil
}
