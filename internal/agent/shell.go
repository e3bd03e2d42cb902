package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"herdbook/internal/wire"
)

// shell gives a person a shell on the port for that, and returns when they have left it.
// The root is where it finds its programs; the environment comes beside the usual.
func shell(job wire.Job, g *wire.Guest, root string, environment ...string) (err error) {
	port, err := openPort(wire.TerminalPort)
	if err != nil {
		return err
	}
	defer port.Close()
	t, err := openTerminal()
	if err != nil {
		return err
	}
	defer t.master.Close()
	if size, err := t.fit(g, ""); err == nil {
		go t.follow(g, size)
	}
	name := "linux"
	if job.Terminal != "" {
		name = job.Terminal
	}
	cmd := loginShell(root)
	cmd.Env = append([]string{searchPath, "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=" + cmd.Path, "TERM=" + name, "LANG=C.UTF-8"}, environment...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.slave, t.slave, t.slave
	g.Phase(wire.ShellPhase)
	err = cmd.Start()
	err = errors.Join(err, t.slave.Close())
	if err != nil {
		return fmt.Errorf("run a shell: %w", err)
	}
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		// It ends when nobody has the terminal open any more.
		_, _ = io.Copy(port, t.master)
	}()
	go func() {
		// It ends with the machine.
		_, _ = io.Copy(t.master, port)
	}()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) { // whatever status the person left it with
		return fmt.Errorf("run a shell: %w", err)
	}
	within(shown, leftBehind)
	return nil
}

// loginShell is the shell of a root's administrator, with the terminal as its own.
func loginShell(root string) *exec.Cmd {
	program := "/bin/bash"
	if _, err := os.Lstat(filepath.Join(root, program)); err != nil {
		program = "/bin/sh"
	}
	cmd := exec.Command(program, "-i")
	cmd.Args[0] = "-" + filepath.Base(program) // as login(1) has it
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if root != "/" {
		cmd.SysProcAttr.Chroot = root
	}
	return cmd
}

// terminal is a pair of pseudo terminals (pts(4)).
type terminal struct{ master, slave *os.File }

func openTerminal() (t terminal, err error) {
	if t.master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return t, fmt.Errorf("open a terminal: %w", err)
	}
	fd := int(t.master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		t.slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		return t, errors.Join(fmt.Errorf("open a terminal: %w", err), t.master.Close())
	}
	return t, nil
}

// errNoWindow says that the person has no window.
var errNoWindow = errors.New("there is no window")

// fit gives the terminal the size of the person's window, when it is another one than
// they had.
func (t terminal) fit(g *wire.Guest, had string) (string, error) {
	answer, err := g.Ask(wire.Ask{What: wire.AskWindow, Text: had})
	if err != nil {
		return "", err
	}
	var rows, columns uint16
	if n, err := fmt.Sscanf(answer.Text, "%d %d", &rows, &columns); n != 2 || err != nil || answer.Error != "" {
		return "", errNoWindow
	}
	err = unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	return answer.Text, err
}

// follow does so for as long as there is a window.
func (t terminal) follow(g *wire.Guest, size string) {
	for {
		var err error
		if size, err = t.fit(g, size); err != nil {
			return // it stays as it is
		}
	}
}
