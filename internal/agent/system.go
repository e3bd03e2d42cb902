package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"herdbook/internal/mapper"
	"herdbook/internal/wire"
)

// sysroot is where the image is mounted.
const sysroot = "/sysroot"

// modulesList names the module files to be loaded, in order.
const modulesList = "/etc/herdbook/modules"

// mounts are what PID 1 needs to see.
var mounts = []struct {
	source, target, kind string
	flags                uintptr
}{
	{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID},
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC},
	{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
}

// begin makes the bare machine usable.
func begin() error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
		// The kernel may have mounted /dev itself.
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	// /dev/fd and the like are made by init systems, and scripts want them.
	for link, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(target, "/dev/"+link); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make /dev/%s: %w", link, err)
		}
	}
	return loadModules()
}

func loadModules() error {
	list, err := os.ReadFile(modulesList)
	if err != nil {
		return fmt.Errorf("read the list of modules: %w", err)
	}
	for name := range strings.FieldsSeq(string(list)) {
		image, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read module: %w", err)
		}
		// ENODEV is of one for hardware that this machine does not have.
		if err := unix.InitModule(image, ""); err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("load module %s: %w", filepath.Base(name), err)
		}
	}
	return nil
}

// news are messages of the kernel (netlink(7)) that are the occasion to look again.
type news struct {
	protocol int
	groups   uint32
}

// deviceNews tell of devices that come and go.
var deviceNews = news{unix.NETLINK_KOBJECT_UEVENT, 1}

// look calls find until that has found something, or until the limit is over.
func (n news) look(limit time.Duration, find func() bool) (found bool, err error) {
	events, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, n.protocol)
	if err != nil {
		return false, err
	}
	defer unix.Close(events)
	if err := unix.Bind(events, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: n.groups}); err != nil {
		return false, err
	}
	buffer := make([]byte, 8<<10)
	for end := time.Now().Add(limit); ; {
		if find() {
			return true, nil
		}
		left := time.Until(end)
		if left <= 0 {
			return false, nil
		}
		// sysfs entries may come a moment after their event: look at least twice
		// a second.
		timeout := unix.NsecToTimeval(min(left, 500*time.Millisecond).Nanoseconds())
		if err := unix.SetsockoptTimeval(events, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
			return false, err
		}
		if _, _, err := unix.Recvfrom(events, buffer, 0); err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS) {
			return false, err
		}
	}
}

// appear waits until find finds a device.
func appear(what string, find func() (string, bool)) (path string, err error) {
	found, err := deviceNews.look(30*time.Second, func() (ok bool) {
		path, ok = find()
		return ok
	})
	if err != nil {
		return "", fmt.Errorf("listen for devices: %w", err)
	}
	if !found {
		return "", fmt.Errorf("%s did not appear", what)
	}
	return path, nil
}

// openPort opens a port of the machine by its name.
func openPort(name string) (*os.File, error) {
	path, err := appear("the port "+name, func() (string, bool) {
		return findByFile("/sys/class/virtio-ports/*/name", name, 2)
	})
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open the port: %w", err)
	}
	return f, nil
}

// findDisk finds a disk by its serial number.
func findDisk(serial string) (string, error) {
	return appear("the disk "+serial, func() (string, bool) {
		return findByFile("/sys/block/*/serial", serial, 2)
	})
}

// findByFile looks for a file of sysfs with a content and returns the device
// node whose name stands in the file's path, counted from its end.
func findByFile(pattern, content string, fromEnd int) (string, bool) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return "", false
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || string(bytes.TrimSpace(text)) != content {
			continue
		}
		parts := strings.Split(file, "/")
		node := "/dev/" + parts[len(parts)-fromEnd]
		if _, err := os.Stat(node); err == nil {
			return node, true
		}
	}
	return "", false
}

// mountImage mounts the file systems of the image below sysroot. The function
// that it returns unmounts them, the last one first.
func mountImage(device string, list []wire.Mount) (unmount func() error, err error) {
	var done []string
	unmount = func() error {
		var errs []error
		for i := len(done) - 1; i >= 0; i-- {
			if err := unix.Unmount(done[i], 0); err != nil {
				errs = append(errs, fmt.Errorf("unmount %s: %w", strings.TrimPrefix(done[i], sysroot), err))
			}
		}
		return errors.Join(errs...)
	}
	for _, m := range list {
		source := node(device, mapper.Source{Partition: m.Partition, Device: m.Device})
		target := filepath.Join(sysroot, m.Dir)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return nil, errors.Join(fmt.Errorf("mount %s: %w", m.Dir, err), unmount())
		}
		if real, err := filepath.EvalSymlinks(target); err != nil || real != target {
			return nil, errors.Join(fmt.Errorf("mount %s: a link is in the way", m.Dir), unmount())
		}
		if err := unix.Mount(source, target, m.Type, unix.MS_NOATIME, m.Options); err != nil {
			return nil, errors.Join(fmt.Errorf("mount %s (%s on %s): %w", m.Dir, m.Type, source, err), unmount())
		}
		done = append(done, target)
	}
	return unmount, nil
}

// killOthers ends every process but this one, so that nothing holds the image.
func killOthers() error {
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end what still runs: %w", err)
	}
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return nil // ECHILD: none is left
		}
	}
}

// fitrim is FITRIM of linux/fs.h, with its struct fstrim_range.
const fitrim = 0xc0185879

type fstrimRange struct{ start, length, minimum uint64 }

// trim gives the free blocks of every file system back to the disk.
func trim(list []wire.Mount) (uint64, error) {
	total := uint64(0)
	for _, m := range list {
		if m.Type == "vfat" {
			continue // its driver may not know how, and it is small
		}
		n, err := trimDir(filepath.Join(sysroot, m.Dir))
		if err != nil {
			return total, fmt.Errorf("trim %s: %w", m.Dir, err)
		}
		total += n
	}
	return total, nil
}

// trimDir gives the free blocks of the file system back that a directory is on.
func trimDir(name string) (uint64, error) {
	dir, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	unix.Syncfs(int(dir.Fd()))
	r := fstrimRange{length: 1<<64 - 1}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), fitrim, uintptr(unsafe.Pointer(&r)))
	if err := dir.Close(); err != nil {
		return 0, err
	}
	if errno != 0 {
		return 0, errno
	}
	return r.length, nil
}
