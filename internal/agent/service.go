package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"herdbook/internal/guest"
)

// searchPath is where programs of a guest are looked for.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// memoryName is the program's name where it is in no file system.
const memoryName = "herdbook-agent"

// goOn makes the agent of what an init has started: it goes on from memory, apart from
// the service that it was started as, and takes itself off the disk. The process that
// was started has then gone on, and ends; with it ends the service. Where a system lets
// nothing be executed from memory, the agent stays the process that it is. The error
// says what of it is left on the disk.
func goOn(belongings []string) (goneOn bool, err error) {
	if len(belongings) == 0 {
		return false, nil
	}
	if !inMemory() {
		if err = fromMemory(belongings); err == nil {
			return true, nil
		}
		complain(err)
	}
	return false, vanish(belongings)
}

// inMemory tells whether the program is in no file system.
func inMemory() bool {
	name, err := os.Readlink("/proc/self/exe")
	return err == nil && strings.HasPrefix(name, "/memfd:"+memoryName)
}

// vanish removes what belongs to the agent, files first and then the directories that
// were made for them. The system that is worked on is as it was without it.
func vanish(belongings []string) (err error) {
	root, err := guest.OpenRoot("/")
	if err != nil {
		return fmt.Errorf("take the agent off the disk: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	restoreTimes := guest.KeepAgentTimes(root)
	var errs []error
	for _, name := range belongings {
		// Into a directory that was made for it somebody else may have put something since.
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, restoreInittab(), restoreTimes())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take the agent off the disk: %w", err)
	}
	return nil
}

// restoreInittab takes the agent's line out again.
func restoreInittab() error {
	text, err := os.ReadFile(guest.Inittab)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	kept := guest.WithoutAgent(text)
	if len(kept) == len(text) {
		return nil
	}
	return os.WriteFile(guest.Inittab, kept, 0) // of a file that is there the mode stays
}

// fromMemory starts the program anew, in memory only and in no service's control group.
func fromMemory(args []string) error {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("read the agent's own program: %w", err)
	}
	fd, err := unix.MemfdCreate(memoryName, unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), memoryName)
	defer f.Close()
	if _, err := f.Write(program); err != nil {
		return fmt.Errorf("write a file in memory: %w", err)
	}
	if err := leaveService(); err != nil {
		return err
	}
	again := exec.Command(fmt.Sprintf("/proc/self/fd/%d", fd))
	again.Args = append([]string{memoryName}, args...)
	again.Env, again.Dir = []string{searchPath}, "/"
	again.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := again.Start(); err != nil {
		return fmt.Errorf("execute the agent from memory: %w", err)
	}
	return nil
}

// leaveService moves the process, and with it all that it will start, into the control
// group at the root (cgroups(7)). What a step starts is then no part of a service of
// ours, which would end with it, and whose name would stand in the journal beside each
// line that it logs.
func leaveService() error {
	for _, hierarchy := range []string{"", "unified/", "systemd/"} { // version 2, and how systemd mounts both
		err := os.WriteFile("/sys/fs/cgroup/"+hierarchy+"cgroup.procs", []byte("0"), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("leave the service's control group: %w", err)
		}
	}
	return nil
}

// shutDown asks the init of the system to end everything in order.
func shutDown() error {
	command := exec.Command("poweroff")
	if underSystemd() {
		command = exec.Command("systemctl", "--no-wall", "poweroff")
	}
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("shut the system down: %w: %.200s", err, out)
	}
	for { // the end comes from outside
		_ = unix.Pause()
	}
}
