package bucket

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func (d dir) Put(ctx context.Context, name string, content Content, condition Condition) (Object, error) {
	o, err := d.put(ctx, name, content, condition)
	if err != nil {
		return Object{}, fmt.Errorf("put %.80s into %s: %w", name, d.path, d.explain(err))
	}
	return o, nil
}

func (d dir) put(ctx context.Context, name string, content Content, condition Condition) (o Object, err error) {
	if err := errors.Join(CheckName(name), condition.check(), ctx.Err()); err != nil {
		return o, err
	}
	root, err := openToWrite(d.path)
	if err != nil {
		return o, err
	}
	defer root.Close()
	// It counts below the lock only, but the work may be spared.
	if err := d.holds(root, name, condition); err != nil {
		return o, err
	}
	if err := sweep(root); err != nil {
		return o, err
	}
	f, tmp, err := createLocked(root)
	if err != nil {
		return o, err
	}
	renamed := false
	defer func() {
		if !renamed {
			err = errors.Join(err, root.Remove(tmp))
		}
		err = errors.Join(err, f.Close())
	}()
	if err := errors.Join(copyWhole(ctx, f, content), f.Chmod(0o644)); err != nil {
		return o, err
	}
	if err := f.Sync(); err != nil {
		return o, err
	}
	lock, err := lockRoot(ctx, root)
	if err != nil {
		return o, err
	}
	defer lock.Close()
	if err := errors.Join(d.holds(root, name, condition), ctx.Err()); err != nil {
		return o, err
	}
	if err := errors.Join(stamp(root, tmp, f, lock), makeDirs(root, path.Dir(name))); err != nil {
		return o, err
	}
	if err := root.Rename(tmp, name); err != nil {
		return o, err
	}
	renamed = true
	info, err := f.Stat()
	if err != nil {
		return o, err
	}
	return object(name, info), syncDir(root, path.Dir(name))
}

// holds is ErrChanged unless a condition holds.
func (d dir) holds(root *os.Root, name string, condition Condition) error {
	if condition == (Condition{}) {
		return nil
	}
	o, err := d.stat(root, name)
	there := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if condition.Absent && there || condition.Version != "" && (!there || condition.Version != o.Version) {
		return ErrChanged
	}
	return nil
}

// openToWrite opens a directory, which it makes if need be, with one for what is
// not whole yet.
func openToWrite(path string) (*os.Root, error) {
	if err := makeRoot(filepath.Clean(path)); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	if err := makeDirs(root, tmpDir); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

// makeRoot makes a directory and those on the way to it, and has them stay. Servers
// must get at what is in them.
func makeRoot(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	above := filepath.Dir(path)
	if err := makeRoot(above); err != nil {
		return err
	}
	err := os.Mkdir(path, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was faster
	}
	if err != nil {
		return err
	}
	f, err := os.Open(above)
	if err != nil {
		return err
	}
	return errors.Join(os.Chmod(path, 0o755), f.Sync(), f.Close())
}

// makeDirs does the same below a root.
func makeDirs(root *os.Root, name string) error {
	if info, err := root.Stat(name); err == nil && info.IsDir() {
		return nil
	}
	if above := path.Dir(name); above != "." {
		if err := makeDirs(root, above); err != nil {
			return err
		}
	}
	err := root.Mkdir(name, 0o755)
	if errors.Is(err, fs.ErrExist) {
		// Another process was faster; what is no directory shows below it.
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(root.Chmod(name, 0o755), syncDir(root, path.Dir(name)))
}

func syncDir(root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// lockRoot waits for the lock of all who change objects. To close it frees it.
func lockRoot(ctx context.Context, root *os.Root) (*os.File, error) {
	f, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	locked := make(chan error, 1)
	// Nobody can call off a wait in the kernel, but one can go without it.
	go func() { locked <- flock(f, unix.LOCK_EX) }()
	select {
	case err := <-locked:
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", lockName, err), f.Close())
		}
		return f, nil
	case <-ctx.Done():
		go func() {
			<-locked
			_ = f.Close() // it was only waited for
		}()
		return nil, fmt.Errorf("wait for another herdbook that writes there: %w", ctx.Err())
	}
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// createLocked makes a file for what is put, and locks it.
func createLocked(root *os.Root) (*os.File, string, error) {
	for {
		name := putName + rand.Text()
		f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return nil, "", err
		}
		err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			if _, err = root.Lstat(name); err == nil {
				return f, name, nil
			}
		}
		// Another process, which sweeps, saw it before it was locked.
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, fs.ErrNotExist) {
			return nil, "", errors.Join(err, root.Remove(name), f.Close())
		}
		if err := f.Close(); err != nil {
			return nil, "", err
		}
	}
}

// sweep removes what processes left that died while they put something.
func sweep(root *os.Root) error {
	entries, err := fs.ReadDir(root.FS(), tmpDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(tmpDir, e.Name())
		if !strings.HasPrefix(name, putName) || !e.Type().IsRegular() {
			continue
		}
		f, err := root.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if flock(f, unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = root.Remove(name)
		}
		if err := f.Close(); err != nil {
			return err
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// copyWhole writes content from its start to its end.
func copyWhole(ctx context.Context, f *os.File, content Content) error {
	buffer := make([]byte, 1<<20)
	for at := int64(0); at < content.Size(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buffer[:min(int64(len(buffer)), content.Size()-at)]
		n, err := content.ReadAt(p, at)
		if n < len(p) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read what is put: %w", err)
		}
		if _, err := f.Write(p); err != nil {
			return err
		}
		at += int64(n)
	}
	return ctx.Err()
}

// stamp gives a file a time that no file of the directory has had, since versions
// are made of it: the clock may stand still for some milliseconds, or go back. The
// last one is the time of the lock.
func stamp(root *os.Root, name string, f, lock *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	last, err := lock.Stat()
	if err != nil {
		return err
	}
	now := info.ModTime()
	if !now.After(last.ModTime()) {
		now = last.ModTime().Add(time.Nanosecond)
	}
	return errors.Join(root.Chtimes(lockName, now, now), root.Chtimes(name, now, now))
}
