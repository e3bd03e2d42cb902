package agent

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"herdbook/internal/event"
)

// swapAreas lists what /proc/swaps (proc(5)) has: a header, then a line for each area
// that begins with its path, in which blanks are written as \040.
func swapAreas() ([]string, error) {
	text, err := os.ReadFile("/proc/swaps")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // a kernel without swap
	}
	if err != nil {
		return nil, fmt.Errorf("list the swap areas: %w", err)
	}
	var areas []string
	for n, line := range strings.Split(string(text), "\n") {
		if fields := strings.Fields(line); n > 0 && len(fields) > 0 {
			areas = append(areas, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`).Replace(fields[0]))
		}
	}
	return areas, nil
}

func swapOff(path string) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(p)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// allowSysRq lets the host ask the kernel where it stands, over the console, for as long
// as the system runs. Where that cannot be, a hang is told with less.
func allowSysRq() { _ = os.WriteFile("/proc/sys/kernel/sysrq", []byte("1"), 0) }

// maxDump bounds the lines of a dump.
const maxDump = 5000

// dumpTasks tells where every process of the system stands, in the kernel's words
// (Documentation/admin-guide/sysrq.rst). What cannot be told is left out: it is for a
// person who looks at a failure, and no other one.
func dumpTasks(sink event.Sink) {
	log, err := orderKernel('t')
	if err != nil {
		return
	}
	defer log.close()
	for range maxDump {
		text, ok := log.next()
		if !ok { // there is no more
			return
		}
		sink.Line(event.Kernel, text)
	}
}

// writeBack brings what was written to the disk, which may be all that is kept of the
// system. One that hangs does not keep its failure from being told.
func writeBack() {
	written := make(chan struct{})
	go func() {
		defer close(written)
		unix.Sync()
	}()
	within(written, remountTime)
}

// remountTime bounds the wait for file systems that are written back, or are to be
// read-only.
const remountTime = 30 * time.Second

// quieten makes every file system read-only, whoever writes to it, so that a disk on
// which work has failed can be mounted again by anybody. Where the kernel does not do
// that, what is there must do: the disk is that of a machine whose plug was pulled.
func quieten() {
	log, err := orderKernel('u')
	if err != nil {
		return
	}
	defer log.close()
	for end := time.Now().Add(remountTime); time.Now().Before(end); {
		text, ok := log.next()
		if strings.Contains(text, "Emergency Remount complete") {
			return
		}
		if !ok {
			log.wait(time.Until(end))
		}
	}
}

// kernelLog is what the kernel says from some moment on (/dev/kmsg).
type kernelLog struct {
	fd      int
	records *bufio.Reader
}

// orderKernel gives the kernel an order by its key, and returns what it says from then on.
func orderKernel(key byte) (*kernelLog, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if _, err = unix.Seek(fd, 0, unix.SEEK_END); err == nil { // behind what is there
		err = os.WriteFile("/proc/sysrq-trigger", []byte{key}, 0)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &kernelLog{fd, bufio.NewReaderSize(kernelRecords{fd}, 16<<10)}, nil
}

func (k *kernelLog) close() { _ = unix.Close(k.fd) }

// next returns the text of the next record; false if there is none yet.
func (k *kernelLog) next() (string, bool) {
	for {
		line, err := k.records.ReadString('\n')
		if err != nil {
			return "", false
		}
		if _, text, ok := strings.Cut(line, ";"); ok {
			return strings.TrimRight(text, "\n"), true
		}
	}
}

// wait waits for a record, for at most so long.
func (k *kernelLog) wait(limit time.Duration) {
	// Whatever the cause of its return, the next look tells.
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(k.fd), Events: unix.POLLIN}}, int(limit.Milliseconds()))
}

// kernelRecords reads /dev/kmsg record by record: each read gives one.
type kernelRecords struct{ fd int }

func (k kernelRecords) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(k.fd, p)
		switch {
		case errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EINTR): // it was overwritten meanwhile; the next one follows
		case err != nil:
			return 0, err
		default:
			return n, nil
		}
	}
}
