package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxAttributes bounds the names of one file's extended attributes, and the value
// of one, in bytes: what the kernel allows.
const maxAttributes = 64 << 10

// Rewrite gives a regular file another content, whole or not at all. It keeps its
// mode, its owner and its extended attributes, SELinux's label among them. A link
// is followed to the file that it means.
func (r *Root) Rewrite(name string, content []byte) error {
	name = r.target(name)
	old, err := r.Open(name)
	if err != nil {
		return err
	}
	defer old.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(old.Fd()), &st); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if !isFile(st) {
		return fmt.Errorf("write %s: %w", name, errSpecial)
	}
	return r.place(name, strings.NewReader(string(content)), func(f *os.File) error {
		return takeOver(int(f.Fd()), int(old.Fd()), st)
	})
}

// takeOver gives an open file or directory the owner, the extended attributes
// and the mode of another.
func takeOver(to, from int, st unix.Stat_t) error {
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	// After the owner, whose change takes file capabilities away.
	if err := copyAttributes(descriptor(to), descriptor(from)); err != nil {
		return err
	}
	return unix.Fchmod(to, st.Mode&0o7777)
}

// descriptor is a path to what a file descriptor is open on. The kernel resolves
// it by the descriptor alone.
func descriptor(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// copyAttributes gives a file the extended attributes of another. Both are paths
// whose last part may be a link of /proc/self/fd only.
func copyAttributes(to, from string) error {
	return eachAttribute(from, unix.Listxattr, unix.Getxattr, func(name string, value []byte) error {
		return unix.Setxattr(to, name, value, 0)
	})
}

// copyLinkAttributes is copyAttributes for a symbolic link itself.
func copyLinkAttributes(to, from string) error {
	return eachAttribute(from, unix.Llistxattr, unix.Lgetxattr, func(name string, value []byte) error {
		return unix.Lsetxattr(to, name, value, 0)
	})
}

func eachAttribute(file string, list func(string, []byte) (int, error), get func(string, string, []byte) (int, error), set func(string, []byte) error) error {
	names := make([]byte, maxAttributes)
	n, err := list(file, names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list extended attributes: %w", err)
	}
	value := make([]byte, maxAttributes)
	for name := range strings.SplitSeq(strings.Trim(string(names[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		n, err := get(file, name, value)
		if err == nil {
			err = set(name, value[:n])
		}
		if err != nil {
			return fmt.Errorf("keep extended attribute %s: %w", name, err)
		}
	}
	return nil
}

// copySparse copies a file's bytes and leaves holes where it has holes.
func copySparse(to, from *os.File, size int64) error {
	for offset := int64(0); offset < size; {
		start, err := unix.Seek(int(from.Fd()), offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole to the end
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(from.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := to.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(to, io.NewSectionReader(from, start, end-start)); err != nil {
			return err
		}
		offset = end
	}
	return to.Truncate(size)
}
