package workshop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/gateway"
	"herdbook/internal/machine"
	"herdbook/internal/op"
	"herdbook/internal/wire"
)

// Visit is a person's look at an image: a shell in the workshop, or in the image booted
// by its own loader or gone on with where a step has failed; or the console of these.
type Visit struct {
	Backing  string           // path of the qcow2 image; it is not written to
	Kept     string           // directory of what a failed step left of its machine; none there, or "": nothing
	Firmware machine.Firmware // to boot by; "": the workshop, or what was kept
	Console  bool             // the booted machine's own console instead of a shell
	Scratch  string           // directory for what is written, to be removed by the caller
	Agent    []byte

	Accelerator machine.Accelerator
	Memory      int // MiB
	CPUs        int
	Network     *gateway.Rules // what it may reach; nil: nothing

	Input    io.Reader
	Output   io.Writer
	Terminal string // what the person's terminal is (TERM)
	// Window waits until the size of the person's window is another one than this, and
	// returns it: "ROWS COLUMNS". Nil: there is none.
	Window func(ctx context.Context, had string) (string, error)
	Sink   event.Sink
}

// restTime is how long a person waits at most for a system to come to rest.
const restTime = 5 * time.Minute

// Look returns when the person, the guest or ctx ends it.
func Look(ctx context.Context, v Visit) error {
	k, failed, err := readKept(v.Kept)
	if err != nil {
		v.notice(err.Error())
	}
	overlay := filepath.Join(v.Scratch, "overlay.qcow2")
	if err := disk.CreateOverlay(ctx, overlay, v.Backing, disk.QCOW2, 0); err != nil {
		return err
	}
	if failed && KeptWhole(v.Kept) && v.Firmware == "" {
		m, err := k.resume(ctx, v.Kept, overlay, v.Sink)
		if err == nil {
			return errors.Join(v.enter(ctx, m), m.Close())
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		v.notice(fmt.Sprintf("the machine that was kept does not go on, so that its disk is booted anew: %v", err))
	}
	s := v.session(overlay)
	if failed && v.Firmware == "" {
		// What it was in the step, with its network.
		v.Firmware = machine.BIOS
		if k.Machine.Firmware != "" {
			v.Firmware = k.Machine.Firmware
		}
		s.Memory, s.CPUs, s.Network = k.Machine.Memory, k.Machine.CPUs, k.Machine.Network
	}
	switch {
	case v.Firmware == "":
		_, err := Run(ctx, s)
		return err
	case v.Console:
		return v.watch(ctx, s)
	}
	return v.boot(ctx, s)
}

func (v Visit) notice(text string) {
	v.Sink.Emit(event.Event{Kind: event.Notice, Text: text})
}

func (v Visit) session(overlay string) Session {
	return Session{
		Disk: overlay, Scratch: v.Scratch, Agent: v.Agent, Accelerator: v.Accelerator, Memory: v.Memory, CPUs: v.CPUs,
		Input: v.Input, Output: v.Output, Sink: v.Sink, Terms: v.terms(), Network: v.Network,
		Job: wire.Job{Shell: true, Terminal: v.Terminal, Boot: restTime},
	}
}

// terms are those of a conversation with an agent that serves a person.
func (v Visit) terms() wire.Terms {
	return wire.Terms{Answer: func(ctx context.Context, a wire.Ask) wire.Answer {
		if a.What != wire.AskWindow || v.Window == nil {
			return wire.Answer{Error: "there is no window"}
		}
		size, err := v.Window(ctx, a.Text)
		if err != nil {
			return wire.Answer{Error: err.Error()}
		}
		return wire.Answer{Text: size}
	}}
}

// enter visits a machine that goes on where a step has failed.
func (v Visit) enter(ctx context.Context, m *machine.Machine) error {
	if v.Console {
		return v.sit(ctx, m)
	}
	s := v.session("")
	s.Job.Clock = true
	s.Terms.Resumed = true
	_, err := s.converse(ctx, m, newWitness(v.Sink))
	if err != nil {
		return fmt.Errorf("look at the machine that was kept: %w; with --boot its disk is booted anew", err)
	}
	return nil
}

// boot visits the image booted by its own loader, with the agent for the shell.
func (v Visit) boot(ctx context.Context, s Session) error {
	install := s
	install.Job = wire.Job{Operations: []op.Envelope{{Operation: &op.Agent{}}}}
	install.Input, install.Output = nil, nil
	if _, err := Run(ctx, install); err != nil {
		return fmt.Errorf("prepare a shell in the booted image: %w; its own console is there with --console", err)
	}
	_, err := Boot(ctx, s, v.Firmware)
	return err
}

// watch visits the image's own console from power-on.
func (v Visit) watch(ctx context.Context, s Session) error {
	spec := s.spec()
	spec.Firmware = v.Firmware
	v.Sink.Emit(event.Event{Kind: event.Phase, Text: "boot"})
	m, err := machine.Start(ctx, spec, v.notices())
	if err != nil {
		return err
	}
	return errors.Join(v.sit(ctx, m), m.Close())
}

// sit gives the machine's console to the person, until it ends.
func (v Visit) sit(ctx context.Context, m *machine.Machine) error {
	v.Sink.Emit(event.Event{Kind: event.Phase, Text: "console"})
	m.Attach(v.Input, v.Output)
	err := m.Wait(ctx)
	var exit *machine.Exit
	if errors.As(err, &exit) && exit.Reason == machine.Reset {
		return nil // "reboot" is a way to leave, too
	}
	if err != nil {
		return fmt.Errorf("look at the booted image: %w", err)
	}
	return nil
}

// notices are what a person at the guest's own console is told beside it.
func (v Visit) notices() event.Sink {
	return func(e event.Event) {
		if e.Kind == event.Notice {
			v.Sink.Emit(e)
		}
	}
}
