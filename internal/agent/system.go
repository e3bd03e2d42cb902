package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
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

// appear waits until find finds something, with the kernel's device events as the
// occasion to look again.
func appear(what string, find func() (string, bool)) (string, error) {
	events, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return "", fmt.Errorf("listen for devices: %w", err)
	}
	defer unix.Close(events)
	if err := unix.Bind(events, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return "", fmt.Errorf("listen for devices: %w", err)
	}
	buffer := make([]byte, 8<<10)
	for end := time.Now().Add(30 * time.Second); ; {
		if path, ok := find(); ok {
			return path, nil
		}
		left := time.Until(end)
		if left <= 0 {
			return "", fmt.Errorf("%s did not appear", what)
		}
		// sysfs entries may come a moment after their event: look at least twice
		// a second.
		timeout := unix.NsecToTimeval(min(left, 500*time.Millisecond).Nanoseconds())
		if err := unix.SetsockoptTimeval(events, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
			return "", fmt.Errorf("listen for devices: %w", err)
		}
		if _, _, err := unix.Recvfrom(events, buffer, 0); err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS) {
			return "", fmt.Errorf("listen for devices: %w", err)
		}
	}
}

// openPort opens the wire.
func openPort() (*os.File, error) {
	path, err := appear("the port "+wire.Port, func() (string, bool) {
		return findByFile("/sys/class/virtio-ports/*/name", wire.Port, 2)
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
		dir, err := os.Open(filepath.Join(sysroot, m.Dir))
		if err != nil {
			return total, fmt.Errorf("trim %s: %w", m.Dir, err)
		}
		unix.Syncfs(int(dir.Fd()))
		r := fstrimRange{length: 1<<64 - 1}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), fitrim, uintptr(unsafe.Pointer(&r)))
		if err := dir.Close(); err != nil {
			return total, fmt.Errorf("trim %s: %w", m.Dir, err)
		}
		if errno != 0 {
			return total, fmt.Errorf("trim %s: %w", m.Dir, errno)
		}
		total += r.length
	}
	return total, nil
}

// runOn runs a shell of the image on a terminal until it ends.
func runOn(console *os.File, program string) error {
	cmd := exec.Command(program, "-i")
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=linux", "LANG=C.UTF-8", "PS1=workshop# "}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = console, console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: sysroot, Setsid: true, Setctty: true}
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("run a shell: %w", err)
	}
	return nil // whatever status the person left it with
}
