package ramroot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"herdbook/internal/digest"
)

// Where a root is put together. None of it can be seen in the system.
const (
	sysroot = "/sysroot"
	lower   = "/lower"
	upper   = "/upper"
)

// mountAll mounts what a first process needs to see.
func mountAll() error {
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
		if err := unix.Mount(m.kind, m.at, m.kind, unix.MS_NOSUID, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return nil
}

// checkFile compares a root that is in the initrd with what it is to be.
func checkFile(path string, c Config) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("find the root, which was to be laid behind this initrd: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	d, size, err := digest.OfReader(f)
	if err != nil {
		return fmt.Errorf("read the root: %w", err)
	}
	return c.verify(d, size, "the root in the initrd")
}

// verify compares what a root has with what it is to have.
func (c Config) verify(d digest.Digest, size int64, what string) error {
	if d != c.Digest || size != c.Size {
		return fmt.Errorf("%s has %d bytes with the SHA-256 %s, and this initrd belongs to one of %d bytes with %s: use the files of one export", what, size, d, c.Size, c.Digest)
	}
	return nil
}

// mountRoot mounts a squashfs with a writable layer of memory over it.
func mountRoot(path string) error {
	device, err := attachLoop(path)
	if err != nil {
		return fmt.Errorf("make the root a device: %w", err)
	}
	for _, dir := range []string{sysroot, lower, upper} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", dir, err)
		}
	}
	if err := unix.Mount(device, lower, "squashfs", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount the root: %w", err)
	}
	if err := unix.Mount("tmpfs", upper, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount a layer of memory: %w", err)
	}
	data, work := upper+"/data", upper+"/work"
	if err := errors.Join(os.Mkdir(data, 0o755), os.Mkdir(work, 0o755)); err != nil {
		return fmt.Errorf("mount a layer of memory: %w", err)
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, data, work)
	if err := unix.Mount("overlay", sysroot, "overlay", 0, options); err != nil {
		return fmt.Errorf("lay memory over the root: %w", err)
	}
	return nil
}

// attachLoop returns a block device that is a file, read-only.
func attachLoop(path string) (device string, err error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err := errors.Join(err, control.Close()); err != nil {
		return "", err
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	device = fmt.Sprintf("/dev/loop%d", number)
	loop, err := os.Open(device)
	if err != nil {
		return "", err
	}
	if err := unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_SET_FD, int(file.Fd())); err != nil {
		return "", errors.Join(err, loop.Close())
	}
	return device, loop.Close()
}

// start leaves the initrd for a root and starts the system in it.
func start(root string, arguments map[string]string, words []string) error {
	if err := measure(arguments); err != nil {
		return err
	}
	program, err := systemInit(root, arguments)
	if err != nil {
		return err
	}
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		target := root + dir
		if err := os.MkdirAll(target, 0o755); err != nil {
			return fmt.Errorf("hand over %s: %w", dir, err)
		}
		if err := unix.Mount(dir, target, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("hand over %s: %w", dir, err)
		}
	}
	// What is unpacked of the initrd would stay in memory for ever. The root's own file
	// is kept by its device.
	empty("/")
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := errors.Join(unix.Mount(".", "/", "", unix.MS_MOVE, ""), unix.Chroot("."), os.Chdir("/")); err != nil {
		return fmt.Errorf("change to the root: %w", err)
	}
	return execute(program, words)
}

// startHere starts the system where it is: in the initrd.
func startHere(c Config, arguments map[string]string, words []string) error {
	for _, set := range c.Attributes {
		for name, value := range set.Values {
			if err := unix.Lsetxattr(filepath.Join("/", set.Path), name, value, 0); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
				return fmt.Errorf("set %s of %s: %w", name, set.Path, err)
			}
		}
	}
	if err := measure(arguments); err != nil {
		return err
	}
	program, err := systemInit("", arguments)
	if err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll("/"+Dir), os.Remove("/init")); err != nil {
		return fmt.Errorf("tidy up: %w", err)
	}
	return execute(program, words)
}

// systemInit is the program that starts the system, as a path in it. A link in the root may
// be absolute, and leads to nothing here: that it is there is all that is asked.
func systemInit(root string, arguments map[string]string) (string, error) {
	candidates := []string{"/sbin/init", "/etc/init", "/bin/init", "/usr/lib/systemd/systemd"}
	if named := arguments["init"]; named != "" && named != "init" {
		candidates = []string{named}
	}
	for _, c := range candidates {
		if _, err := os.Lstat(root + c); err == nil {
			return c, nil
		}
	}
	return "", fmt.Errorf("the root has no %s", strings.Join(candidates, ", nor "))
}

// execute becomes the system's first process, which is given what the kernel has for it.
func execute(program string, words []string) error {
	console, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0)
	if err == nil {
		for fd := range 3 {
			err = errors.Join(err, unix.Dup3(int(console.Fd()), fd, 0))
		}
	}
	if err != nil {
		return fmt.Errorf("open the console: %w", err)
	}
	err = unix.Exec(program, append([]string{program}, words...), []string{"HOME=/", "TERM=linux", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
	return fmt.Errorf("start %s: %w", program, err)
}

// empty removes what is below a directory on its own file system. What cannot be removed
// stays: it costs memory, and no more.
func empty(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			if isMount(dir, path) {
				continue
			}
			empty(path)
		}
		_ = os.Remove(path)
	}
}

func isMount(parent, dir string) bool {
	var a, b unix.Stat_t
	return unix.Lstat(parent, &a) != nil || unix.Lstat(dir, &b) != nil || a.Dev != b.Dev
}

// measure tells the memory on the kernel's log, or, if it is asked to, on the console as
// the machine's last word.
func measure(arguments map[string]string) error {
	m, err := readMemory()
	if err != nil {
		return err
	}
	if arguments[MeasureArgument] != "" {
		console, err := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY, 0)
		if err != nil {
			return fmt.Errorf("tell the memory: %w", err)
		}
		if _, err := fmt.Fprintf(console, "\n"+memoryLine+"\n", m.Total, m.Available); err != nil {
			return fmt.Errorf("tell the memory: %w", err)
		}
		drain(console)
		return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	log, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return nil // a kernel without a log
	}
	_, err = io.WriteString(log, fmt.Sprintf("<6>herdbook: %d of %d MiB of memory are in use before the system starts\n", (m.Total-m.Available)>>20, m.Total>>20))
	return errors.Join(err, log.Close())
}

// drain waits until a serial line has sent all; other consoles need no waiting.
func drain(console *os.File) {
	const untilSent = 1
	_ = unix.IoctlSetInt(int(console.Fd()), unix.TCSBRK, untilSent)
}
