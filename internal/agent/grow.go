package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"herdbook/internal/guest"
	"herdbook/internal/mapper"
	"herdbook/internal/wire"
)

// grow makes the file system of a mount as large as what it lies on.
func grow(job wire.Job, device string, runner guest.Runner, ready *preparation) error {
	g := job.Grow
	if g.Volume != "" {
		if err := ready.begin(); err != nil {
			return err
		}
		if err := growVolume(runner, node(device, g.Physical), g.Volume); err != nil {
			return fmt.Errorf("grow logical volume %s: %w", g.Volume, err)
		}
	}
	for _, m := range job.Mounts {
		if m.Dir != g.Dir {
			continue
		}
		if err := growFileSystem(m, node(device, mapper.Source{Partition: m.Partition, Device: m.Device})); err != nil {
			return fmt.Errorf("grow %s (%s): %w", m.Dir, m.Type, err)
		}
		return nil
	}
	return fmt.Errorf("grow %s: nothing is mounted there", g.Dir)
}

// lvmConfig has LVM look at every device, and do without udev, which does not run
// here. Of settings that it does not know, it only says so.
const lvmConfig = `devices { use_devicesfile=0 filter=["a|.*|"] global_filter=["a|.*|"] obtain_device_list_from_udev=0 external_device_info_source="none" } ` +
	`activation { udev_sync=0 udev_rules=0 monitoring=0 } backup { backup=0 archive=0 } global { use_lvmlockd=0 }`

// growVolume has the guest's LVM give a logical volume all that its group has free.
func growVolume(runner guest.Runner, physical, volume string) error {
	for _, args := range [][]string{
		{"lvm", "pvresize", "--config", lvmConfig, physical},
		{"lvm", "lvextend", "--config", lvmConfig, "-l", "+100%FREE", volume},
	} {
		status, err := runner.Run(context.Background(), guest.Command{Args: args})
		if err != nil {
			return err
		}
		if status != 0 {
			return fmt.Errorf("%s ended with status %d", args[1], status)
		}
	}
	return nil
}

// growFileSystem asks the kernel, which does it while the file system is in use.
func growFileSystem(m wire.Mount, device string) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Join(sysroot, m.Dir))
	if err != nil {
		return err
	}
	switch m.Type {
	case "xfs":
		err = growXFS(dir, size)
	case "btrfs":
		err = growBtrfs(dir)
	default:
		err = growExt(dir, size)
	}
	return errors.Join(err, dir.Close())
}

// The ioctls by which file systems grow: of ext4 (Documentation/admin-guide/ext4.rst),
// of linux/fs/xfs/xfs_fs.h and of linux/btrfs.h, with the sizes of their structs.
const (
	extResize   = 0x40086610
	xfsGeometry = 0x80705864
	xfsGrow     = 0x4010586e
	btrfsInfo   = 0x8400941f
	btrfsResize = 0x50009403
)

func growExt(dir *os.File, size int64) error {
	var stat unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &stat); err != nil {
		return err
	}
	request := make([]byte, 8)
	binary.NativeEndian.PutUint64(request, uint64(size/stat.Bsize))
	err := ioctl(dir, extResize, request)
	if errors.Is(err, unix.ENOTTY) {
		return fmt.Errorf("%w: the driver of this kernel cannot", err)
	}
	return err
}

func growXFS(dir *os.File, size int64) error {
	ne := binary.NativeEndian
	geometry := make([]byte, 112)
	if err := ioctl(dir, xfsGeometry, geometry); err != nil {
		return err
	}
	block := int64(ne.Uint32(geometry))
	if block == 0 {
		return errors.New("its blocks have no size")
	}
	request := make([]byte, 16)
	ne.PutUint64(request, uint64(size/block))
	ne.PutUint32(request[8:], ne.Uint32(geometry[28:])) // how much of it inodes may take: as it is
	return ioctl(dir, xfsGrow, request)
}

// growBtrfs grows the one device, whose number is the highest that there is.
func growBtrfs(dir *os.File) error {
	info := make([]byte, 1024)
	if err := ioctl(dir, btrfsInfo, info); err != nil {
		return err
	}
	request := make([]byte, 4096)
	copy(request[8:], fmt.Sprintf("%d:max", binary.NativeEndian.Uint64(info)))
	return ioctl(dir, btrfsResize, request)
}

func ioctl(f *os.File, command uintptr, request []byte) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), command, uintptr(unsafe.Pointer(&request[0]))); errno != 0 {
		return errno
	}
	return nil
}
