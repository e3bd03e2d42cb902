package docker

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"herdbook/internal/filesystem"
	"herdbook/internal/inspection"
)

// emptied are directories whose content is the host's or the moment's: they
// stay, empty.
var emptied = []string{"boot", "dev", "proc", "run", "sys", "tmp"}

// leftOut are files and trees that only a machine needs.
var leftOut = []string{
	"lost+found", "vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old",
	"lib/modules", "usr/lib/modules", "lib/firmware", "usr/lib/firmware",
	"usr/lib/grub", "etc/default/grub", "etc/default/grub.d", "etc/grub.d",
	"etc/fstab", "etc/machine-id", "var/lib/dbus/machine-id", "swapfile",
}

// writeTar writes a system's file systems, each in its place, as a container's
// root.
func writeTar(ctx context.Context, w io.Writer, mounts []inspection.Mounted) error {
	buffered := bufio.NewWriterSize(w, 1<<20)
	t := tarWriter{tar: tar.NewWriter(buffered), buffer: make([]byte, 1<<20)}
	var err error
	for _, m := range mounts {
		if !slices.Contains(emptied, strings.Split(m.Dir, "/")[0]) {
			err = errors.Join(err, t.fileSystem(ctx, m))
		}
	}
	return errors.Join(err, t.tar.Close(), buffered.Flush())
}

// fileSystem adds one.
func (t *tarWriter) fileSystem(ctx context.Context, m inspection.Mounted) error {
	t.first = map[uint64]string{}
	return m.FS.Walk(func(name string, e *filesystem.Entry) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if name == "." {
			return nil
		}
		name = path.Join(m.Dir, name)
		if slices.Contains(leftOut, name) {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err := t.add(name, e); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if slices.Contains(emptied, name) && e.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
}

type tarWriter struct {
	tar    *tar.Writer
	first  map[uint64]string // inode of the file system → the name that it was written under
	buffer []byte
}

// add writes one entry. Device nodes are the container's own, and sockets are
// nothing without who listens.
func (t *tarWriter) add(name string, e *filesystem.Entry) error {
	stat, err := e.Stat()
	if err != nil {
		return err
	}
	h := &tar.Header{
		Name: name, Mode: int64(stat.Mode & 0o7777), Uid: int(stat.UID), Gid: int(stat.GID),
		ModTime: stat.Mtime, Format: tar.FormatPAX,
	}
	if h.PAXRecords, err = records(e); err != nil {
		return err
	}
	mode := stat.FileMode()
	switch {
	case mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case mode&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = e.ReadLink(); err != nil {
			return err
		}
	case mode&fs.ModeNamedPipe != 0:
		h.Typeflag = tar.TypeFifo
	case !mode.IsRegular():
		return nil
	case t.first[stat.Ino] != "":
		h.Typeflag, h.Linkname, h.PAXRecords = tar.TypeLink, t.first[stat.Ino], nil
	default:
		h.Typeflag, h.Size = tar.TypeReg, stat.Size
		if stat.Nlink > 1 {
			t.first[stat.Ino] = name
		}
	}
	if err := t.tar.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	return t.content(e, stat.Size)
}

func (t *tarWriter) content(e *filesystem.Entry, size int64) error {
	if size == 0 {
		return nil
	}
	f, err := e.Open()
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{t.tar}, struct{ io.Reader }{f}, t.buffer)
	return errors.Join(err, f.Close())
}

// records are the extended attributes. Labels of the host's security modules
// are the container runtime's to give.
func records(e *filesystem.Entry) (map[string]string, error) {
	attrs, err := e.Xattrs()
	if err != nil || len(attrs) == 0 {
		return nil, err
	}
	pax := map[string]string{}
	for name, value := range attrs {
		if name == "security.selinux" || name == "security.ima" || name == "security.evm" || strings.HasPrefix(name, "trusted.") {
			continue
		}
		pax["SCHILY.xattr."+name] = string(value)
	}
	return pax, nil
}
