package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxInitrd bounds an initrd, in bytes: below 2 GiB is what kernels can be given.
const maxInitrd = 1 << 30

// memoryFile makes the one file in memory that QEMU inherits, or nil if the
// machine needs none. It completes s for UEFI.
func (s *Spec) memoryFile() (*os.File, error) {
	if s.Overlay != nil {
		return initrdFile(s.Initrd, s.Overlay)
	}
	return prepareFirmware(s)
}

// initrdFile is an initrd with an archive behind it. Linux unpacks one archive
// after another, each compressed in its own way or not at all, if one that is not
// compressed begins at a multiple of four bytes; zeros may lie between
// (Documentation/driver-api/early-userspace/buffer-format.rst).
func initrdFile(path string, overlay []byte) (_ *os.File, err error) {
	initrd, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the initrd: %w", err)
	}
	defer func() { err = errors.Join(err, initrd.Close()) }()
	f, err := newMemoryFile("initrd", nil)
	if err != nil {
		return nil, err
	}
	n, err := io.Copy(f, io.LimitReader(initrd, maxInitrd+1))
	if err == nil && n > maxInitrd {
		err = fmt.Errorf("%s has more than %d bytes", path, maxInitrd)
	}
	if err == nil {
		_, err = f.Write(append(bytes.Repeat([]byte{0}, int(-n&3)), overlay...))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lay files behind the initrd: %w", err), f.Close())
	}
	return f, nil
}

// newMemoryFile returns a file with the bytes p that has no name anywhere.
func newMemoryFile(name string, p []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(p); err != nil {
		return nil, errors.Join(fmt.Errorf("write a file in memory: %w", err), f.Close())
	}
	return f, nil
}
