// Package agent is herdbook's program in a guest: PID 1 of the workshop, where
// it mounts the image, carries out operations and unmounts it, and a service of
// a booted image, where it watches the boot and carries out steps or a test. It
// takes one job from the wire and gives one result; there is one way out,
// whatever happens.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/guest"
	"herdbook/internal/identity"
	"herdbook/internal/op"
	"herdbook/internal/sysprep"
	"herdbook/internal/wire"
)

const beat = 5 * time.Second

// Run is the whole life of the agent, which is given what belongs to it in a booted
// guest. It returns only there: when the machine is about to power off, or when another
// process has taken over.
func Run(belongings []string) error {
	do := inWorkshop
	if os.Getpid() == 1 {
		if err := begin(); err != nil {
			complain(err)
			return powerOff()
		}
	} else {
		goneOn, left := goOn(belongings)
		if goneOn {
			return nil
		}
		if left != nil {
			complain(left)
		}
		do = func(job wire.Job, g *wire.Guest) (wire.Result, error) { return inSystem(job, g, left) }
	}
	allowSysRq()
	err := serve(do)
	if err != nil {
		complain(err)
	}
	return errors.Join(err, powerOff())
}

// complain says what nobody heard over the wire; the console is all that is left.
func complain(err error) {
	console, openErr := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY, 0)
	if openErr != nil {
		console = os.Stderr
	}
	fmt.Fprintln(console, "herdbook-agent:", err)
}

// worker does one job. The result is completed by the error.
type worker func(job wire.Job, g *wire.Guest) (wire.Result, error)

// serve has the conversation. It ends with the first result behind which nobody wants
// to look at the machine as it is.
func serve(do worker) error {
	port, err := openPort(wire.Port)
	if err != nil {
		return err
	}
	defer port.Close()
	g, job, err := wire.Accept(port, beat)
	for err == nil {
		result := work(do, job, g)
		if !result.OK && len(job.Steps) > 0 {
			writeBack()
		}
		err = g.Finish(result)
		if result.OK && len(job.Steps) > 0 {
			return errors.Join(err, shutDown())
		}
		if !result.OK && len(job.Steps) > 0 && !job.Stay {
			quieten()
		}
		if result.OK || !job.Stay {
			break
		}
		if err == nil {
			g, job, err = g.Again(beat)
		}
	}
	return err
}

// work does the job; a panic is a failure like any other.
func work(do worker, job wire.Job, g *wire.Guest) (result wire.Result) {
	defer func() {
		if p := recover(); p != nil {
			debug.PrintStack() // on the console, and so in the layer's log
			result = wire.Result{Error: fmt.Sprintf("the agent panicked, a bug of herdbook: %v", p)}
		}
		result.Error = op.Redact(result.Error, job.Redact)
	}()
	result, err := do(job, g)
	result.OK = err == nil
	if err != nil {
		result.Error = err.Error()
		var failure *guest.Error
		if errors.As(err, &failure) {
			result.ExitStatus = failure.Status
		}
	}
	return result
}

// inWorkshop works on the quiet disk. The result is good only if all of it is on
// the disk: it is given after the last unmount.
func inWorkshop(job wire.Job, g *wire.Guest) (result wire.Result, err error) {
	g.Phase("mount the image")
	device, err := findDisk(wire.RootDisk)
	if err != nil {
		return result, err
	}
	i := &image{disk: device, devices: job.Devices, mounts: job.Mounts}
	defer func() { err = errors.Join(err, i.unmount(), i.remove()) }()
	if err := i.mount(); err != nil {
		return result, err
	}
	if job.Network {
		if err := startNetwork(); err != nil {
			return result, err
		}
	}
	if err := operate(job, g, device, &result); err != nil {
		return result, err
	}
	if len(job.UUIDs) > 0 {
		if err := renew(job, g, i); err != nil {
			return result, err
		}
	}
	if job.Trim {
		g.Phase("give free blocks back")
		if result.Trimmed, err = trim(job.Mounts); err != nil {
			return result, err
		}
	}
	g.Phase("write everything to the disk")
	return result, nil
}

// openGuest is the mounted guest. The caller closes its root.
func openGuest(job wire.Job, g *wire.Guest, device string) (*guest.Guest, error) {
	root, err := guest.OpenRoot(sysroot)
	if err != nil {
		return nil, err
	}
	return &guest.Guest{
		Root: root, Device: device, AgentPath: "/init", Sink: g.Sink(),
		Runner: &guest.Chroot{Dir: sysroot, Environment: job.Environment, Redact: job.Redact, Sink: g.Sink()},
	}, nil
}

func operate(job wire.Job, g *wire.Guest, device string, result *wire.Result) (err error) {
	me, err := openGuest(job, g, device)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, me.Root.Close()) }()
	if job.Identity {
		result.Identity = identity.Gather(tree{me.Root})
	}
	if job.Files {
		files, size, err := openFiles()
		if err != nil {
			return err
		}
		defer files.Close()
		me.Files, me.FilesSize = files, size
	}
	nameserver := ""
	if job.Network {
		nameserver = nameserverAddress
	}
	ready := &preparation{root: me.Root, nameserver: nameserver}
	defer func() { err = errors.Join(err, ready.end()) }()
	if job.Grow != nil {
		g.Phase("grow the file system")
		if err := grow(job, device, me.Runner, ready); err != nil {
			return err
		}
	}
	for i, o := range job.Operations {
		result.Operation = i
		g.Phase(o.Kind())
		if err := carryOut(me, o.Operation, ready, needsCommands(job)); err != nil {
			return err
		}
	}
	if job.Shell {
		if err := ready.begin(); err != nil {
			return err
		}
		return shell(job, g, sysroot, "PS1=workshop# ")
	}
	return nil
}

// carryOut does one operation. Sysprep empties /tmp and more, and what is mounted
// there for commands must not be in its way: it prepares the guest itself for those
// that it runs.
func carryOut(me *guest.Guest, o op.Operation, ready *preparation, commands bool) error {
	if s, ok := o.(*op.Sysprep); ok {
		if err := ready.end(); err != nil {
			return err
		}
		return sysprep.Apply(context.Background(), me, s)
	}
	if commands {
		if err := ready.begin(); err != nil {
			return err
		}
	}
	return guest.Apply(context.Background(), me, o)
}

// preparation is that of a guest for commands, for as long as it is wanted.
type preparation struct {
	root       *guest.Root
	nameserver string
	restore    func() error // nil while the guest is as on its disk
}

func (p *preparation) begin() (err error) {
	if p.restore == nil {
		p.restore, err = guest.Prepare(p.root, p.nameserver)
	}
	return err
}

func (p *preparation) end() error {
	if p.restore == nil {
		return nil
	}
	restore := p.restore
	p.restore = nil
	return errors.Join(killOthers(), restore())
}

// needsCommands tells whether programs of the guest will be run by others than
// sysprep.
func needsCommands(job wire.Job) bool {
	for _, o := range job.Operations {
		if guest.NeedsCommands(o.Operation) {
			return true
		}
	}
	return job.Shell
}

// openFiles opens the disk that is a tar.
func openFiles() (*os.File, int64, error) {
	device, err := findDisk(wire.FilesDisk)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(device)
	if err != nil {
		return nil, 0, fmt.Errorf("open the disk of files: %w", err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("measure the disk of files: %w", err), f.Close())
	}
	return f, size, nil
}

// powerOff ends the machine. What is not yet written by now is not promised.
func powerOff() error {
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		return fmt.Errorf("power off: %w", err)
	}
	return nil
}
