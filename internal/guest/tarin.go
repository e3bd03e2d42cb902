package guest

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"herdbook/internal/op"
)

// tarIn lays the content of an archive into a directory.
func (g *Guest) tarIn(o *op.TarIn) error {
	if st, err := g.Root.Stat(o.Destination); err != nil || !isDir(st) {
		return fmt.Errorf("unpack into %s: the guest has no such directory; make it with mkdir", o.Destination)
	}
	archive, err := g.payload(o.Payload)
	if err == nil {
		err = g.unpack(archive, o.Destination)
	}
	if err != nil {
		return fmt.Errorf("unpack into %s: %w", o.Destination, err)
	}
	return nil
}

// payload finds a single file on the disk of files.
func (g *Guest) payload(name string) (io.Reader, error) {
	if g.Files == nil {
		return nil, errors.New("no disk with files came with the job")
	}
	for r := tar.NewReader(io.NewSectionReader(g.Files, 0, g.FilesSize)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the archive is not on the disk that came with the job")
		}
		if err != nil {
			return nil, fmt.Errorf("read the files: %w", err)
		}
		if path.Clean(h.Name) != name {
			continue
		}
		if h.Typeflag != tar.TypeReg {
			return nil, errors.New("the archive is no regular file")
		}
		return r, nil
	}
}

// plain takes a compression off that the Go library knows.
func plain(archive io.Reader) (io.Reader, error) {
	b := bufio.NewReader(archive)
	head, err := b.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(b)
	case bytes.HasPrefix(head, []byte("BZh")):
		return bzip2.NewReader(b), nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ")):
		return nil, errors.New("it is compressed with xz: take that off first")
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return nil, errors.New("it is compressed with zstd: take that off first")
	}
	return b, nil
}

// directoryTimes are set last, as what is laid into a directory changes them.
type directoryTime struct {
	name string
	h    *tar.Header
}

func (g *Guest) unpack(archive io.Reader, top string) error {
	text, err := plain(archive)
	if err != nil {
		return err
	}
	var directories []directoryTime
	for r := tar.NewReader(text); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if slices.Contains(strings.Split(h.Name, "/"), "..") {
			return fmt.Errorf("%q climbs with .. out of the archive", h.Name)
		}
		name := path.Join(top, h.Name)
		made, err := g.member(name, top, h, r)
		if err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		if made && h.Typeflag == tar.TypeDir {
			directories = append(directories, directoryTime{name, h})
		}
	}
	for _, d := range slices.Backward(directories) {
		if err := g.Root.setTimes(d.name, d.h); err != nil {
			return err
		}
	}
	return nil
}

// member makes one member of an archive with its numbers of owner and group. A
// directory that is there keeps its mode and owner.
func (g *Guest) member(name, top string, h *tar.Header, r io.Reader) (made bool, err error) {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return false, nil
	}
	if st, err := g.Root.Stat(name); err == nil && isDir(st) && h.Typeflag == tar.TypeDir {
		return false, nil
	}
	if err := g.Root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return false, err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		err := g.Root.place(name, r, func(f *os.File) error {
			if err := f.Chown(h.Uid, h.Gid); err != nil {
				return err
			}
			if err := setAttributes(descriptor(int(f.Fd())), h); err != nil {
				return err
			}
			return unix.Fchmod(int(f.Fd()), uint32(h.Mode)&0o7777)
		})
		if err != nil {
			return false, err
		}
		return true, g.Root.setTimes(name, h)
	case tar.TypeLink:
		if slices.Contains(strings.Split(h.Linkname, "/"), "..") {
			return false, fmt.Errorf("its link to %q climbs with .. out of the archive", h.Linkname)
		}
		return true, g.Root.link(path.Join(top, h.Linkname), name)
	case tar.TypeDir:
		if err := g.Root.MkdirAll(name, 0o700); err != nil {
			return false, err
		}
	case tar.TypeSymlink:
		if err := g.Root.Symlink(h.Linkname, name); err != nil {
			return false, err
		}
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		kinds := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}
		if err := g.Root.make(name, "", kinds[h.Typeflag], unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))); err != nil {
			return false, err
		}
	default:
		return false, fmt.Errorf("a member of kind %q cannot be unpacked", h.Typeflag)
	}
	return true, g.Root.setHeader(name, h)
}

// setHeader sets what a header says of anything that is no regular file.
func (r *Root) setHeader(name string, h *tar.Header) error {
	err := r.at("unpack", name, func(dir int, base string) error {
		if err := unix.Fchownat(dir, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if err := setAttributes(path.Join(descriptor(dir), base), h); err != nil || h.Typeflag == tar.TypeSymlink {
			return err
		}
		return unix.Fchmodat(dir, base, uint32(h.Mode)&0o7777, 0)
	})
	if err != nil || h.Typeflag == tar.TypeDir {
		return err
	}
	return r.setTimes(name, h)
}

// setTimes sets the times of name itself.
func (r *Root) setTimes(name string, h *tar.Header) error {
	return r.at("set the times of", name, func(dir int, base string) error {
		at := unix.NsecToTimespec(h.ModTime.UnixNano())
		return unix.UtimesNanoAt(dir, base, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// attributePrefix is before the name of an extended attribute in a PAX record, as
// star, GNU tar and libarchive write it.
const attributePrefix = "SCHILY.xattr."

func setAttributes(file string, h *tar.Header) error {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, attributePrefix)
		if !ok {
			continue
		}
		set := unix.Setxattr
		if h.Typeflag == tar.TypeSymlink {
			set = unix.Lsetxattr
		}
		if err := set(file, name, []byte(value), 0); err != nil {
			return fmt.Errorf("set extended attribute %s: %w", name, err)
		}
	}
	return nil
}
