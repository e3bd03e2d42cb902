package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// player is the machine as an installer sees it.
type player struct {
	console *os.File
	input   *bufio.Reader // of the console
	log     *os.File
}

// directives is what a script may say, each with one argument, which may be
// empty.
var directives = map[string]func(*player, string) error{
	"say":         (*player).say,
	"print":       (*player).print,
	"log":         (*player).tell,
	"pause":       (*player).pause,
	"busy":        (*player).busy,
	"disk":        (*player).disk,
	"read":        (*player).read,
	"hang":        func(p *player, _ string) error { p.hang(); return nil },
	"panic":       (*player).panic,
	"reset":       (*player).reset,
	"poweroff":    func(p *player, _ string) error { return p.powerOff() },
	"cmdline":     func(p *player, _ string) error { return p.cat("/proc/cmdline") },
	"stat":        (*player).stat,
	"cat":         (*player).cat,
	"mount-label": (*player).mountLabel,
}

// waitLimit bounds the wait for a device that the kernel is still finding.
const waitLimit = 20 * time.Second

// begin makes the machine usable. The player is never nil.
func begin() (*player, error) {
	p := &player{}
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return p, err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return p, fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	var err error
	if p.console, err = os.OpenFile("/dev/ttyS0", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return p, err
	}
	p.input = bufio.NewReader(p.console)
	if err := loadModules("/modules/order"); err != nil {
		return p, err
	}
	path, err := logDevice()
	if err == nil {
		p.log, err = os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY, 0)
	}
	return p, err
}

// loadModules loads the modules whose paths a file lists.
func loadModules(order string) error {
	list, err := os.ReadFile(order)
	if err != nil {
		return err
	}
	for _, path := range strings.Fields(string(list)) {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		if err := errors.Join(err, f.Close()); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", path, err)
		}
	}
	return nil
}

// consoleDevice is the virtio device that ports belong to.
const consoleDevice = "0x0003"

// logDevice is where the installer's log goes: the port that Anaconda looks for,
// or the second serial line. QEMU tells a port's name some time after the port.
func logDevice() (string, error) {
	const serial, port = "/dev/ttyS1", "org.fedoraproject.anaconda.log.0"
	devices, err := filepath.Glob("/sys/bus/virtio/devices/*/device")
	if err != nil {
		return "", err
	}
	for _, device := range devices {
		id, err := os.ReadFile(device)
		if err != nil || strings.TrimSpace(string(id)) != consoleDevice {
			continue
		}
		path, err := find("/sys/class/virtio-ports/*/name", func(path string) (bool, error) {
			name, err := os.ReadFile(path)
			return strings.TrimSpace(string(name)) == port, err
		})
		if err != nil {
			return "", fmt.Errorf("find the port %s: %w", port, err)
		}
		return "/dev/" + filepath.Base(filepath.Dir(path)), nil
	}
	return serial, nil
}

// find waits for a path of a pattern that is right. What cannot be looked at is
// not right.
func find(pattern string, right func(string) (bool, error)) (string, error) {
	var last error
	for start := time.Now(); time.Since(start) < waitLimit; time.Sleep(20 * time.Millisecond) {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		for _, path := range paths {
			ok, err := right(path)
			if ok {
				return path, nil
			}
			last = errors.Join(err, nil)
		}
	}
	return "", errors.Join(errors.New("it is not there"), last)
}

// play follows a script to its end.
func (p *player) play(path string) error {
	script, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(script)) {
		word, argument, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		if word == "" {
			continue
		}
		directive := directives[word]
		if directive == nil {
			return fmt.Errorf("%q is no directive", word)
		}
		if err := directive(p, argument); err != nil {
			return fmt.Errorf("%s: %w", word, err)
		}
	}
	return errors.New("the script has ended without an end of the machine")
}

// say TEXT writes a line to the console.
func (p *player) say(text string) error { return send(p.console, text+"\n") }

// print "TEXT" writes a text as Go quotes it, without an end of the line.
func (p *player) print(quoted string) error {
	text, err := strconv.Unquote(quoted)
	if err != nil {
		return fmt.Errorf("%s: %w", quoted, err)
	}
	return send(p.console, text)
}

// tell is log TEXT: a line of the installer's log.
func (p *player) tell(text string) error { return send(p.log, text+"\n") }

// send writes, and waits until all of it has left a serial line: so what is said
// on two lines one after the other leaves the machine in this order.
func send(f *os.File, text string) error {
	if _, err := io.WriteString(f, text); err != nil {
		return err
	}
	const untilSent = 1
	if err := unix.IoctlSetInt(int(f.Fd()), unix.TCSBRK, untilSent); err != nil && !errors.Is(err, unix.ENOTTY) {
		return fmt.Errorf("drain %s: %w", f.Name(), err)
	}
	return nil
}

// pause DURATION does nothing.
func (p *player) pause(text string) error {
	d, err := time.ParseDuration(text)
	if err == nil {
		time.Sleep(d)
	}
	return err
}

// busy DURATION keeps the processor at work, without a word.
func (p *player) busy(text string) error {
	d, err := time.ParseDuration(text)
	for start := time.Now(); err == nil && time.Since(start) < d; {
	}
	return err
}

// disk PATH copies a file to the beginning of the machine's disk.
func (p *player) disk(path string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	to, err := os.OpenFile("/dev/vda", os.O_WRONLY, 0)
	if err != nil {
		return errors.Join(err, from.Close())
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Sync(), to.Close(), from.Close())
}

// read waits for a line of a person, and says it.
func (p *player) read(string) error {
	line, err := p.input.ReadString('\n')
	if err != nil {
		return err
	}
	return p.say("read " + strconv.Quote(line))
}

// hang waits for ever.
func (p *player) hang() {
	for {
		time.Sleep(time.Hour)
	}
}

// panic makes the kernel give up.
func (p *player) panic(string) error {
	return os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
}

// reset restarts the machine.
func (p *player) reset(string) error { return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) }

// powerOff ends it.
func (p *player) powerOff() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) }

// stat PATH says mode, owner and group of a file of the initrd, in a regular one
// size and SHA-256 of its content, of a symbolic link its target.
func (p *player) stat(path string) error {
	var s unix.Stat_t
	if err := unix.Lstat(path, &s); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	text := fmt.Sprintf("stat %s %06o %d %d", path, s.Mode, s.Uid, s.Gid)
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text += fmt.Sprintf(" %d %x", len(content), sha256.Sum256(content))
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		text += " " + target
	}
	return p.say(text)
}

// cat PATH says what is in a file.
func (p *player) cat(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return send(p.console, strings.TrimRight(string(content), "\n")+"\n")
}

// mountLabel is mount-label LABEL: it waits for the disc with this volume name,
// and says what it holds.
func (p *player) mountLabel(label string) error {
	path, err := find("/sys/class/block/*", func(path string) (bool, error) {
		name, err := volumeName("/dev/" + filepath.Base(path))
		return name == label, err
	})
	if err != nil {
		return fmt.Errorf("find the disc %q: %w", label, err)
	}
	device, at := filepath.Base(path), "/disc"
	text := fmt.Sprintf("found %s on %s", label, device)
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/dev/"+device, at, "iso9660", unix.MS_RDONLY, ""); err != nil {
		return p.say(text) // this kernel has no such file system
	}
	entries, err := os.ReadDir(at)
	text += ":"
	for _, e := range entries {
		text += " " + e.Name()
	}
	return errors.Join(err, p.say(text), unix.Unmount(at, 0))
}

// volumeName reads the name of an ISO 9660 file system (ECMA-119, 8.4).
func volumeName(device string) (string, error) {
	const start, at, length = 32768, 40, 32
	f, err := os.Open(device)
	if err != nil {
		return "", err
	}
	descriptor := make([]byte, at+length)
	_, err = f.ReadAt(descriptor, start)
	if err := errors.Join(err, f.Close()); err != nil || !bytes.Equal(descriptor[1:6], []byte("CD001")) {
		return "", err
	}
	return strings.TrimRight(string(descriptor[at:]), " "), nil
}
