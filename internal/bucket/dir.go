package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// What is not whole yet, and the lock of a directory's writers.
const (
	tmpDir   = ".tmp"
	lockName = tmpDir + "/lock"
	putName  = tmpDir + "/put-"
)

// dir is a bucket whose objects are plain files, which any web server can serve.
//
// An object is written to .tmp/put-*, which its writer keeps locked, synced, and
// renamed under the lock of .tmp/lock, so that no condition changes between its
// check and the rename; then its directory is synced. The kernel frees both locks of
// a process that dies: the next Put removes what is in .tmp without one.
type dir struct{ path string }

// Dir is a bucket in a directory, which the first Put makes. Its objects are the
// regular files whose path has no element that begins with a dot; links are none,
// and lead nowhere out of it.
func Dir(path string) Bucket { return dir{path} }

func (d dir) Open(ctx context.Context, name string) (io.ReadCloser, Object, error) {
	f, o, err := d.open(ctx, name)
	if err != nil {
		return nil, o, fmt.Errorf("open %.80s in %s: %w", name, d.path, d.explain(err))
	}
	return f, o, nil
}

func (d dir) open(ctx context.Context, name string) (*os.File, Object, error) {
	if err := errors.Join(CheckName(name), ctx.Err()); err != nil {
		return nil, Object{}, err
	}
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return nil, Object{}, err
	}
	defer root.Close()
	// A link may lead to another object and a pipe nowhere, but it is none itself.
	if _, err := d.stat(root, name); err != nil {
		return nil, Object{}, err
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, Object{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, Object{}, errors.Join(err, f.Close())
	}
	return f, object(name, info), nil
}

// stat tells of an object; fs.ErrNotExist if there is none.
func (d dir) stat(root *os.Root, name string) (Object, error) {
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, syscall.ENOTDIR): // something else is where a directory would be
		return Object{}, fs.ErrNotExist
	case err != nil:
		return Object{}, err
	case !info.Mode().IsRegular():
		return Object{}, fs.ErrNotExist
	}
	return object(name, info), nil
}

// object has the time of a file for its version, which stamp makes another for every
// Put; the number and the size tell of those who put files there by other means.
func object(name string, info fs.FileInfo) Object {
	inode := uint64(0)
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = stat.Ino
	}
	version := fmt.Sprintf("%x-%x-%x", info.ModTime().UnixNano(), inode, info.Size())
	return Object{Name: name, Size: info.Size(), Version: version, Modified: info.ModTime()}
}

func (d dir) List(ctx context.Context, prefix string) ([]Object, error) {
	list, err := d.list(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", d.path, d.explain(err))
	}
	return list, nil
}

func (d dir) list(ctx context.Context, prefix string) ([]Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !mayBegin(prefix) {
		return nil, nil
	}
	root, err := os.OpenRoot(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the first Put makes it
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var list []Object
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // it was removed meanwhile
			return nil
		case err != nil || ctx.Err() != nil:
			return errors.Join(err, ctx.Err())
		case name == ".":
			return nil
		case CheckName(name) != nil, e.IsDir() && !strings.HasPrefix(name+"/", prefix) && !strings.HasPrefix(prefix, name+"/"):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case !e.Type().IsRegular() || !strings.HasPrefix(name, prefix):
			return nil
		}
		info, err := e.Info()
		if err == nil {
			list = append(list, object(name, info))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	// Walking goes by the names of directories, among which "a-b" is after "a".
	slices.SortFunc(list, func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

func (d dir) Remove(ctx context.Context, name string) error {
	if err := d.remove(ctx, name); err != nil {
		return fmt.Errorf("remove %.80s from %s: %w", name, d.path, d.explain(err))
	}
	return nil
}

func (d dir) remove(ctx context.Context, name string) error {
	if err := errors.Join(CheckName(name), ctx.Err()); err != nil {
		return err
	}
	root, err := os.OpenRoot(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	if _, err := d.stat(root, name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := makeDirs(root, tmpDir); err != nil {
		return err
	}
	lock, err := lockRoot(ctx, root)
	if err != nil {
		return err
	}
	defer lock.Close()
	// Another process may have removed it, or made a directory of it, meanwhile.
	if _, err := d.stat(root, name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := root.Remove(name); err != nil {
		return err
	}
	// Directories are no objects: they go with the last one in them.
	parent := path.Dir(name)
	for parent != "." && root.Remove(parent) == nil {
		parent = path.Dir(parent)
	}
	return syncDir(root, parent)
}

// explain adds to an error what can be done about it.
func (d dir) explain(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: the disk of %s is full; what was there before still is", err, d.path)
	case errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: this user may not do that in %s", err, d.path)
	case errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EEXIST):
		return fmt.Errorf("%w: a file cannot be where a directory of others is", err)
	}
	return err
}
