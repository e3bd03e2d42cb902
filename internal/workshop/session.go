package workshop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/machine"
	"herdbook/internal/mapper"
	"herdbook/internal/op"
	"herdbook/internal/uuid"
	"herdbook/internal/volume"
	"herdbook/internal/wire"
)

// Session is one run of a machine on one disk.
type Session struct {
	Disk    string       // path of the qcow2 image; it is written to
	Keys    []volume.Key // of its encrypted volumes
	Job     wire.Job     // Devices, Mounts and Redact are filled in
	Files   string       // path of a tar for copy; "" for none
	Scratch string       // directory for what the machine boots
	Timeout time.Duration
	Clone   int // from 1: for Boot, a machine that can be told from those of other numbers, and whose network leads nowhere; 0 for none

	Agent       []byte
	Accelerator machine.Accelerator
	Memory      int // MiB
	CPUs        int

	// For a person: the console's other end. Nil for none.
	Input  io.Reader
	Output io.Writer

	Sink event.Sink
}

// FailedError says that the agent did its work and met a failure.
type FailedError struct {
	Result wire.Result
}

// Error implements error.
func (e *FailedError) Error() string { return e.Result.Error }

// errTimeout is the cause of a session that took too long.
type errTimeout time.Duration

func (e errTimeout) Error() string {
	return fmt.Sprintf("it was not done after %v; give the step a longer timeout if it needs one", time.Duration(e))
}

// commandLine is the kernel's: quiet, since a serial line is slow, and without
// what a machine of one hour's life does not need. A panic restarts the machine,
// which ends it.
const commandLine = "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic mitigations=off nokaslr random.trust_cpu=on " +
	"cryptomgr.notests no_timer_check tsc=reliable nowatchdog rcupdate.rcu_expedited=1 i8042.noaux i8042.nokbd 8250.nr_uarts=1 raid=noautodetect"

// Run works on a quiet disk and returns when everything is on it. An error
// that is a *FailedError came from the work; any other from the machine.
func Run(ctx context.Context, s Session) (wire.Result, error) {
	parts, system, renewed, err := s.parts()
	if err != nil {
		return wire.Result{}, fmt.Errorf("workshop: %w", err)
	}
	s.Job.Devices, s.Job.UUIDs = system.Devices, renewed
	for _, m := range system.Mounts {
		s.Job.Mounts = append(s.Job.Mounts, wire.Mount(m))
	}
	kernel, initrd := filepath.Join(s.Scratch, "vmlinuz"), filepath.Join(s.Scratch, "initrd")
	if err := errors.Join(os.WriteFile(kernel, parts.Kernel, 0o644), os.WriteFile(initrd, parts.Initramfs, 0o644)); err != nil {
		return wire.Result{}, fmt.Errorf("workshop: %w", err)
	}
	spec := s.spec()
	spec.Kernel, spec.Initrd, spec.CommandLine = kernel, initrd, commandLine
	if s.Files != "" {
		s.Job.Files = true
		spec.Disks = append(spec.Disks, machine.Disk{Path: s.Files, Format: disk.Raw, ReadOnly: true, Serial: wire.FilesDisk})
	}
	result, err := s.run(ctx, spec)
	if err != nil {
		return result, fmt.Errorf("workshop: %w", err)
	}
	if !result.OK {
		return result, &FailedError{result}
	}
	return result, s.verify(renewed)
}

// Boot starts an image by its own boot loader. The agent must have been
// installed in it.
func Boot(ctx context.Context, s Session, firmware machine.Firmware) (wire.Result, error) {
	spec := s.spec()
	spec.Firmware = firmware
	if s.Clone > 0 {
		spec.Network, spec.Alone = true, true
		spec.MAC = fmt.Sprintf("52:54:00:68:62:%02x", s.Clone&0xff)
		spec.UUID = fmt.Sprintf("68657264-626f-4f6b-8000-%012x", s.Clone)
	}
	result, err := s.run(ctx, spec)
	if err != nil {
		return result, fmt.Errorf("boot by %s: %w", strings.ToUpper(string(firmware)), err)
	}
	if !result.OK {
		return result, &FailedError{result}
	}
	return result, nil
}

// parts reads the image and makes what the workshop boots, and what names its volumes are
// to have if their own are to be changed.
func (s Session) parts() (Parts, *inspection.System, []uuid.Change, error) {
	image, err := disk.Open(s.Disk, disk.QCOW2)
	if err != nil {
		return Parts{}, nil, nil, err
	}
	defer image.Close()
	system, err := inspection.Disk(image, image.Size(), s.Keys...)
	if err == nil {
		err = system.Quiet()
	}
	if err != nil {
		return Parts{}, nil, nil, err
	}
	renewed, err := s.renewed(system)
	if err != nil {
		return Parts{}, nil, nil, err
	}
	parts, err := Build(system, s.Agent, s.Job.Network)
	return parts, system, renewed, err
}

func (s Session) spec() machine.Spec {
	return machine.Spec{
		Accelerator: s.Accelerator, Memory: s.Memory, CPUs: s.CPUs,
		Disks:   []machine.Disk{{Path: s.Disk, Format: disk.QCOW2, Serial: wire.RootDisk, Discard: true}},
		NoFlush: true, // a layer is synced once, when it is committed
		Port:    wire.Port,
		Network: s.Job.Network,
	}
}

// run has the machine's whole life: from its start to its power-off.
func (s Session) run(ctx context.Context, spec machine.Spec) (result wire.Result, err error) {
	if s.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.Timeout, errTimeout(s.Timeout))
		defer cancel()
	}
	var operations []op.Operation
	for _, o := range s.Job.Operations {
		operations = append(operations, o.Operation)
	}
	s.Job.Redact = append(op.Secrets(operations...), mapper.Keys(s.Job.Devices)...)
	s.Sink.Emit(event.Event{Kind: event.Phase, Text: "boot"})
	m, err := machine.Start(ctx, spec, s.Sink)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	sink := s.Sink
	if s.Input != nil {
		ready := make(chan struct{})
		listens := sync.OnceFunc(func() { close(ready) })
		m.Attach(s.Input, s.Output, ready)
		sink = func(e event.Event) {
			s.Sink.Emit(e)
			if e.Kind == event.Phase && e.Text == wire.ShellPhase {
				listens()
			}
		}
	}
	result, err = wire.Run(ctx, m.Port(), s.Job, wire.Patience{}, sink)
	if err != nil {
		return result, s.explain(ctx, m, err)
	}
	// The agent powers off by itself once its result is on the wire.
	return result, m.Wait(ctx)
}

// explain finds out why the conversation failed: most often since the machine
// had ended.
func (s Session) explain(ctx context.Context, m *machine.Machine, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !errors.Is(err, wire.ErrLost) {
		return err
	}
	// The port closes a moment before QEMU ends; an agent that was killed
	// takes the kernel with it.
	grace, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if ended := m.Wait(grace); ended != nil {
		return ended
	}
	return errors.New("the machine powered off before the work was done")
}
