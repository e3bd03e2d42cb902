package workshop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/gateway"
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
	Job     wire.Job     // Devices, Mounts and Network are filled in, and Redact is completed
	Files   string       // path of a tar for copy; "" for none
	Seed    string       // for Boot: path of a disc that the guest's cloud-init looks for; "" for none
	Scratch string       // directory for what the machine boots
	Timeout time.Duration
	Network *gateway.Rules // what it may reach; nil: nothing, and it has no network device
	Secrets []string       // that are blotted out of all that is told, beside those of the Job, of which alone the guest knows
	Clone   int            // from 1: for Boot, a machine that can be told from those of other numbers, and whose network leads nowhere; 0 for none

	Agent       []byte
	Accelerator machine.Accelerator
	Memory      int // MiB
	CPUs        int

	Terms wire.Terms // of the conversation with the agent
	// Tunnel is for Boot: the machine has a line for package tunnel, which Answer may use.
	Tunnel bool
	// Answer is Terms.Answer for what needs the machine. Nil: Terms has it.
	Answer func(context.Context, *machine.Machine, wire.Ask) wire.Answer

	Keep   string        // directory for a booted machine in which a step has failed; "": it ends
	Screen string        // path for a screenshot of a machine that hangs, which then has a screen; "": none
	End    time.Duration // how long a system may take to power off when its steps are done; 0: no limit but Timeout

	// For a person: the shell's other end. Nil for none.
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
	result, err := s.run(ctx, spec)
	if _, unheard := errors.AsType[wire.UnheardError](err); unheard && !s.Job.Shell {
		// A kernel may stand still in its first moments where the processor is emulated and
		// the host is very busy. Nothing has touched the disk then.
		s.Sink.Emit(event.Event{Kind: event.Notice, Text: err.Error() + "; the machine is started once more"})
		result, err = s.run(ctx, spec)
	}
	if err != nil {
		return result, fmt.Errorf("workshop: %w", err)
	}
	if !result.OK {
		return result, &FailedError{result}
	}
	return result, s.verify(renewed)
}

// BootHello is how long a system may take until it starts the agent. Software emulation
// on a busy host takes minutes for what a processor does in seconds.
const BootHello = 10 * time.Minute

// Boot starts an image by its own boot loader, for a test or for steps; after steps
// the system is shut down by its own init, and everything is on the disk. The agent
// must have been installed in it. Errors are as Run's.
func Boot(ctx context.Context, s Session, firmware machine.Firmware) (wire.Result, error) {
	spec := s.spec()
	spec.Firmware, spec.Screen = firmware, s.Screen != ""
	s.Terms.Hello = cmp.Or(s.Terms.Hello, BootHello)
	if s.Seed != "" {
		spec.Disks = append(spec.Disks, machine.Disk{Path: s.Seed, Format: disk.Raw, ReadOnly: true, Serial: wire.SeedDisk})
	}
	if s.Tunnel {
		spec.Tunnel = wire.TunnelPort
	}
	if s.Clone > 0 {
		spec.Network = &gateway.Rules{Alone: true}
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
	parts, err := Build(system, s.Agent, s.Network != nil)
	return parts, system, renewed, err
}

func (s Session) spec() machine.Spec {
	spec := machine.Spec{
		Accelerator: s.Accelerator, Memory: s.Memory, CPUs: s.CPUs,
		Disks:   []machine.Disk{{Path: s.Disk, Format: disk.QCOW2, Serial: wire.RootDisk, Discard: true}},
		NoFlush: true, // a layer is synced once, when it is committed
		Port:    wire.Port,
		Network: s.Network,
	}
	if s.Job.Shell || s.keeps() {
		spec.Terminal = wire.TerminalPort
	}
	if s.Files != "" {
		spec.Disks = append(spec.Disks, machine.Disk{Path: s.Files, Format: disk.Raw, ReadOnly: true, Serial: wire.FilesDisk})
	}
	return spec
}

// keeps tells whether the machine is of interest when its work has failed.
func (s Session) keeps() bool { return s.Keep != "" && len(s.Job.Steps) > 0 }

// run has the machine's whole life: from its start to its power-off.
func (s Session) run(ctx context.Context, spec machine.Spec) (result wire.Result, err error) {
	var operations []op.Operation
	for _, o := range s.Job.Operations {
		operations = append(operations, o.Operation)
	}
	for _, step := range s.Job.Steps {
		operations = append(operations, step.Operation.Operation)
	}
	s.Job.Redact = slices.Concat(s.Job.Redact, op.Secrets(operations...), mapper.Keys(s.Job.Devices))
	s.Job.Files, s.Job.Network = s.Files != "", s.Network != nil
	// What is in memory would be on the disk.
	s.Job.Stay = s.keeps() && len(s.Job.Redact) == 0
	s.Secrets = slices.Concat(s.Secrets, s.Job.Redact)
	s.Sink = hushed(s.Sink, s.Secrets)
	w := newWitness(s.Sink)
	s.Sink.Emit(event.Event{Kind: event.Phase, Text: "boot"})
	m, err := machine.Start(ctx, spec, w.take)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	result, err = s.converse(ctx, m, w)
	if err != nil && (w.dumped.Load() || len(s.Job.Steps) > 0 || s.Job.Test != nil) {
		err = &BrokenError{Err: err, At: op.Redact(w.at(), s.Secrets), Dumped: w.dumped.Load()}
	}
	if err == nil && !result.OK && s.keeps() {
		if err = s.keep(ctx, m, spec); err != nil { // nothing is kept, but it has failed, too
			err = errors.Join(&FailedError{result}, err)
		}
	}
	return result, err
}

// converse gives the agent its job, and waits for the end of the machine but where it
// is to stay.
func (s Session) converse(ctx context.Context, m *machine.Machine, w *witness) (wire.Result, error) {
	limited := ctx
	if s.Timeout > 0 {
		limit, cancel := context.WithTimeoutCause(ctx, s.Timeout, errTimeout(s.Timeout))
		defer cancel()
		limited = limit
	}
	shown := attach(m.Terminal(), s.Input, s.Output)
	if s.Answer != nil {
		s.Terms.Answer = func(ctx context.Context, a wire.Ask) wire.Answer { return s.Answer(ctx, m, a) }
	}
	s.Terms.Doubts = []<-chan struct{}{m.PortClosed(), m.Panicked()}
	result, err := wire.Run(limited, m.Port(), s.Job, s.Terms, w.take)
	result = s.hush(result)
	if err != nil {
		return result, s.explain(ctx, m, w, err)
	}
	if !result.OK && s.keeps() {
		return result, nil
	}
	// The agent powers off by itself once its result is on the wire.
	if s.End > 0 {
		limit, cancel := context.WithTimeoutCause(ctx, s.End, errNoEnd(s.End))
		defer cancel()
		limited = limit
	}
	select {
	case <-m.Done():
	case <-limited.Done():
		if ctx.Err() == nil {
			return result, s.examine(ctx, m, w, context.Cause(limited))
		}
	}
	err = s.ended(m.Wait(ctx))
	<-shown
	return result, err
}

// attach connects a person with a line. What it returns is closed when the line has
// ended and all of it was shown.
func attach(line net.Conn, input io.Reader, output io.Writer) <-chan struct{} {
	shown := make(chan struct{})
	if line == nil || input == nil {
		close(shown)
		return shown
	}
	go func() {
		defer close(shown)
		// An error says only that the machine or the terminal is gone.
		_, _ = io.Copy(output, line)
	}()
	go func() {
		// It ends with the input, or at its first word after the machine.
		_, _ = io.Copy(line, input)
	}()
	return shown
}

// hushed is a sink that never hears a secret: what a guest says on its console, and
// through an agent that somebody has got hold of, is not blotted out there.
func hushed(sink event.Sink, secrets []string) event.Sink {
	if len(secrets) == 0 {
		return sink
	}
	redact := func(text string) string { return op.Redact(text, secrets) }
	return func(e event.Event) {
		e.Text = redact(e.Text)
		if e.Verdict != nil {
			v := e.Verdict.Rewrite(redact)
			e.Verdict = &v
		}
		sink.Emit(e)
	}
}

// hush is a result that tells no secret, whoever gave it.
func (s Session) hush(r wire.Result) wire.Result {
	redact := func(text string) string { return op.Redact(text, s.Secrets) }
	r.Error, r.State, r.Failed = redact(r.Error), redact(r.State), slices.Clone(r.Failed)
	for i, unit := range r.Failed {
		r.Failed[i] = redact(unit)
	}
	if r.Puppet != nil {
		r.Puppet = r.Puppet.Rewrite(redact)
	}
	return r
}

// ended is a machine's end as an error, without a secret that its console shows, and with
// what a step has to do with it.
func (s Session) ended(err error) error {
	var exit *machine.Exit
	if !errors.As(err, &exit) {
		return err
	}
	exit.Last, exit.Panic = op.Redact(exit.Last, s.Secrets), op.Redact(exit.Panic, s.Secrets)
	if exit.Reason == machine.Reset && len(s.Job.Steps) > 0 {
		return fmt.Errorf("%w: %s", err, leaveToUs)
	}
	return err
}

// leaveToUs says what a step does wrong that ends the machine.
const leaveToUs = "a step may neither shut the system down nor restart it, which herdbook does behind the last one; " +
	"a step with reboot = true begins with a boot of its own"

// explain finds out why the conversation failed: most often since the machine
// had ended.
func (s Session) explain(ctx context.Context, m *machine.Machine, w *witness, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, wire.ErrLost) {
		// The port closes a moment before QEMU ends; an agent that was killed
		// takes the kernel with it.
		select {
		case <-m.Done():
		case <-time.After(10 * time.Second):
		case <-ctx.Done():
		}
	}
	if !isClosed(m.Done()) {
		return s.examine(ctx, m, w, err)
	}
	if ended := m.Wait(ctx); ended != nil {
		return s.ended(ended)
	}
	if len(s.Job.Steps) > 0 {
		return errors.New("the machine powered off before the work was done: " + leaveToUs)
	}
	return errors.New("the machine powered off before the work was done")
}
