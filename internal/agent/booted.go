package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/event"
	"herdbook/internal/guest"
	"herdbook/internal/op"
	"herdbook/internal/wire"
)

// temporary is where scripts lie: below /run, which is on no disk. What they log by their
// own name is the system's, so that there is nothing of herdbook in it.
const temporary = "/run/boot-step"

// inSystem does a job in the booted system. Left is what keeps the agent on the disk,
// which is no matter where that is thrown away.
func inSystem(job wire.Job, g *wire.Guest, left error) (wire.Result, error) {
	switch {
	case len(job.Steps) > 0 && left != nil:
		return wire.Result{Operation: wire.NoStep}, left
	case len(job.Steps) > 0:
		return takeSteps(job, g)
	case job.Shell:
		return receive(job, g)
	}
	return inspectBoot(job, g)
}

// receive gives a person a shell in the system, whatever state that is in.
func receive(job wire.Job, g *wire.Guest) (wire.Result, error) {
	if job.Clock {
		if err := setClock(); err != nil {
			g.Sink().Line(event.Agent, err.Error())
		}
		return wire.Result{}, shell(job, g, "/")
	}
	result, err := awaitBoot(job, g)
	if err != nil {
		g.Phase(err.Error())
	}
	for _, unit := range result.Failed {
		g.Phase("the unit " + unit + " has failed")
	}
	return wire.Result{}, shell(job, g, "/")
}

// setClock sets the system's clock by the machine's, which went on while the machine
// was saved and is in UTC.
func setClock() error {
	clock, err := os.Open("/dev/rtc0")
	if err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	defer clock.Close()
	t, err := unix.IoctlGetRTCTime(int(clock.Fd()))
	if err == nil {
		now := unix.NsecToTimeval(time.Date(int(t.Year)+1900, time.Month(t.Mon+1), int(t.Mday), int(t.Hour), int(t.Min), int(t.Sec), 0, time.UTC).UnixNano())
		err = unix.Settimeofday(&now)
	}
	if err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return nil
}

// takeSteps carries the steps out, one after the other, in a system that has come to
// rest. The result is good only if all were.
func takeSteps(job wire.Job, g *wire.Guest) (result wire.Result, err error) {
	result.Operation = wire.NoStep
	if err := keepToMemory(len(job.Redact) > 0); err != nil {
		return result, err
	}
	if result, err = awaitBoot(job, g); err != nil {
		result.Operation = wire.NoStep
		return result, err
	}
	for _, unit := range result.Failed {
		g.Sink().Line(event.Agent, "the unit "+unit+" has failed")
	}
	system, err := bootedSystem(job, g)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, system.Root.Close()) }()
	for i, step := range job.Steps {
		result.Operation = i
		if err := takeStep(system, step, job, g, &result); err != nil {
			return result, err
		}
	}
	g.Phase("shut down")
	if !underSystemd() {
		if err := forgetStart(); err != nil {
			return result, err
		}
	}
	return result, errors.Join(removeTemporary(), giveBack())
}

// bootedSystem is the running system as a guest.
func bootedSystem(job wire.Job, g *wire.Guest) (*guest.Guest, error) {
	if err := makeTemporary(); err != nil {
		return nil, err
	}
	root, err := guest.OpenRoot("/")
	if err != nil {
		return nil, err
	}
	system := &guest.Guest{
		Root: root, Temporary: temporary, Sink: g.Sink(),
		Runner: commands(job, g),
	}
	if job.Files {
		if system.Files, system.FilesSize, err = openFiles(); err != nil {
			return nil, errors.Join(err, root.Close())
		}
	}
	return system, nil
}

// commands runs programs of the running system.
func commands(job wire.Job, g *wire.Guest) *guest.Chroot {
	return &guest.Chroot{Dir: "/", Environment: job.Environment, Redact: job.Redact, Sink: g.Sink(), Daemons: true}
}

// takeStep carries one step out, within its time.
func takeStep(system *guest.Guest, step wire.Step, job wire.Job, g *wire.Guest, result *wire.Result) (err error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if step.Timeout > 0 {
		defer time.AfterFunc(step.Timeout, func() {
			dumpTasks(g.Sink()) // before what hangs is ended
			cancel(fmt.Errorf("it was not done after %v; give the step a longer timeout if it needs one", step.Timeout))
		}).Stop()
	}
	g.Phase(step.Name)
	switch o := step.Operation.Operation.(type) {
	case *op.Puppet:
		result.Puppet, err = runPuppet(ctx, system, o, *commands(job, g), g.Ask)
	case *op.Ansible:
		err = playAnsible(ctx, o, visit{step.Visitor, job.Environment}, g.Ask)
	case *op.CloudInit:
		result.CloudInit, err = runCloudInit(ctx, system, o)
	default:
		err = guest.Apply(ctx, system, o)
	}
	if goesDown() {
		err = errors.Join(err, errors.New("the step has the system shut down or restart, which herdbook does behind the last step; "+
			"a step with reboot = true begins with a boot of its own"))
	}
	return err
}

// goesDown tells whether the system is about to end.
func goesDown() bool {
	ctx, cancel := context.WithTimeout(context.Background(), listTime)
	defer cancel()
	if underSystemd() {
		state, _ := outputOf(ctx, "systemctl", "is-system-running") // which fails in most states
		return state == "stopping"
	}
	level, _ := outputOf(ctx, "runlevel") // busybox's init has none
	return strings.HasSuffix(level, " 0") || strings.HasSuffix(level, " 6")
}

// keepToMemory sees to it that what programs hold in memory does not come to the disk:
// no core is written, and with secrets nothing is swapped out. The system's own settings
// are as before after its next boot.
func keepToMemory(secrets bool) error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	if !secrets {
		return nil
	}
	areas, err := swapAreas()
	if err != nil {
		return err
	}
	for _, area := range areas {
		if err := swapOff(area); err != nil {
			return fmt.Errorf("leave the swap area %s: %w", area, err)
		}
	}
	return nil
}

// makeTemporary makes the room for scripts. It is a tmpfs of its own only where /run is
// none: systemd tells the system's journal of every mount. It may be that nothing can be
// executed from there, since scripts are read by their interpreters.
func makeTemporary() error {
	err := os.MkdirAll(temporary, 0o700)
	var run unix.Statfs_t
	if err == nil {
		err = unix.Statfs(temporary, &run)
	}
	if err == nil && run.Type != unix.TMPFS_MAGIC {
		err = unix.Mount("tmpfs", temporary, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700")
	}
	if err != nil {
		return fmt.Errorf("make room for scripts: %w", err)
	}
	return nil
}

func removeTemporary() error {
	err := unix.Unmount(temporary, unix.MNT_DETACH)
	if err == nil || errors.Is(err, unix.EINVAL) { // it is no mount
		err = os.RemoveAll(temporary)
	}
	if err != nil {
		return fmt.Errorf("remove the room for scripts: %w", err)
	}
	return nil
}

// giveBack frees what was deleted where the host cannot tell afterwards what is free.
func giveBack() error {
	var root unix.Statfs_t
	if err := unix.Statfs("/", &root); err != nil || root.Type != unix.BTRFS_SUPER_MAGIC {
		return err
	}
	_, err := trimDir("/")
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) {
		return nil
	}
	return err
}
