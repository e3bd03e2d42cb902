package workpiece

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// QEMU marks what it does with an image by locks on single bytes of its file
// (block/file-posix.c): on 100 + p if it has the permission p, on 200 + p if it
// does not share p with others.
const (
	permissions = 100
	unshared    = 200

	permissionWrite  = 1
	permissionResize = 3
)

// lock holds a piece against other herdbooks and against machines that would
// write to it. Machines that only read may go on.
type lock struct {
	file *os.File
}

const (
	shared    = unix.LOCK_SH
	exclusive = unix.LOCK_EX
)

// lock takes the piece without waiting.
func (p Piece) lock(how int) (*lock, error) {
	flags := os.O_RDONLY
	if how == exclusive {
		flags = os.O_RDWR
	}
	f, err := os.OpenFile(p.Path, flags, 0)
	if err != nil {
		return nil, fmt.Errorf("open disk image: %w", err)
	}
	if err := take(f, how); err != nil {
		return nil, errors.Join(fmt.Errorf("lock disk image %s: %w", p.Path, err), f.Close())
	}
	return &lock{f}, nil
}

func take(f *os.File, how int) error {
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%w: another herdbook works on it", ErrInUse)
	} else if err != nil {
		return err
	}
	for _, p := range []int64{permissionWrite, permissionResize} {
		probe := unix.Flock_t{Type: unix.F_WRLCK, Start: permissions + p, Len: 1}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &probe); err != nil {
			return err
		}
		if probe.Type != unix.F_UNLCK {
			return fmt.Errorf("%w: a machine writes to it; shut it down first", ErrInUse)
		}
		mine := unix.Flock_t{Type: unix.F_RDLCK, Start: unshared + p, Len: 1}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &mine); err != nil {
			return err
		}
	}
	return nil
}

// allowWriting lets the locks of QEMU's kind go, for a QEMU program of ours that
// is about to write.
func (l *lock) allowWriting() error {
	all := unix.Flock_t{Type: unix.F_UNLCK, Start: permissions, Len: unshared - permissions + 64}
	return unix.FcntlFlock(l.file.Fd(), unix.F_OFD_SETLK, &all)
}

func (l *lock) release() error { return l.file.Close() }
